//! The flow tables: the two of a family are one name space, a connection is two entries.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytemuck::Pod;
use lb_common::{Addr4, Addr6, Address, FlowKey, FlowKind, FlowValue, FlowWord, NOBODYS, ServiceStats, maps};
use lb_ebpf::env::FlowTable;
use rustix::time::{ClockId, clock_gettime};

use crate::bpf::map::{Hash, MapError};
use crate::bpf::pin::PinDir;

use super::add;

/// The flow tables of one family.
pub(crate) struct FlowTables<A> {
    main: Hash<FlowKey<A>, FlowValue<A>>,
    lru: Hash<FlowKey<A>, FlowValue<A>>,
}

/// Packets and bytes of the flows that live now, by Service and by (backend, generation).
#[derive(Default)]
pub(crate) struct Living {
    pub(crate) services: HashMap<u32, ServiceStats>,
    pub(crate) backends: HashMap<(u32, u32), ServiceStats>,
    /// How many of them are masqueraded, by protocol number and backend: each has a source port of its own.
    pub(crate) nat: HashMap<(u8, SocketAddr), u64>,
}

impl Living {
    /// Adds one entry of a flow table.
    pub(crate) fn count<A>(&mut self, entry: &FlowValue<A>) {
        let (packets, bytes, none) = (entry.packets, entry.bytes, ServiceStats::default());
        let traffic = match FlowKind::from_number(entry.kind) {
            Some(FlowKind::Forward) => ServiceStats { packets_in: packets, bytes_in: bytes, ..none },
            Some(FlowKind::Reverse) => ServiceStats { packets_out: packets, bytes_out: bytes, ..none },
            Some(FlowKind::Host) | None => return,
        };
        if entry.service == NOBODYS {
            return;
        }
        add(self.services.entry(entry.service).or_default(), &traffic);
        add(self.backends.entry((entry.backend, entry.generation)).or_default(), &traffic);
    }

    /// Adds one entry of a flow table to those that need a source port.
    pub(crate) fn count_nat<A: Address>(&mut self, Forward { key, value, .. }: &Forward<A>) {
        let to = value.tuple;
        if value.kind == FlowKind::Forward as u8 && to.src != key.tuple.src {
            *self.nat.entry((key.proto, SocketAddr::new(to.dst.into(), to.dport.number()))).or_default() += 1;
        }
    }
}

/// The forward entry of a connection, and the table that it was found in.
pub(crate) struct Forward<A> {
    pub(crate) table: FlowTable,
    pub(crate) key: FlowKey<A>,
    pub(crate) value: FlowValue<A>,
}

impl<A: Address> FlowTables<A>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    pub(crate) fn open(pins: &PinDir) -> Result<Self, MapError> {
        let (main, lru) = match A::FAMILY {
            4 => (maps::FLOWS4, maps::FLOWS_LRU4),
            _ => (maps::FLOWS6, maps::FLOWS_LRU6),
        };
        Ok(Self { main: Hash::open(pins, main)?, lru: Hash::open(pins, lru)? })
    }

    /// All entries of both tables that belong to the key they stand under. A preallocated hash recycles its elements at
    /// once, so a copy may be of another key's entry.
    fn entries(&self) -> impl Iterator<Item = Result<Forward<A>, MapError>> {
        let tag = |table| move |entry: Result<_, _>| entry.map(|(key, value)| Forward { table, key, value });
        let main = self.main.entries().map(tag(FlowTable::Main));
        main.chain(self.lru.entries().map(tag(FlowTable::Lru)))
            .filter(|entry| entry.as_ref().map_or(true, |Forward { key, value, .. }| intact(key, value)))
    }

    /// The forward entries: one per connection.
    pub(crate) fn forward(&self) -> impl Iterator<Item = Result<Forward<A>, MapError>> {
        self.entries()
            .filter(|entry| entry.as_ref().map_or(true, |entry| entry.value.kind == FlowKind::Forward as u8))
    }

    /// The other half of the connection; `None` if it is gone.
    pub(crate) fn reverse(&self, forward: &Forward<A>) -> Result<Option<FlowValue<A>>, MapError> {
        let key = forward.value.other_key(forward.key.proto);
        let found = match self.main.get(&key)? {
            Some(value) => Some(value),
            None => self.lru.get(&key)?,
        };
        let id = FlowWord(forward.value.word).id();
        Ok(found.filter(|value| intact(&key, value) && FlowWord(value.word).id() == id))
    }

    fn count(&self, living: &mut Living) -> Result<[u64; 2], MapError> {
        let mut entries = [0; 2];
        for entry in self.entries() {
            let entry = entry?;
            living.count(&entry.value);
            living.count_nat(&entry);
            let [main, lru] = &mut entries;
            match entry.table {
                FlowTable::Main => *main += 1,
                FlowTable::Lru => *lru += 1,
            }
        }
        Ok(entries)
    }
}

fn intact<A: Address>(key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
    value.check == FlowValue::check_of(key, FlowWord(value.word).id())
}

/// How full a flow table is.
pub(crate) struct Fill {
    pub(crate) name: &'static str,
    pub(crate) entries: u64,
    pub(crate) capacity: u32,
}

/// One pass over all flow tables: the traffic of the flows that live now, and how full each table is.
pub(crate) fn read_living(pins: &PinDir) -> Result<(Living, [Fill; 4]), MapError> {
    let (v4, v6) = (FlowTables::<Addr4>::open(pins)?, FlowTables::<Addr6>::open(pins)?);
    let mut living = Living::default();
    let ([main4, lru4], [main6, lru6]) = (v4.count(&mut living)?, v6.count(&mut living)?);
    let fill = |name, entries, capacity| Fill { name, entries, capacity };
    let fills = [
        fill(maps::FLOWS4, main4, v4.main.capacity()),
        fill(maps::FLOWS_LRU4, lru4, v4.lru.capacity()),
        fill(maps::FLOWS6, main6, v6.main.capacity()),
        fill(maps::FLOWS_LRU6, lru6, v6.lru.capacity()),
    ];
    Ok((living, fills))
}

/// The clock of the flow tables: time since boot without suspend, by the coarse clock.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_has_begun_is_no_services() {
        let entry = |service| FlowValue::<Addr4> { service, packets: 3, bytes: 300, ..FlowValue::default() };
        let mut living = Living::default();
        living.count(&entry(NOBODYS));
        assert!(living.services.is_empty() && living.backends.is_empty());
        living.count(&entry(7));
        assert_eq!(living.services[&7].packets_in, 3);
        assert_eq!(living.backends[&(0, 0)].bytes_in, 300);
    }
}
