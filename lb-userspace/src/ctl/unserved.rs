//! Interfaces behind which there are endpoints, and which are neither pods' nor uplinks or overlays: there nobody undoes
//! what was done to packets of clients outside.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::{BackendRecord, BackendWord, Config, InterfaceValue, maps};

use super::view::address;
use crate::bpf::map::{Array, Hash};
use crate::bpf::pin::PinDir;
use crate::bpf::probe;
use crate::net::interface::{Framing, Interface};
use crate::net::route;
use crate::net::watch::{self, Network};

/// Addresses that have all but so many bits in common are taken to be behind one interface: the least that network
/// plugins give to a node at once.
const ALIKE: u32 = 6;

/// What follows, and what to do.
pub(super) const MEANING: &str = "clients outside have no answer from endpoints behind them; name them with --uplinks, \
    --overlays or --pod-interfaces";

/// Such interfaces, with an endpoint that is behind each, as `eth1 (10.244.7.3)`; none if this is another network namespace
/// than the agent's.
pub(super) fn read(pins: &PinDir) -> anyhow::Result<Vec<String>> {
    let config = Array::<Config>::open(pins, maps::CONFIG)?.get(0)?;
    if probe::netns_cookie()? != config.netns_cookie {
        return Ok(Vec::new());
    }
    let known = Hash::<u32, InterfaceValue>::open(pins, maps::INTERFACES)?;
    let known = known.entries().map(|entry| entry.map(|(index, value)| (index, value.flags)));
    let plain = plain(&watch::list_once()?, &known.collect::<Result<_, _>>()?);
    if plain.is_empty() {
        return Ok(Vec::new());
    }
    let ways = route::ways(endpoints(pins)?.into_values())?;
    let mut behind = BTreeMap::new();
    for (endpoint, index) in ways {
        behind.entry(index).or_insert(endpoint);
    }
    let named = |(index, endpoint): (u32, IpAddr)| Some(format!("{} ({endpoint})", plain.get(&index)?));
    Ok(behind.into_iter().filter_map(named).collect())
}

/// The names of the interfaces that the programs could serve and know nothing of; `known`: flags by index.
fn plain(network: &Network, known: &BTreeMap<u32, u32>) -> BTreeMap<u32, String> {
    let loopback = |interface: &Interface| interface.inner && !interface.bridge;
    let unknown = network.interfaces.iter().filter(|(index, interface)| {
        let known = known.contains_key(index) || loopback(interface);
        !known && interface.framing != Framing::Other && interface.master.is_none()
    });
    unknown.map(|(index, interface)| (*index, interface.name.clone())).collect()
}

/// One endpoint of each group that is alike.
fn endpoints(pins: &PinDir) -> anyhow::Result<BTreeMap<u128, IpAddr>> {
    let records = Array::<BackendRecord>::open(pins, maps::BACKENDS_MAP)?;
    let mut endpoints = BTreeMap::new();
    for id in 1..records.len() {
        let record = records.get(id)?;
        if record.family != 0 && BackendWord(record.word).serving() {
            let group = u128::from_be_bytes(record.addr.0) >> ALIKE;
            endpoints.entry(group).or_insert_with(|| address(&record));
        }
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_what_nobody_has_told_the_programs_of() {
        let interface = |name: &str| Interface {
            name: name.to_owned(),
            framing: Framing::Ethernet,
            ..Interface::default()
        };
        let network = Network {
            interfaces: [
                (1, Interface { inner: true, ..interface("lo") }),
                (2, interface("eth0")),
                (3, interface("eth1")),
                (4, Interface { inner: true, bridge: true, ..interface("docker0") }),
                (5, Interface { master: Some(4), ..interface("port") }),
                (6, Interface { framing: Framing::Bare, ..interface("tun0") }),
                (7, Interface { framing: Framing::Other, ..interface("ib0") }),
            ]
            .into(),
            ..Network::default()
        };
        let names: Vec<_> = plain(&network, &[(2, 2)].into()).into_values().collect();
        assert_eq!(names, ["eth1", "docker0", "tun0"]);
    }
}
