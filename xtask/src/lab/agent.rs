//! The agent of a node, as a process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Lab, Machine, binary, wait_for};

/// A running `sluice agent`, or what does its work in its place. Killed on drop unless the run is kept; what it has
/// pinned stays.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    log: PathBuf,
    lab: Arc<Lab>,
}

impl Agent {
    /// Starts the agent of `node` with `flags` besides those that name the node and what it reads, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// With its log, when it ends or is not ready within a minute.
    pub fn start(node: &Machine, flags: &[&str]) -> Result<Self> {
        Self::start_as(&binary(), node, flags)
    }

    /// As [`Agent::start`], of the build whose binary is `program`.
    ///
    /// # Errors
    /// As for [`Agent::start`].
    pub fn start_as(program: &Path, node: &Machine, flags: &[&str]) -> Result<Self> {
        Self::spawn_as(program, node, flags)?.until(|agent| agent.is_ready(node))
    }

    /// Starts the agent and does not wait.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(node: &Machine, flags: &[&str]) -> Result<Self> {
        Self::spawn_as(&binary(), node, flags)
    }

    fn spawn_as(program: &Path, node: &Machine, flags: &[&str]) -> Result<Self> {
        let (flag, source) = node.source();
        let mut agent = node.sluice_as(program, &["agent", "--hostname-override", node.name(), flag]);
        agent.arg(source).arg("--cgroup-root").arg(node.cgroup()).args(flags);
        Self::run(node, "agent", &mut agent)
    }

    /// Starts `command`, which runs on `node`; its log has `name` in its own.
    pub(crate) fn run(node: &Machine, name: &str, command: &mut Command) -> Result<Self> {
        let dir = node.host().lab().dir().join(node.name());
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let number = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?.count();
        let log = dir.join(format!("{name}-{number}.log"));
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        // A kept lab must not hold on to the output of the command that made it.
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        let child = child.with_context(|| format!("start the {name} of {}", node.name()))?;
        Ok(Self { child, log, lab: Arc::clone(node.host().lab()) })
    }

    /// Waits until it `is_ready`.
    ///
    /// # Errors
    /// With its log, when it ends or is not ready within a minute.
    pub(crate) fn until(mut self, mut is_ready: impl FnMut(&Self) -> bool) -> Result<Self> {
        let limit = Duration::from_secs(60);
        let mut ended = None;
        let ready = wait_for(limit, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || is_ready(&self)
        });
        match ended {
            Some(status) => bail!("the agent ended, {status}; its log:\n{}", self.log()),
            None => ready.with_context(|| format!("the agent is not ready; its log:\n{}", self.log()))?,
        }
        Ok(self)
    }

    /// The process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it says by `sluice status` that it has synchronised.
    #[must_use]
    pub fn is_ready(&self, node: &Machine) -> bool {
        node.sluice_json(&["status"])
            .is_ok_and(|status| status["synced"] == true && status["pid"].as_u64() == Some(self.id().into()))
    }

    /// What the agent has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where the agent logs to.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// SIGSTOP: it does nothing until [`Agent::resume`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn pause(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::STOP).context("stop the agent for a while")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resume(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::CONT).context("let the agent go on")
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).context("kill the agent")?;
        Ok(())
    }

    /// SIGTERM, and the exit status.
    ///
    /// # Errors
    /// When the process does not end within half a minute.
    pub fn stop(mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("signal the agent")?;
        self.exit(Duration::from_secs(30))
    }

    /// Waits for the agent to end by itself.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait_for(limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .context("wait for the agent's end")?;
        status.context("the agent's exit status")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.lab.is_kept() {
            // It may have ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
