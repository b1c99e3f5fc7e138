//! Operations as keys, values and words.

use std::mem::offset_of;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytemuck::Pod;
use lb_common::{
    Addr4, Addr6, Address, AddressValue, BackendRecord, BackendStats, BackendWord, ClientOf, FrontendKey,
    FrontendValue, Port, ServiceMeta, ServiceRecord, ServiceStats, Slot, SourceRangeKey, Span,
};

use super::storage::{ArrayTable as _, HashTable as _, Storage};
use super::{Grace, TableError, Tables};
use crate::model::{Family, Range};
use crate::plan::{Capacity, FrontendAddr, Op, Scope, ServiceEntry, SlotEntry, Snapshot, encode_meta};

/// All tables that a plan changes.
pub struct TableSet<S: Storage> {
    /// Names of Service ports.
    pub meta: S::Hash<u32, ServiceMeta>,
    /// Service ports.
    pub services: S::Array<ServiceRecord>,
    /// Their counters.
    pub service_stats: S::Array<ServiceStats>,
    /// Backends.
    pub backends: S::Array<BackendRecord>,
    /// Their counters.
    pub backend_stats: S::Array<BackendStats>,
    /// Bits of addresses.
    pub marks: S::Array<u64>,
    /// The IPv4 tables.
    pub v4: Half<Addr4, S>,
    /// The IPv6 tables.
    pub v6: Half<Addr6, S>,
}

/// The tables of one family.
pub struct Half<A: Address, S: Storage>
where
    FrontendKey<A>: Pod,
    Slot<A>: Pod,
    SourceRangeKey<A>: Pod,
{
    /// Addresses that matter at all.
    pub addresses: S::Hash<A, AddressValue>,
    /// Frontends.
    pub frontends: S::Hash<FrontendKey<A>, FrontendValue>,
    /// Who may use LoadBalancer frontends.
    pub ranges: S::Hash<SourceRangeKey<A>, u32>,
    /// Endpoints in blocks.
    pub slots: S::Array<Slot<A>>,
}

/// Runs `$body` with `$half` being the tables of `$family`.
macro_rules! with_half {
    ($tables:expr, $family:expr, $half:ident => $body:expr) => {
        match $family {
            Family::V4 => {
                let $half = &mut $tables.v4;
                $body
            }
            Family::V6 => {
                let $half = &mut $tables.v6;
                $body
            }
        }
    };
}

impl<S: Storage> Tables for TableSet<S> {
    fn apply(&mut self, op: &Op) -> Result<(), TableError> {
        match op {
            Op::PutMeta { id, key, port } => self.meta.insert(id, &encode_meta(key, *port))?,
            Op::PutBackend { id, service, addr, word } => {
                self.backend_stats.set(*id, &BackendStats::default())?;
                self.backends.set(*id, &backend(*service, addr, *word))?;
            }
            Op::PutSlots { family, offset, slots } => {
                with_half!(self, family, half => half.put_slots(*offset, slots))?;
            }
            Op::PutService { id, spans: [cluster, local], slots: _, flags, cursor } => {
                let (cluster, local, flags, cursor) = (cluster.0, local.0, *flags, *cursor);
                let record = ServiceRecord { cluster, local, flags, cursor, spent: 0 };
                self.service_stats.set(*id, &ServiceStats::default())?;
                self.services.set(*id, &record)?;
            }
            Op::SetSpan { id, scope, span, slots: _ } => {
                let offset = match scope {
                    Scope::Cluster => offset_of!(ServiceRecord, cluster),
                    Scope::Local => offset_of!(ServiceRecord, local),
                };
                self.services.store(*id, offset, span.0)?;
            }
            Op::SetFlags { id, flags } => {
                self.services.store(*id, offset_of!(ServiceRecord, flags), *flags)?;
            }
            Op::PutRange { id, range } => {
                with_half!(self, range.family(), half => half.ranges.insert(&range_key(*id, range)?, &1))?;
            }
            Op::DeleteRange { id, range } => {
                with_half!(self, range.family(), half => half.ranges.delete(&range_key(*id, range)?))?;
            }
            Op::PutFrontend { frontend, value } => {
                with_half!(self, Family::of(&frontend.addr.ip()), half => {
                    half.frontends.insert(&frontend_key(frontend)?, value)
                })?;
            }
            Op::PutAddress { addr, value } => {
                let mark = match addr {
                    IpAddr::V4(addr) => Addr4::from(*addr).mark(),
                    IpAddr::V6(addr) => Addr6::from(*addr).mark(),
                };
                // First: a packet to an address without one is looked up nowhere.
                self.marks.set_bits(mark.word, mark.bits)?;
                with_half!(self, Family::of(addr), half => half.addresses.insert(&address(*addr)?, value))?;
            }
            Op::DeleteAddress { addr } => {
                with_half!(self, Family::of(addr), half => half.addresses.delete(&address(*addr)?))?;
            }
            Op::DeleteFrontend { frontend } => {
                with_half!(self, Family::of(&frontend.addr.ip()), half => {
                    half.frontends.delete(&frontend_key(frontend)?)
                })?;
            }
            Op::ClearService { id } => self.services.set(*id, &ServiceRecord::default())?,
            Op::SetBackend { id, word } => {
                self.backends.store(*id, offset_of!(BackendRecord, word), word.0)?;
            }
            Op::DeleteMeta { id } => self.meta.delete(id)?,
        }
        Ok(())
    }

    fn read(&self) -> Result<Snapshot, TableError> {
        let mut services = Vec::new();
        let mut names = self.meta.entries()?;
        // Arrays are read in their order, the services here and their slots below.
        names.sort_unstable_by_key(|(id, _)| *id);
        for (id, meta) in names {
            services.push(ServiceEntry {
                id,
                meta,
                record: self.services.get(id)?,
                slots: Default::default(),
            });
        }
        services.sort_unstable_by_key(|entry| Span(entry.record.cluster).offset());
        for ServiceEntry { meta, record, slots, .. } in &mut services {
            let run = |span| {
                if meta.family == Family::V4.number() { self.v4.run(span) } else { self.v6.run(span) }
            };
            *slots = [run(Span(record.cluster))?, run(Span(record.local))?];
        }
        let mut backends = Vec::new();
        for id in 0..self.backends.records() {
            let record = self.backends.get(id)?;
            if record != BackendRecord::default() {
                backends.push((id, record));
            }
        }
        Ok(Snapshot {
            capacity: self.capacity(),
            services,
            backends,
            frontends: [self.v4.frontends()?, self.v6.frontends()?].concat(),
            addresses: [self.v4.addresses()?, self.v6.addresses()?].concat(),
            ranges: [self.v4.ranges()?, self.v6.ranges()?].concat(),
        })
    }

    fn grace(&self) -> Grace {
        S::grace()
    }
}

impl<S: Storage> TableSet<S> {
    fn capacity(&self) -> Capacity {
        let Self { meta, services, service_stats, backends, backend_stats, marks: _, v4, v6 } = self;
        Capacity {
            services: meta.capacity().min(services.records()).min(service_stats.records()),
            backends: backends.records().min(backend_stats.records()),
            slots: [v4.slots.records(), v6.slots.records()],
            frontends: [v4.frontends.capacity(), v6.frontends.capacity()],
            addresses: [v4.addresses.capacity(), v6.addresses.capacity()],
            ranges: [v4.ranges.capacity(), v6.ranges.capacity()],
        }
    }
}

impl<A: Address, S: Storage> Half<A, S>
where
    FrontendKey<A>: Pod,
    Slot<A>: Pod,
    SourceRangeKey<A>: Pod,
{
    fn put_slots(&mut self, offset: u32, slots: &[SlotEntry]) -> Result<(), TableError> {
        for (index, entry) in (offset..).zip(slots) {
            let slot = Slot {
                addr: address::<A>(entry.addr.ip())?,
                port: Port::new(entry.addr.port()),
                pad: [0; 2],
                backend: entry.backend,
                generation: entry.generation,
            };
            self.slots.set(index, &slot)?;
        }
        Ok(())
    }

    /// The slots that `span` names; none if it leaves the array.
    fn run(&self, span: Span) -> Result<Arc<[SlotEntry]>, TableError> {
        let entry = |slot: Slot<A>| SlotEntry {
            addr: SocketAddr::new(slot.addr.into(), slot.port.number()),
            backend: slot.backend,
            generation: slot.generation,
        };
        match span.offset().checked_add(span.len()) {
            Some(end) if end <= self.slots.records() => {
                (span.offset()..end).map(|index| Ok(entry(self.slots.get(index)?))).collect()
            }
            _ => Ok(Arc::default()),
        }
    }

    fn frontends(&self) -> Result<Vec<(FrontendAddr, FrontendValue)>, TableError> {
        let entries = self.frontends.entries()?.into_iter().map(|(key, value)| {
            let addr = SocketAddr::new(key.addr.into(), key.port.number());
            (FrontendAddr { addr, proto: key.proto }, value)
        });
        Ok(entries.collect())
    }

    fn addresses(&self) -> Result<Vec<(IpAddr, AddressValue)>, TableError> {
        Ok(self.addresses.entries()?.into_iter().map(|(addr, value)| (addr.into(), value)).collect())
    }

    fn ranges(&self) -> Result<Vec<(u32, Range)>, TableError> {
        let entries = self.ranges.entries()?.into_iter().filter_map(|(key, _)| {
            let ClientOf { service, addr } = key.range;
            Some((service, Range { addr: addr.into(), bits: key.length()? }))
        });
        Ok(entries.collect())
    }
}

fn address<A: Address>(addr: IpAddr) -> Result<A, TableError> {
    A::from_mapped(&mapped(addr)).ok_or(TableError::Address { addr })
}

fn mapped(addr: IpAddr) -> Addr6 {
    match addr {
        IpAddr::V4(addr) => Addr4::from(addr).to_mapped(),
        IpAddr::V6(addr) => addr.into(),
    }
}

fn frontend_key<A: Address>(frontend: &FrontendAddr) -> Result<FrontendKey<A>, TableError> {
    let port = Port::new(frontend.addr.port());
    Ok(FrontendKey::new(address(frontend.addr.ip())?, port, frontend.proto))
}

fn range_key<A: Address>(id: u32, range: &Range) -> Result<SourceRangeKey<A>, TableError> {
    Ok(SourceRangeKey::new(id, address(range.addr)?, range.bits))
}

fn backend(service: u32, addr: &SocketAddr, word: BackendWord) -> BackendRecord {
    BackendRecord {
        word: word.0,
        service,
        family: Family::of(&addr.ip()).number(),
        pad: 0,
        port: Port::new(addr.port()),
        addr: mapped(addr.ip()),
    }
}
