//! The hidden verb `lab-helper`: what runs inside namespaces and control groups, and the reaper.

mod client;
pub mod container;
mod load;
mod reach;
mod server;
pub mod wire;

use std::fs;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use self::client::Sockets;
use self::load::Running;
use self::wire::{Failure, Reply, Request};
use super::{netns, run};

/// What the helper can be started as.
#[derive(Debug, Subcommand)]
pub enum HelperVerb {
    /// Enter a namespace and a control group and become a program.
    Enter {
        /// The namespace's name.
        #[arg(long)]
        netns: String,
        /// The control group's directory.
        #[arg(long)]
        cgroup: PathBuf,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Become the container that standard input describes.
    Container,
    /// Open sockets as told on standard input.
    Serve,
    /// Wait for the end of standard input, then remove a run of the lab.
    Reap {
        /// The run.
        id: u32,
    },
}

impl HelperVerb {
    /// Does what the verb says.
    ///
    /// # Errors
    /// When it cannot.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Enter { netns, cgroup, command } => enter(&netns, &cgroup, &command),
            Self::Container => container::become_container(),
            Self::Serve => serve(),
            Self::Reap { id } => run::reap(id),
        }
    }
}

/// The group comes first: a socket belongs to the group that its process is in when it is opened.
fn enter(netns: &str, cgroup: &std::path::Path, command: &[String]) -> Result<()> {
    let procs = cgroup.join("cgroup.procs");
    fs::write(&procs, std::process::id().to_string())
        .with_context(|| format!("write {}", procs.display()))?;
    netns::join(netns)?;
    let Some((program, args)) = command.split_first() else { bail!("no program named") };
    Err(Command::new(program).args(args).exec()).with_context(|| format!("start {program}"))
}

fn serve() -> Result<()> {
    let mut sockets = Sockets::default();
    let mut load = None;
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let request = serde_json::from_str(&line.context("read a request")?).context("a request")?;
        let reply = answer(request, &mut sockets, &mut load);
        serde_json::to_writer(&mut stdout, &reply)?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
    }
    Ok(())
}

fn answer(request: Request, sockets: &mut Sockets, load: &mut Option<Running>) -> Result<Reply, Failure> {
    match request {
        Request::Serve { transport, port, name } => {
            server::start(transport, port, name).map(|()| Reply::Done)
        }
        Request::Open { socket, from, to } => sockets.open(socket, from, to).map(Reply::Opened),
        Request::Ask { id, to } => sockets.ask(id, to).map(Reply::Answer),
        Request::AskAll(asked) => Ok(Reply::Answers(client::ask_all(&asked))),
        Request::Close { id } => {
            sockets.close(id);
            Ok(Reply::Done)
        }
        Request::Reach(wanted) => reach::reach(&wanted).map(Reply::Reached),
        Request::StartLoad(wanted) => {
            *load = Some(Running::start(&wanted));
            Ok(Reply::Done)
        }
        Request::StopLoad => match load.take() {
            Some(running) => Ok(Reply::Load(running.stop())),
            None => Err(Failure::other("no load was started")),
        },
    }
}
