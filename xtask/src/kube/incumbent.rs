//! The incumbent: kube-proxy, in the mode nftables unless a flag says otherwise, in the place of an agent.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};

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

/// Has the kernel of `machine` forget the connections that it tracks, and with them what kube-proxy has decided for each.
///
/// # Errors
/// When the kernel refuses.
pub fn forget(machine: &Machine) -> Result<()> {
    // IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK; NLM_F_REQUEST and NLM_F_ACK.
    const DELETE: u16 = 0x0102;
    const FLAGS: u16 = 5;
    // Length, kind, flags, number and sender; then no family, and nothing that would choose among the connections.
    let kind = [DELETE.to_ne_bytes(), FLAGS.to_ne_bytes()].concat();
    let request = [&20u32.to_ne_bytes()[..], &kind, &[0; 12]].concat();
    machine.host().within(|| {
        let socket = socket(AddressFamily::NETLINK, SocketType::RAW, Some(NETFILTER))?;
        sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 64];
        recv(&socket, &mut answer, RecvFlags::empty())?;
        // Behind its header of 16 bytes an acknowledgement has the number of an error.
        let [.., a, b, c, d] = *answer.first_chunk::<20>().context("a whole answer")?;
        match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)).context("forget tracked connections"),
        }
    })
}
