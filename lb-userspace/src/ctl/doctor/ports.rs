//! Addresses and ports that the host and the datapath both could want.

use std::net::IpAddr;

use bytemuck::Pod;
use lb_common::{Addr4, Addr6, Address, AddressValue, Config, maps};

use crate::bpf::map::{Array, Hash, MapError};
use crate::bpf::pin::PinDir;
use crate::net::reserved;

use super::super::shadowed;
use super::{Finding, Level};

const CHECK: &str = "ports";

pub(super) fn look(pins: &PinDir) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut held = held::<Addr4>(pins, maps::ADDRESSES4)?;
    held.extend(self::held::<Addr6>(pins, maps::ADDRESSES6)?);
    if !held.is_empty() {
        held.sort_unstable();
        let addresses: Vec<String> = held.iter().map(ToString::to_string).collect();
        let found = format!("interfaces of this node have Service addresses: {}", addresses.join(", "));
        findings.push(
            Finding::new(Level::Note, CHECK, found)
                .follows("all traffic to them is left to the processes of the host that listen there")
                .remedy(
                    "meant for a cache of the node such as NodeLocal DNSCache; else take the address away",
                ),
        );
    }
    let shadowed = shadowed::read(pins)?;
    if !shadowed.is_empty() {
        let found = format!("sockets of the host listen at node ports of Services: {}", shadowed.join(", "));
        findings.push(
            Finding::new(Level::Warning, CHECK, found)
                .follows("what is sent there goes to the Service, whoever it was meant for")
                .remedy("have the process listen at another port, or give the Service another node port; the agent's --refuse-shadowed-binds keeps new ones away"),
        );
    }
    let config = Array::<Config>::open(pins, maps::CONFIG)?.get(0)?;
    let shared = reserved::shared(&reserved::with_node_ports(&config))?;
    findings.push(if shared.is_empty() {
        Finding::new(Level::Ok, CHECK, "ports of translated flows and node ports are kept from the host's own sockets")
    } else {
        let found = format!("sockets of the host may be given ports that translated flows use, or node ports: {shared}");
        Finding::new(Level::Warning, CHECK, found)
            .follows("a socket of the host with the very port of a flow to the same endpoint gets that flow's replies")
            .remedy("start the agent again: it adds them to net.ipv4.ip_local_reserved_ports")
    });
    Ok(findings)
}

fn held<A: Address + Pod>(pins: &PinDir, map: &str) -> Result<Vec<IpAddr>, MapError> {
    let held = |entry: Result<(A, AddressValue), _>| match entry {
        Ok((addr, value)) => value.is_left().then(|| Ok(addr.into())),
        Err(error) => Some(Err(error)),
    };
    Hash::<A, AddressValue>::open(pins, map)?.entries().filter_map(held).collect()
}
