//! Names that make the records of events readable.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bytemuck::Pod;
use lb_common::{Addr4, Addr6, Address, FrontendKey, FrontendValue, ServiceMeta, maps};
use rustix::time::{ClockId, clock_gettime};

use crate::bpf::map::{Hash, MapError};
use crate::bpf::pin::PinDir;
use crate::counts::PortName;
use crate::counts::flows::now;

/// Names that make a record readable.
#[derive(Default)]
pub(super) struct Names {
    ports: HashMap<(IpAddr, u16, u8), PortName>,
    addresses: HashMap<IpAddr, PortName>,
    pub(super) interfaces: HashMap<u32, String>,
    /// When the clock of the records began, as time since 1970.
    pub(super) epoch: Duration,
}

impl Names {
    /// Reads the names of Services.
    pub(super) fn read(pins: &PinDir) -> Result<Self, MapError> {
        let metas = Hash::<u32, ServiceMeta>::open(pins, maps::SERVICE_META)?;
        let metas: HashMap<_, _> = metas.entries().collect::<Result<_, _>>()?;
        let mut names = Self { epoch: epoch(), ..Self::default() };
        names.read_frontends::<Addr4>(pins, maps::FRONTENDS4, &metas)?;
        names.read_frontends::<Addr6>(pins, maps::FRONTENDS6, &metas)?;
        Ok(names)
    }

    fn read_frontends<A: Address>(
        &mut self,
        pins: &PinDir,
        map: &str,
        metas: &HashMap<u32, ServiceMeta>,
    ) -> Result<(), MapError>
    where
        FrontendKey<A>: Pod,
    {
        for entry in Hash::<FrontendKey<A>, FrontendValue>::open(pins, map)?.entries() {
            let (key, value) = entry?;
            if let Some(meta) = metas.get(&value.service) {
                self.add((key.addr.into(), key.port.number(), key.proto), PortName::of(meta));
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
        let exact = self.ports.get(&(address, port, proto)).map(|name| (name, true));
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
