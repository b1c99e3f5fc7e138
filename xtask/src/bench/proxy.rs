//! The two that are compared, as processes with the flags that a DaemonSet would give them.

use std::time::Duration;

use anyhow::{Context, Result};

use super::scene::Scene;
use super::usage::Usage;
use crate::kube::{Tool, incumbent};
use crate::lab::{Agent, Machine, wait_for};
use crate::sh;

/// How long anything may take that a proxy does.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// Who makes Services work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proxy {
    /// This.
    Sluice,
    /// The incumbent, in its nftables mode.
    KubeProxy,
}

impl Proxy {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Sluice, Self::KubeProxy];

    /// Its name, and that of its machine.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::KubeProxy => "kube-proxy",
        }
    }

    /// How long after a change the next one is a lone one again: kube-proxy syncs once a second at most.
    pub(super) const fn pause(self) -> Duration {
        match self {
            Self::Sluice => Duration::from_millis(20),
            Self::KubeProxy => Duration::from_millis(1100),
        }
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(self, scene: &Scene) -> Result<Running<'_>> {
        let machine = scene.machine(self)?;
        let agent = match self {
            Self::Sluice => Agent::spawn(machine, &[])?,
            Self::KubeProxy => incumbent::spawn(machine, scene.binaries(), &[])?,
        };
        let usage = Usage::of(agent.id())?;
        Ok(Running { proxy: self, machine, agent, usage })
    }

    /// Takes away what it has left in the kernel.
    ///
    /// # Errors
    /// When that fails, with what was said.
    pub(super) fn clean(self, scene: &Scene) -> Result<()> {
        let machine = scene.machine(self)?;
        let mut clean = match self {
            Self::Sluice => machine.sluice(&["cleanup"]),
            Self::KubeProxy => {
                let mut clean = machine.host().command(scene.binaries().path(Tool::KubeProxy)?);
                clean.arg("--cleanup");
                clean
            }
        };
        sh::read(&mut clean).map(|_| ())
    }
}

/// A proxy at work.
#[derive(Debug)]
pub(super) struct Running<'a> {
    /// Which it is.
    pub(super) proxy: Proxy,
    machine: &'a Machine,
    agent: Agent,
    /// What it takes.
    pub(super) usage: Usage,
}

impl Running<'_> {
    /// Waits until it says that it has synchronised.
    ///
    /// # Errors
    /// With its log, when it does not.
    pub(super) fn ready(&self) -> Result<()> {
        let ready = wait_for(LIMIT, || match self.proxy {
            Proxy::Sluice => self.agent.is_ready(self.machine),
            Proxy::KubeProxy => incumbent::is_ready(self.machine),
        });
        ready.with_context(|| self.told("is not ready"))
    }

    /// That it did not do something, with the end of its log.
    pub(super) fn told(&self, what: &str) -> String {
        let log = self.agent.log();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        let end = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
        format!("{} {what}; its log ends:\n{end}", self.proxy.name())
    }

    /// Ends it; what it has put into the kernel stays.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) fn stop(self) -> Result<()> {
        self.agent.stop().map(|_| ())
    }
}
