//! The incumbent: kube-proxy, in the mode nftables unless a flag says otherwise, in the place of an agent.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;

use super::{Binaries, Tool};
use crate::lab::{Agent, Machine, http};

/// Where it tells its metrics on its machine.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

/// A time that stays 0 until it has programmed what it found at its start.
const PROGRAMMED: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

/// Settings of connection tracking that a network namespace does not let change.
const FLAGS: [&str; 4] = [
    "--proxy-mode=nftables",
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0s",
    "--conntrack-tcp-timeout-close-wait=0s",
];

/// Starts kube-proxy on `machine`, with `flags` besides those that it needs there and the kubeconfig of the machine's
/// agent, and waits until both families have been programmed. What it has programmed outlives it.
///
/// # Errors
/// With its log, when it ends or is not ready within a minute.
pub fn start(machine: &Machine, binaries: &Binaries, flags: &[&str]) -> Result<Agent> {
    spawn(machine, binaries, flags)?.until(|_| is_ready(machine))
}

/// As [`start`], and does not wait.
///
/// # Errors
/// When the program cannot be started.
pub fn spawn(machine: &Machine, binaries: &Binaries, flags: &[&str]) -> Result<Agent> {
    let (flag, kubeconfig) = machine.source();
    let mut command = machine.host().command(binaries.path(Tool::KubeProxy)?);
    command.args(FLAGS).args(["--hostname-override", machine.name(), flag]).arg(kubeconfig).args(flags);
    Agent::run(machine, "kube-proxy", &mut command)
}

/// Whether both families have been programmed by the kube-proxy that runs on `machine`.
#[must_use]
pub fn is_ready(machine: &Machine) -> bool {
    let Ok((200, metrics)) = machine.host().get(METRICS, "/metrics") else { return false };
    ["IPv4", "IPv6"].iter().all(|family| {
        let name = format!("{PROGRAMMED}{{ip_family=\"{family}\"}}");
        http::sample(&metrics, &name).is_some_and(|time| time > 0.0)
    })
}
