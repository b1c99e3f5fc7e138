//! The processes of a control plane.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, Tool};
use crate::lab::wait_for;

/// A process of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// etcd, which writes to memory and never syncs.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
}

impl Part {
    /// The program that it runs.
    pub(super) const fn tool(self) -> Tool {
        match self {
            Self::Etcd => Tool::Etcd,
            Self::ApiServer => Tool::ApiServer,
            Self::ControllerManager => Tool::ControllerManager,
        }
    }
}

/// Those that run.
#[derive(Debug, Default)]
pub(super) struct Parts(Mutex<BTreeMap<Part, Child>>);

impl Parts {
    /// Starts `part` by `command`; its log is continued.
    pub(super) fn start(&self, part: Part, command: &mut Command, log: &Path) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(log);
        let log = log.with_context(|| format!("open the log of {part:?}"))?;
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = quiet.spawn().with_context(|| format!("start {part:?}"))?;
        self.all().insert(part, child);
        Ok(())
    }

    pub(super) fn signal(&self, part: Part, signal: Signal) -> Result<()> {
        let parts = self.all();
        let child = parts.get(&part).with_context(|| format!("{part:?} does not run"))?;
        kill_process(Pid::from_child(child), signal).with_context(|| format!("signal {part:?}"))
    }

    pub(super) fn kill(&self, part: Part) -> Result<()> {
        let mut child = self.take(part)?;
        child.kill().and_then(|()| child.wait()).with_context(|| format!("kill {part:?}"))?;
        Ok(())
    }

    pub(super) fn stop(&self, part: Part) -> Result<()> {
        self.signal(part, Signal::TERM)?;
        let mut child = self.take(part)?;
        wait_for(PATIENCE, || child.try_wait().is_ok_and(|status| status.is_some()))
            .with_context(|| format!("wait for the end of {part:?}"))
    }

    /// One that has ended by itself.
    pub(super) fn ended(&self) -> Option<(Part, ExitStatus)> {
        self.all().iter_mut().find_map(|(part, child)| Some((*part, child.try_wait().ok()??)))
    }

    /// Ends all; what does not end here ends with its control group.
    pub(super) fn kill_all(&self) {
        for (_, mut child) in std::mem::take(&mut *self.all()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn take(&self, part: Part) -> Result<Child> {
        self.all().remove(&part).with_context(|| format!("{part:?} does not run"))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Part, Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
