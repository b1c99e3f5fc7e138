//! One CPU of a world: the environment as a packet meets it.

use core::cell::Cell;
use core::net::SocketAddr;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering::SeqCst;
use std::boxed::Box;
use std::sync::MutexGuard;

use lb_common::{
    Addr4, Addr6, Address, AddressValue, AffinityKey, AffinityWord, BackendRecord, BackendWord, Config,
    CpuRecord, EventRecord, FlowKey, FlowValue, FragmentKey, FragmentValue, FrontendKey, FrontendValue,
    InterfaceValue, Port, Reason, Scratch, ServiceStats, Slot, SockUdpKey, SockUdpValue, SourceRangeKey,
    SweepReport, Tuple, WayRecord,
};

use super::{Early, ServiceCell, World, at, lock, read};
use crate::env::{BackendRef, Env, FlowTable, Inserted, Note, Sockets, Tables, Traffic};
use crate::route::{Ask, Route};
use crate::sock::SockEnv;
use crate::sweep::{self, Walk};
use crate::testing::affinity::Remembered;
use crate::testing::routes;
use crate::testing::table::{Flow, Words};

/// Accesses to hash tables, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Accesses {
    /// Lookups of a flow, in either table.
    pub flow: u32,
    /// Insertions of a flow entry.
    pub insert: u32,
    /// Removals of a flow entry.
    pub delete: u32,
    /// Lookups of an address.
    pub address: u32,
    /// Lookups of a frontend.
    pub frontend: u32,
    /// Lookups of a client in the source ranges.
    pub range: u32,
    /// Lookups, insertions and removals of a first fragment.
    pub fragment: u32,
    /// Lookups of an interface.
    pub interface: u32,
    /// Lookups of what is remembered of a client, and insertions.
    pub affinity: u32,
}

/// One CPU of a world.
#[derive(Debug)]
pub struct Cpu<'w> {
    pub(super) world: &'w World,
    number: u16,
    pub(super) accesses: Cell<Accesses>,
    pub(super) early: Cell<Option<Early>>,
    pub(super) sent: Cell<Option<u32>>,
}

impl<'w> Cpu<'w> {
    pub(super) fn new(world: &'w World, number: u16) -> Self {
        Self { world, number, accesses: Cell::default(), early: Cell::new(None), sent: Cell::new(None) }
    }

    /// What XDP did with the last packet, if it came by there.
    #[must_use]
    pub fn take_early(&self) -> Option<Early> {
        self.early.take()
    }

    /// The accesses to hash tables since the last call.
    #[must_use]
    pub fn take_accesses(&self) -> Accesses {
        self.accesses.take()
    }

    /// The interface by which the last packet that was routed has left.
    #[must_use]
    pub fn take_sent(&self) -> Option<u32> {
        self.sent.take()
    }

    /// One run of the sweep of family `A`; one at a time.
    #[must_use]
    pub fn sweep<A: Words>(&self) -> SweepReport
    where
        Self: Walk<A>,
    {
        sweep::run(self);
        Walk::<A>::report(self).map(|report| *report).unwrap_or_default()
    }

    fn accessed(&self, count: impl FnOnce(&mut Accesses)) {
        let mut accesses = self.accesses.get();
        count(&mut accesses);
        self.accesses.set(accesses);
    }
}

impl BackendRef for BackendRecord {
    fn word(self) -> BackendWord {
        BackendWord(self.word)
    }

    fn service(self) -> u32 {
        self.service
    }

    fn addr<A: Address>(self) -> A {
        A::unmapped(&self.addr)
    }

    fn port(self) -> Port {
        self.port
    }
}

/// A way that a CPU keeps.
pub struct Kept<'w> {
    world: &'w World,
    at: (u16, u32),
    record: WayRecord,
}

impl Deref for Kept<'_> {
    type Target = WayRecord;

    fn deref(&self) -> &WayRecord {
        &self.record
    }
}

impl DerefMut for Kept<'_> {
    fn deref_mut(&mut self) -> &mut WayRecord {
        &mut self.record
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        lock(&self.world.ways).insert(self.at, self.record);
    }
}

macro_rules! environment {
    ($addr:ty, $family:ident) => {
        impl Env<$addr> for Cpu<'_> {}

        impl<'w> Tables<$addr> for Cpu<'w> {
            type Flow = Flow<'w, $addr>;
            type Service = &'w ServiceCell;
            type Backend = BackendRecord;
            type Affinity = Remembered<'w>;
            type Scratch = Box<Scratch<$addr>>;
            type Way = Kept<'w>;
            type Event = Box<EventRecord>;

            fn now(&self) -> u64 {
                self.world.clock.load(SeqCst)
            }

            fn cpu(&self) -> u16 {
                self.number
            }

            fn with_cpu<R>(&self, f: impl FnOnce(&mut CpuRecord) -> R) -> Option<R> {
                at(&self.world.cpus, self.number.into()).map(|record| f(&mut lock(record)))
            }

            fn scratch(&self) -> Option<Self::Scratch> {
                let mut scratch = Box::<Scratch<$addr>>::default();
                // What the packet before left behind.
                bytemuck::bytes_of_mut(&mut *scratch).fill(0xa5);
                Some(scratch)
            }

            fn config(&self) -> Option<&Config> {
                Some(&self.world.config)
            }

            fn count(&self, reason: Reason) {
                if let Some(cell) = at(&self.world.reasons, reason as u32) {
                    cell.fetch_add(1, SeqCst);
                }
            }

            fn next_event(&self) -> Option<Self::Event> {
                let mut event = Box::<EventRecord>::default();
                // What the record before left there.
                bytemuck::bytes_of_mut(&mut *event).fill(0xa5);
                Some(event)
            }

            fn publish_event(&self, mut event: Self::Event) {
                let mut events = lock(&self.world.events);
                event.sequence = events.len() as u64 + 1;
                events.push(*event);
            }

            fn flow(&self, table: FlowTable, key: &FlowKey<$addr>) -> Option<Self::Flow> {
                self.accessed(|accesses| accesses.flow += 1);
                self.world.$family.table(table).get(key)
            }

            fn insert_flow(
                &self,
                table: FlowTable,
                key: &FlowKey<$addr>,
                value: &FlowValue<$addr>,
            ) -> Inserted {
                self.accessed(|accesses| accesses.insert += 1);
                self.world.$family.table(table).insert(key, value)
            }

            fn delete_flow(&self, table: FlowTable, key: &FlowKey<$addr>) {
                self.accessed(|accesses| accesses.delete += 1);
                self.world.$family.table(table).delete(key);
            }

            fn note(&self, note: Note) -> u64 {
                self.world.schedule.access();
                self.world.$family.notes[note as usize].load(SeqCst)
            }

            fn set_note(&self, note: Note, value: u64) {
                self.world.schedule.access();
                self.world.$family.notes[note as usize].store(value, SeqCst);
            }

            fn exchange_note(&self, note: Note, old: u64, new: u64) -> bool {
                self.world.schedule.access();
                let word = &self.world.$family.notes[note as usize];
                word.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
            }

            fn add_note(&self, note: Note, value: u64) {
                self.world.schedule.access();
                self.world.$family.notes[note as usize].fetch_add(value, SeqCst);
            }

            fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
                self.accessed(|accesses| accesses.fragment += 1);
                lock(&self.world.fragments).get(key).copied()
            }

            fn remember_fragment(&self, key: &FragmentKey, value: &FragmentValue) {
                self.accessed(|accesses| accesses.fragment += 1);
                lock(&self.world.fragments).insert(*key, *value);
            }

            fn forget_fragment(&self, key: &FragmentKey) {
                self.accessed(|accesses| accesses.fragment += 1);
                lock(&self.world.fragments).remove(key);
            }

            fn is_marked(&self, addr: &$addr) -> bool {
                self.world.schedule.access();
                self.world.has(addr.mark())
            }

            fn mark(&self, addr: &$addr) {
                self.world.schedule.access();
                self.world.mark(addr.mark());
            }

            fn address(&self, addr: &$addr) -> Option<AddressValue> {
                self.accessed(|accesses| accesses.address += 1);
                read(&self.world.$family.addresses).get(addr).copied()
            }

            fn frontend(&self, key: &FrontendKey<$addr>) -> Option<FrontendValue> {
                self.accessed(|accesses| accesses.frontend += 1);
                read(&self.world.$family.frontends).get(key).copied()
            }

            fn admits(&self, service: u32, client: &$addr) -> bool {
                self.accessed(|accesses| accesses.range += 1);
                let holds = |range: &SourceRangeKey<$addr>| {
                    let bits = u8::try_from(range.bits - u32::BITS).unwrap_or(u8::MAX);
                    range.range.service == service && range.range.addr.shares(client, bits)
                };
                read(&self.world.$family.ranges).iter().any(holds)
            }

            fn service(&self, id: u32) -> Option<Self::Service> {
                at(&self.world.services, id)
            }

            fn slot(&self, index: u32) -> Option<Slot<$addr>> {
                at(&read(&self.world.$family.slots), index).copied()
            }

            fn backend(&self, id: u32) -> BackendWord {
                at(&self.world.backends, id).map_or(BackendWord(0), |cell| BackendWord(cell.load(SeqCst)))
            }

            fn backend_record(&self, id: u32) -> Option<Self::Backend> {
                let word = at(&self.world.backends, id)?.load(SeqCst);
                let record = at(&read(&self.world.records), id).copied()?;
                Some(BackendRecord { word, ..record })
            }

            fn affinity(&self, key: &AffinityKey) -> Option<Self::Affinity> {
                self.accessed(|accesses| accesses.affinity += 1);
                self.world.affinity.get(key)
            }

            fn insert_affinity(&self, key: &AffinityKey, word: AffinityWord) -> Inserted {
                self.accessed(|accesses| accesses.affinity += 1);
                self.world.affinity.insert(key, word)
            }

            fn opened(&self, service: u32, backend: u32) {
                if let Some(stats) = at(&self.world.service_stats, service) {
                    lock(stats).connections += 1;
                }
                if let Some(stats) = at(&self.world.backend_stats, backend) {
                    lock(stats).traffic.connections += 1;
                }
            }

            fn ended(&self, service: u32, backend: u32, inward: Traffic, outward: Traffic) {
                let fold = |stats: &mut ServiceStats| {
                    stats.packets_in += inward.packets;
                    stats.bytes_in += inward.bytes;
                    stats.packets_out += outward.packets;
                    stats.bytes_out += outward.bytes;
                };
                if let Some(stats) = at(&self.world.service_stats, service) {
                    fold(&mut lock(stats));
                }
                if let Some(stats) = at(&self.world.backend_stats, backend) {
                    fold(&mut lock(stats).traffic);
                }
            }

            fn has_socket(&self, key: &FlowKey<$addr>, sockets: Sockets) -> bool {
                let Tuple { src, dst, sport, dport } = key.tuple;
                let own = SocketAddr::new(dst.into(), dport.number());
                let peer = SocketAddr::new(src.into(), sport.number());
                let anybody = SocketAddr::new(<$addr>::default().into(), 0);
                let has = |peer| read(&self.world.sockets).contains(&(key.proto, own, peer));
                let receiving = sockets == Sockets::Receiving && key.proto == lb_common::Proto::Udp as u8;
                has(peer) || receiving && has(anybody)
            }

            fn interface(&self, index: u32) -> InterfaceValue {
                self.accessed(|accesses| accesses.interface += 1);
                routes::interface(index)
            }

            fn route(&self, _: &FlowKey<$addr>, to: &$addr, ask: Ask) -> Route<$addr> {
                self.world.asked.fetch_add(1, SeqCst);
                let route = routes::route(to, ask);
                let moved = self.world.moved.load(SeqCst) && route.interface == routes::UPLINK;
                if moved { routes::across(route) } else { route }
            }

            fn forward(&self, interface: u32, link: [u32; 3]) -> bool {
                self.sent.set(Some(interface));
                link == bytemuck::cast::<_, [u32; 3]>(routes::link(interface))
            }

            fn way(&self, place: u32) -> Option<Self::Way> {
                let at = (self.number, place);
                let record = lock(&self.world.ways).get(&at).copied().unwrap_or_default();
                Some(Kept { world: self.world, at, record })
            }

            fn send(&self, route: &Route<$addr>) -> bool {
                self.sent.set(Some(route.interface));
                route.bare == (route.interface == routes::TUNNEL)
            }

            fn send_back(&self, interface: u32) {
                self.sent.set(Some(interface));
            }

            fn deliver(&self, interface: u32) -> bool {
                self.sent.set(Some(interface));
                true
            }

            fn port_cursor(&self, backend: u32, step: u64) -> u64 {
                at(&self.world.backend_stats, backend).map_or(0, |stats| {
                    let mut stats = lock(stats);
                    stats.port_cursor += step;
                    stats.port_cursor - step
                })
            }
        }

        impl<'w> Walk<$addr> for Cpu<'w> {
            type Report = MutexGuard<'w, SweepReport>;

            fn clock(&self) -> u64 {
                Tables::<$addr>::now(self)
            }

            fn report(&self) -> Option<Self::Report> {
                Some(lock(&self.world.$family.report))
            }

            fn walk(&self, table: FlowTable) {
                let mut scratch = Tables::<$addr>::scratch(self).unwrap_or_default();
                let mut report = *lock(&self.world.$family.report);
                self.world.$family.table(table).for_each(|key, entry| {
                    sweep::visit(self, table, &key, entry, &mut scratch, &mut report);
                });
                *lock(&self.world.$family.report) = report;
            }
        }

        impl SockEnv<$addr> for Cpu<'_> {
            type SockUdp = Box<SockUdpValue<$addr>>;

            fn sock_udp(&self, key: &SockUdpKey<$addr>) -> Option<Self::SockUdp> {
                lock(&self.world.$family.sock_udp).get(key).copied().map(Box::new)
            }

            fn insert_sock_udp(&self, key: &SockUdpKey<$addr>, value: &SockUdpValue<$addr>) -> bool {
                lock(&self.world.$family.sock_udp).insert(*key, *value);
                true
            }

            fn delete_sock_udp(&self, key: &SockUdpKey<$addr>) {
                lock(&self.world.$family.sock_udp).remove(key);
            }
        }
    };
}

environment!(Addr4, v4);
environment!(Addr6, v6);
