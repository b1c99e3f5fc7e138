//! The node of the fixtures, as a network namespace: its interfaces and routes.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lb_ebpf::testing::routes::{self, GATEWAY, NETS, NODES};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, gettid, move_into_link_name_space, sched_getcpu, sched_setaffinity,
};

/// Moves this thread into a network namespace of its own that is the node, which ends with the thread, and keeps it on the
/// CPU that it is on: what rates allow is each CPU's own.
pub(crate) fn enter() -> Result<()> {
    let mut cpu = CpuSet::new();
    cpu.set(sched_getcpu());
    sched_setaffinity(None, &cpu).context("stay on one CPU")?;
    let name = format!("sluice-fixtures-{}", gettid().as_raw_nonzero());
    ip(&format!("netns add {name}\n"))?;
    let joined = File::open(format!("/run/netns/{name}")).context("open the namespace").and_then(|netns| {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).context("setns")
    });
    // The thread in it keeps it.
    ip(&format!("netns delete {name}\n"))?;
    joined?;
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/default/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{setting}"), "1").with_context(|| format!("set {setting}"))?;
    }
    let mut batch = String::new();
    let mac = |interface| routes::address_of(interface).map(|byte| format!("{byte:02x}")).join(":");
    for index in routes::ALL {
        let own = mac(index);
        writeln!(batch, "link add i{index} index {index} address {own} type veth peer name far{index}")?;
        writeln!(batch, "link set far{index} up\nlink set i{index} up")?;
    }
    for (v6, bits, nodad) in [(false, 24, ""), (true, 64, "nodad")] {
        for net in NETS {
            let index = net.interface;
            if let Some(own) = net.own {
                writeln!(batch, "addr add {}/{bits} dev i{index} {nodad}", net.host(v6, own))?;
                // One neighbour of each is resolved.
                let (to, first) = (mac(u32::from(GATEWAY)), net.host(v6, 7));
                writeln!(batch, "neigh replace {first} lladdr {to} dev i{index} nud permanent")?;
            }
        }
        let own = NODES.own.map(|own| NODES.host(v6, own)).context("the node has an address")?;
        for net in NETS.into_iter().filter(|net| net.own.is_none()) {
            let (index, first, via) = (net.interface, net.host(v6, 0), net.gateway(v6));
            let mtu = net.mtu.map_or(String::new(), |mtu| format!("mtu lock {mtu}"));
            writeln!(batch, "route add {first}/{bits} via {via} dev i{index} onlink src {own} {mtu}")?;
            if net.gateway == GATEWAY {
                let to = mac(u32::from(GATEWAY));
                writeln!(batch, "neigh replace {via} lladdr {to} dev i{index} nud permanent")?;
            }
        }
    }
    ip(&batch)
}

/// Runs `ip -batch` in this thread's namespace.
fn ip(batch: &str) -> Result<()> {
    let mut child =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("start ip")?;
    child.stdin.take().context("ip takes no input")?.write_all(batch.as_bytes())?;
    ensure!(child.wait()?.success(), "ip -batch failed:\n{batch}");
    Ok(())
}
