//! Sockets of the host that listen at a node port of a Service: what is sent there goes to the Service.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use bytemuck::Pod;
use lb_common::{
    Addr4, Addr6, Address, AddressValue, Config, FrontendKey, FrontendKind, FrontendValue, ServiceMeta,
    address_flags, maps,
};

use super::view::proto_text;
use crate::bpf::map::{Array, Hash, MapError};
use crate::bpf::pin::PinDir;
use crate::bpf::probe;
use crate::counts::PortName;
use crate::net::diag::Sockets;

/// Node ports, and the addresses at which they are served.
#[derive(Default)]
struct NodePorts {
    /// Service ids by family, protocol and port.
    ports: BTreeMap<(bool, u8, u16), u32>,
    addresses: HashSet<IpAddr>,
}

impl NodePorts {
    fn read<A: Address + Pod>(
        &mut self,
        pins: &PinDir,
        [frontends, addresses]: [&str; 2],
    ) -> Result<(), MapError>
    where
        FrontendKey<A>: Pod,
    {
        for entry in Hash::<FrontendKey<A>, FrontendValue>::open(pins, frontends)?.entries() {
            let (key, value) = entry?;
            if value.kind == FrontendKind::NodePort as u8 {
                self.ports.insert((A::FAMILY == 4, key.proto, key.port.number()), value.service);
            }
        }
        for entry in Hash::<A, AddressValue>::open(pins, addresses)?.entries() {
            let (addr, value) = entry?;
            if value.flags & address_flags::NODE_PORTS != 0 {
                self.addresses.insert(addr.into());
            }
        }
        Ok(())
    }

    /// The Service port that has what is sent to a socket of protocol `proto` that listens at `at`.
    fn owner(&self, proto: u8, at: SocketAddr) -> Option<u32> {
        let addr = at.ip().to_canonical();
        let of = |v4| self.ports.get(&(v4, proto, at.port())).copied();
        match addr {
            // It may take both families.
            IpAddr::V6(addr) if addr.is_unspecified() => of(false).or_else(|| of(true)),
            _ if addr.is_unspecified() || self.addresses.contains(&addr) => of(addr.is_ipv4()),
            _ => None,
        }
    }
}

/// Such sockets, sorted, as `0.0.0.0:30080/TCP of shop/web`; none if this is another network namespace than the agent's,
/// whose sockets are not seen from here.
pub(super) fn read(pins: &PinDir) -> anyhow::Result<Vec<String>> {
    let config = Array::<Config>::open(pins, maps::CONFIG)?.get(0)?;
    if probe::netns_cookie()? != config.netns_cookie {
        return Ok(Vec::new());
    }
    let mut ports = NodePorts::default();
    ports.read::<Addr4>(pins, [maps::FRONTENDS4, maps::ADDRESSES4])?;
    ports.read::<Addr6>(pins, [maps::FRONTENDS6, maps::ADDRESSES6])?;
    if ports.ports.is_empty() {
        return Ok(Vec::new());
    }
    let names = Hash::<u32, ServiceMeta>::open(pins, maps::SERVICE_META)?;
    let mut found = Vec::new();
    for (proto, at) in Sockets::open()?.listening()? {
        let Some(id) = ports.owner(proto, at) else { continue };
        let Some(meta) = names.get(&id)? else { continue };
        let PortName { namespace, name, .. } = PortName::of(&meta);
        found.push(format!("{at}/{} of {namespace}/{name}", proto_text(proto)));
    }
    found.sort_unstable();
    // Several sockets may share a port.
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_at_an_address_with_node_ports_is_shadowed() {
        let ports = NodePorts {
            ports: [((true, 6, 30_080), 1), ((false, 17, 30_053), 2)].into(),
            addresses: ["172.18.0.2", "fd00::2"].map(|addr| addr.parse().unwrap()).into(),
        };
        for (proto, at, expected) in [
            (6, "0.0.0.0:30080", Some(1)),
            (6, "[::]:30080", Some(1)),
            (6, "172.18.0.2:30080", Some(1)),
            (6, "[::ffff:172.18.0.2]:30080", Some(1)),
            (6, "127.0.0.1:30080", None),
            (17, "0.0.0.0:30080", None),
            (6, "0.0.0.0:30081", None),
            (17, "[fd00::2]:30053", Some(2)),
            (17, "0.0.0.0:30053", None),
        ] {
            assert_eq!(ports.owner(proto, at.parse().unwrap()), expected, "{proto} {at}");
        }
    }
}
