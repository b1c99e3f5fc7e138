//! Names that make the records of events readable.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytemuck::Pod;
use lb_common::{
    Addr4, Addr6, Address, AddressValue, BackendRecord, FrontendKey, FrontendValue, ServiceMeta,
    address_flags, maps,
};
use rustix::time::{ClockId, clock_gettime};

use super::view::address;
use crate::bpf::map::{Array, Hash, MapError};
use crate::bpf::pin::PinDir;
use crate::counts::PortName;
use crate::counts::flows::now;

/// Names that make a record readable.
#[derive(Default)]
pub(super) struct Names {
    ports: HashMap<(IpAddr, u16, u8), PortName>,
    addresses: HashMap<IpAddr, PortName>,
    /// Addresses at which node ports are served; those stand under the unspecified address.
    node: HashSet<IpAddr>,
    pub(super) interfaces: HashMap<u32, String>,
    /// Endpoints, by the ids that records name.
    pub(super) backends: HashMap<u32, SocketAddr>,
    /// When the clock of the records began, as time since 1970.
    pub(super) epoch: Duration,
}

impl Names {
    /// Reads the names of Services.
    pub(super) fn read(pins: &PinDir) -> Result<Self, MapError> {
        let metas = Hash::<u32, ServiceMeta>::open(pins, maps::SERVICE_META)?;
        let metas: HashMap<_, _> = metas.entries().collect::<Result<_, _>>()?;
        let mut names = Self { epoch: epoch(), ..Self::default() };
        names.read_frontends::<Addr4>(pins, [maps::FRONTENDS4, maps::ADDRESSES4], &metas)?;
        names.read_frontends::<Addr6>(pins, [maps::FRONTENDS6, maps::ADDRESSES6], &metas)?;
        Ok(names)
    }

    fn read_frontends<A: Address + Pod>(
        &mut self,
        pins: &PinDir,
        [frontends, addresses]: [&str; 2],
        metas: &HashMap<u32, ServiceMeta>,
    ) -> Result<(), MapError>
    where
        FrontendKey<A>: Pod,
    {
        for entry in Hash::<FrontendKey<A>, FrontendValue>::open(pins, frontends)?.entries() {
            let (key, value) = entry?;
            if let Some(meta) = metas.get(&value.service) {
                self.add((key.addr.into(), key.port.number(), key.proto), PortName::of(meta));
            }
        }
        for entry in Hash::<A, AddressValue>::open(pins, addresses)?.entries() {
            let (addr, value) = entry?;
            if value.flags & address_flags::NODE_PORTS != 0 {
                self.node.insert(addr.into());
            }
        }
        Ok(())
    }

    /// Reads the endpoints with these ids.
    pub(super) fn read_backends(
        &mut self,
        pins: &PinDir,
        ids: impl Iterator<Item = u32>,
    ) -> Result<(), MapError> {
        let records = Array::<BackendRecord>::open(pins, maps::BACKENDS_MAP)?;
        for id in ids.filter(|id| *id < records.len()) {
            let record = records.get(id)?;
            if record.family != 0 {
                self.backends.insert(id, SocketAddr::new(address(&record), record.port.number()));
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, frontend: (IpAddr, u16, u8), name: PortName) {
        self.addresses.entry(frontend.0).or_insert_with(|| name.clone());
        self.ports.insert(frontend, name);
    }

    /// The Service port at this address, or any port of the Service that has the address.
    pub(super) fn service(&self, address: IpAddr, port: u16, proto: u8) -> Option<(&PortName, bool)> {
        let at = |address| self.ports.get(&(address, port, proto));
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let of_node = || at(any).filter(|_| self.node.contains(&address));
        let exact = at(address).or_else(of_node).map(|name| (name, true));
        exact.or_else(|| self.addresses.get(&address).map(|name| (name, false)))
    }
}

/// Both clocks move with the same tick, so the difference stays the same.
fn epoch() -> Duration {
    let real = clock_gettime(ClockId::RealtimeCoarse);
    let real = Duration::new(
        u64::try_from(real.tv_sec).unwrap_or_default(),
        u32::try_from(real.tv_nsec).unwrap_or_default(),
    );
    real.saturating_sub(now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ports_have_names_at_addresses_of_the_node_alone() {
        let mut names = Names::default();
        let name = |name: &str| PortName {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            port_name: String::new(),
            port: 80,
            proto: 6,
            family: 4,
        };
        names.add(("0.0.0.0".parse().unwrap(), 30_080, 6), name("web"));
        names.add(("10.96.0.1".parse().unwrap(), 80, 6), name("other"));
        names.node.insert("192.0.2.3".parse().unwrap());
        let named = |addr: &str, port| {
            names.service(addr.parse().unwrap(), port, 6).map(|(name, exact)| (name.name.as_str(), exact))
        };
        assert_eq!(named("192.0.2.3", 30_080), Some(("web", true)));
        assert_eq!((named("192.0.2.3", 80), named("192.0.2.4", 30_080)), (None, None));
        assert_eq!(named("10.96.0.1", 30_080), Some(("other", false)));
    }
}
