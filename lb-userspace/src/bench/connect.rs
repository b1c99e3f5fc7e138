//! `connect()` with and without the socket hook, to where no route leads: nothing is sent, and the socket stays as it was.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, connect, socket};

use super::datapath::PORT;
use super::frame::nth;
use super::node::Plan;
use super::{WHERE, space};
use crate::bpf::load::Datapath;
use crate::bpf::probe;
use crate::bpf::space::Space;

/// How names of the cgroups of benches begin; the process id follows.
const GROUPS: &str = "sluice-bench-";
/// From one Service to the next that is called; as a prime it meets all of them.
const STRIDE: u32 = 7919;

/// Who calls, in a cgroup and a network namespace of his own.
#[derive(Debug)]
pub(super) struct Caller {
    group: Group,
    space: Space,
    /// The socket that is used again and again.
    socket: OwnedFd,
}

impl Caller {
    /// One who stays without hooks and one who is to have some, who call addresses of `plan`.
    ///
    /// # Errors
    /// There is no cgroup v2 tree to make cgroups in; the kernel refused.
    pub(super) fn both(plan: &Plan) -> Result<[Self; 2]> {
        let root = probe::cgroup_root(None)?;
        tidy(&root);
        let caller = |name: &str| {
            let group = Group::new(&root, name)?;
            let space = space()?;
            let inside = group.enter()?;
            let socket = space.run(|| open(plan))?;
            drop(inside);
            Ok::<_, anyhow::Error>(Self { group, space, socket })
        };
        Ok([caller("plain")?, caller("hooked")?])
    }

    /// Gives him the socket hooks of `datapath`.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn hook(&self, datapath: &Datapath) -> Result<()> {
        Ok(datapath.attach_cgroup(&self.group.dir, false)?)
    }

    /// Nanoseconds of each of so many calls, to one Service of `plan` after the other; each with a new socket if `anew`.
    ///
    /// # Errors
    /// The kernel refused something else than a route.
    pub(super) fn time(&self, calls: u32, plan: &Plan, services: u32, anew: bool) -> Result<f64> {
        let _inside = self.group.enter()?;
        let spent = self.space.run(|| {
            let begun = Instant::now();
            for number in 0..calls {
                let to = nth(plan.services, number.wrapping_mul(STRIDE) % services);
                if anew { call(&open(plan)?, to)? } else { call(&self.socket, to)? }
            }
            Ok::<_, anyhow::Error>(begun.elapsed())
        })?;
        Ok(spent.as_nanos() as f64 / f64::from(calls))
    }
}

fn open(plan: &Plan) -> Result<OwnedFd> {
    let family = if plan.node.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket(family, SocketType::STREAM, None).context("socket")
}

fn call(socket: &OwnedFd, to: IpAddr) -> Result<()> {
    let result = connect(socket, &SocketAddr::new(to, PORT));
    // The latter of IPv6, which looks for a source address first.
    let unreached = matches!(result, Err(Errno::NETUNREACH | Errno::ADDRNOTAVAIL));
    ensure!(unreached, "connect() to where no route leads: {result:?}");
    Ok(())
}

/// A cgroup that goes with this value.
#[derive(Debug)]
struct Group {
    dir: PathBuf,
    /// Where this process was before.
    home: PathBuf,
}

impl Group {
    fn new(root: &Path, name: &str) -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let dir = root.join(format!("{GROUPS}{}-{name}", process::id()));
        fs::create_dir(&dir).with_context(|| format!("make the cgroup {}: {WHERE}", dir.display()))?;
        Ok(Self { dir, home: root.join(own) })
    }

    /// Moves this process into it, for as long as the value lives: what matters is where a socket is made.
    fn enter(&self) -> Result<Inside<'_>> {
        move_to(&self.dir).with_context(|| format!("enter the cgroup {}", self.dir.display()))?;
        Ok(Inside(self))
    }
}

struct Inside<'g>(&'g Group);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let _ = move_to(&self.0.home);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

fn move_to(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.procs"), process::id().to_string())
}

/// Takes away the cgroups of benches that were killed.
fn tidy(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(GROUPS)) else { continue };
        let of = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(of).exists() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}
