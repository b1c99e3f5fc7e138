//! A place to run things in: a network namespace, a control group and a helper process inside both.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::conn::Conn;
use super::helper::wire::{
    Answer, Failure, Load, LoadReport, Reach, Reached, Reply, Request, Socket, Transport,
};
use super::netns::{ip, set_sysctls, within};
use super::{Lab, cgroup};
use crate::sh;

/// Settings of every namespace: nothing waits for duplicate address detection, no reverse path filter stands between
/// a reply and its client, and no ICMP error is withheld.
const SYSCTLS: [(&str, &str); 8] = [
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
];

/// Source ports of sockets that ask once: neither node ports nor any that flows are masqueraded with, which a
/// socket of the node that binds one by number would share.
const SOURCES: std::ops::Range<u16> = 33_000..61_000;

/// How far from one another spaces begin to use them: several may be in one namespace.
const APART: u32 = 1409;
static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace and a control group, with a helper process that opens sockets there. Removed on drop.
#[derive(Debug)]
pub struct Space {
    lab: Arc<Lab>,
    netns: String,
    /// Whether the namespace ends with this.
    owner: bool,
    cgroup: PathBuf,
    helper: Mutex<Helper>,
    /// Which of [`SOURCES`] the next socket that asks once has, counted on. Where the count wraps some come round too early,
    /// so it is wide.
    asked: AtomicU32,
}

#[derive(Debug)]
struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Space {
    /// Makes the namespace called `name` and the group `cgroup`, and starts the helper in them.
    ///
    /// # Errors
    /// When the name is taken in this run, or a command fails.
    pub fn new(lab: &Arc<Lab>, name: &str, cgroup: &Path) -> Result<Self> {
        let netns = lab.netns(name);
        sh::read(Command::new("ip").args(["netns", "add", &netns]))?;
        let made = set_sysctls(&netns, &SYSCTLS)
            .and_then(|()| ip(&netns, "link set lo up\n"))
            .and_then(|()| Self::fill(lab, netns.clone(), true, cgroup));
        if made.is_err() {
            let _ = sh::read(Command::new("ip").args(["netns", "delete", &netns]));
        }
        made
    }

    /// Another control group and helper in the namespace of this: what a pod of the host's network has.
    ///
    /// # Errors
    /// When a command fails.
    pub fn beside(&self, cgroup: &Path) -> Result<Self> {
        Self::fill(&self.lab, self.netns.clone(), false, cgroup)
    }

    fn fill(lab: &Arc<Lab>, netns: String, owner: bool, cgroup: &Path) -> Result<Self> {
        cgroup::create(cgroup)?;
        let mut child = enter(lab, &netns, cgroup)
            .args(["/proc/self/exe", "lab-helper", "serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the helper")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the helper has no pipes");
        };
        let helper = Mutex::new(Helper { child, stdin, stdout: BufReader::new(stdout) });
        Ok(Self {
            lab: Arc::clone(lab),
            netns,
            owner,
            cgroup: cgroup.to_path_buf(),
            helper,
            asked: AtomicU32::new(MADE.fetch_add(APART, Ordering::Relaxed)),
        })
    }

    /// The run that this belongs to.
    #[must_use]
    pub fn lab(&self) -> &Arc<Lab> {
        &self.lab
    }

    /// The namespace's name, as `ip netns` lists it.
    #[must_use]
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// The control group.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A command that runs `program` here.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = enter(&self.lab, &self.netns, &self.cgroup);
        command.arg(program);
        command
    }

    /// Makes the namespace forward packets of both families.
    pub(super) fn forward(&self) -> Result<()> {
        self.set(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])
    }

    /// Writes settings of the namespace, named below `/proc/sys/net`.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
        set_sysctls(&self.netns, settings)
    }

    /// Runs `ip` with these lines of a batch on the namespace.
    ///
    /// # Errors
    /// With the output of `ip` when a line fails.
    pub fn ip(&self, batch: &str) -> Result<()> {
        ip(&self.netns, batch)
    }

    /// Runs `work` on a thread of its own in the namespace.
    ///
    /// # Errors
    /// The work's own, and when the namespace is gone.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        within(&self.netns, work)
    }

    /// Starts a server in the background that answers with `name` and the client that it sees, on both families:
    /// TCP one answer a line or one HTTP request a connection, UDP one answer a datagram.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve(&self, transport: Transport, port: u16, name: &str) -> Result<()> {
        let name = name.to_owned();
        match self.call(&Request::Serve { transport, port, name })? {
            Ok(_) => Ok(()),
            Err(failure) => bail!("serve {transport:?} port {port}: {failure}"),
        }
    }

    /// Opens a socket, connected to `to` where that is given.
    ///
    /// # Errors
    /// How the socket call failed, and after how long.
    pub fn open(&self, socket: Socket, to: Option<SocketAddr>) -> Result<Conn<'_>, Failure> {
        self.open_from(socket, None, to)
    }

    /// As [`Space::open`], bound to `from` first.
    ///
    /// # Errors
    /// How the socket call failed, and after how long.
    pub fn open_from(
        &self,
        socket: Socket,
        from: Option<SocketAddr>,
        to: Option<SocketAddr>,
    ) -> Result<Conn<'_>, Failure> {
        match self.must(&Request::Open { socket, from, to })? {
            Reply::Opened(opened) => Ok(Conn::new(self, opened)),
            other => Err(Failure::protocol(&other)),
        }
    }

    /// Opens a connected socket, asks once and closes: which backend answered, and the client that it saw.
    ///
    /// A datagram has a source port of its own: one that the kernel had chosen before would meet its old flow, and with
    /// it a backend that is no longer chosen (B97).
    ///
    /// # Errors
    /// How it failed, and after how long.
    pub fn ask(&self, socket: Socket, to: SocketAddr) -> Result<Answer, Failure> {
        let from = (socket == Socket::Udp).then(|| self.source(to));
        self.open_from(socket, from, Some(to))?.ask()
    }

    /// As [`Space::ask`], by one socket for each of `asked`, many at once. Connections have source ports of their own, too:
    /// by chance one of so many would meet the flow of another that goes on beside it.
    ///
    /// # Errors
    /// When the helper is gone.
    pub fn ask_all(&self, asked: &[(Socket, SocketAddr)]) -> Result<Vec<Result<Answer, Failure>>, Failure> {
        let asked = asked.iter().map(|(socket, to)| (*socket, self.source(*to), *to)).collect();
        match self.must(&Request::AskAll(asked))? {
            Reply::Answers(answers) => Ok(answers),
            other => Err(Failure::protocol(&other)),
        }
    }

    /// The source of a socket that asks once.
    fn source(&self, to: SocketAddr) -> SocketAddr {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let index = asked % u32::from(SOURCES.end - SOURCES.start);
        any(to, SOURCES.start + u16::try_from(index).unwrap_or_default())
    }

    /// Asks `to` by UDP from one unconnected socket, every 20 ms until it is `over`: the answers. `port`: its source
    /// port, or 0 for any.
    ///
    /// # Errors
    /// The first datagram without an answer, or whose answer comes from somebody else.
    pub fn ask_until(&self, port: u16, to: SocketAddr, over: &AtomicBool) -> Result<Vec<Answer>> {
        let socket = self.open_from(Socket::Udp, Some(any(to, port)), None)?;
        let mut answers = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let number = answers.len() + 1;
            let answer = socket.ask_to(to).with_context(|| format!("datagram {number} to {to}"))?;
            ensure!(answer.from == Some(to), "asked {to}, answered by {:?}", answer.from);
            answers.push(answer);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(answers)
    }

    /// Tries new connections until each address has answered. Nothing else is asked here meanwhile.
    ///
    /// # Errors
    /// The address that has not answered within the limit, and what its last connection came to.
    pub fn reach(&self, wanted: Reach) -> Result<Reached, Failure> {
        match self.must(&Request::Reach(wanted))? {
            Reply::Reached(reached) => Ok(reached),
            other => Err(Failure::protocol(&other)),
        }
    }

    /// Starts HTTP requests in the background, each by a connection of its own.
    ///
    /// # Errors
    /// When the helper is gone.
    pub fn start_load(&self, load: Load) -> Result<(), Failure> {
        self.must(&Request::StartLoad(load)).map(|_| ())
    }

    /// Ends the requests started last and says how they went.
    ///
    /// # Errors
    /// When none were started.
    pub fn stop_load(&self) -> Result<LoadReport, Failure> {
        match self.must(&Request::StopLoad)? {
            Reply::Load(report) => Ok(report),
            other => Err(Failure::protocol(&other)),
        }
    }

    pub(super) fn must(&self, request: &Request) -> Result<Reply, Failure> {
        self.call(request).unwrap_or_else(|error| Err(Failure::other(&format!("{error:#}"))))
    }

    pub(super) fn call(&self, request: &Request) -> Result<Result<Reply, Failure>> {
        let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        helper.stdin.write_all(line.as_bytes()).context("write to the helper")?;
        line.clear();
        helper.stdout.read_line(&mut line).context("read from the helper")?;
        serde_json::from_str(&line).with_context(|| format!("the helper of {} said {line:?}", self.netns))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let helper = self.helper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.lab.is_kept() {
            return;
        }
        // Failures here leave things for the reaper, which removes the whole run.
        let _ = cgroup::remove(&self.cgroup);
        let _ = helper.child.wait();
        if self.owner {
            let _ = sh::read(Command::new("ip").args(["netns", "delete", &self.netns]));
        }
    }
}

/// `port` at any address of the family of `to`.
fn any(to: SocketAddr, port: u16) -> SocketAddr {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, port)
}

/// The helper's command line that enters a namespace and a group and becomes the program named after it. Unlike
/// `ip netns exec` this leaves /sys, and with it bpffs and the control groups, as they are.
fn enter(lab: &Lab, netns: &str, cgroup: &Path) -> Command {
    let mut command = lab.helper();
    // Ctrl-C is for the run; what it runs in here ends with its control group.
    command.process_group(0);
    command.arg("enter").arg("--netns").arg(netns).arg("--cgroup").arg(cgroup).arg("--");
    command
}
