//! The datapath's environment in shared memory: any number of threads, each on a CPU of its own.

mod cpu;
mod uplinks;

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::vec::Vec;

use lb_common::{
    Addr4, Addr6, Address, AddressValue, AffinityKey, AffinityWord, BackendRecord, BackendStats, Config,
    CpuRecord, EventRecord, FlowKey, FlowValue, FragmentKey, FragmentValue, FrontendKey, FrontendValue, Mark,
    Proto, Reason, ServiceStats, Slot, SockUdpKey, SockUdpValue, SourceRangeKey, Span, StateRecord,
    SweepReport, WayRecord,
};

pub use cpu::{Accesses, Cpu};
pub use uplinks::{Early, Uplinks};

use super::affinity::Affinity;
use super::schedule::Schedule;
use super::table::{Table, Words};
use super::tables::Tables;
use crate::env::{FlowTable, Note, ServiceRef};

/// Service ports and backends that a world has room for.
const CAPACITY: usize = 64;

/// The flow tables of one family, and what user space programs for it.
#[derive(Debug)]
struct Family<A: Address> {
    main: Table<A>,
    lru: Table<A>,
    /// By [`Note`].
    notes: [AtomicU64; 5],
    report: Mutex<SweepReport>,
    addresses: RwLock<BTreeMap<A, AddressValue>>,
    frontends: RwLock<BTreeMap<FrontendKey<A>, FrontendValue>>,
    ranges: RwLock<BTreeSet<SourceRangeKey<A>>>,
    slots: RwLock<Vec<Slot<A>>>,
    sock_udp: Mutex<HashMap<SockUdpKey<A>, SockUdpValue<A>>>,
}

impl<A: Words> Family<A> {
    fn new(sizes: Sizes, schedule: &Schedule) -> Self {
        Self {
            main: Table::new(sizes.main, false, schedule.clone()),
            lru: Table::new(sizes.lru, true, schedule.clone()),
            notes: Default::default(),
            report: Mutex::default(),
            addresses: RwLock::default(),
            frontends: RwLock::default(),
            ranges: RwLock::default(),
            slots: RwLock::default(),
            sock_udp: Mutex::default(),
        }
    }

    fn note(&self, note: Note) -> u64 {
        self.notes[note as usize].load(SeqCst)
    }

    const fn table(&self, table: FlowTable) -> &Table<A> {
        match table {
            FlowTable::Main => &self.main,
            FlowTable::Lru => &self.lru,
        }
    }
}

/// One Service port in place.
#[derive(Debug, Default)]
pub struct ServiceCell {
    cluster: AtomicU64,
    local: AtomicU64,
    flags: AtomicU64,
    cursor: AtomicU64,
    spent: AtomicU64,
}

impl ServiceRef for &ServiceCell {
    fn cluster(self) -> Span {
        Span(self.cluster.load(SeqCst))
    }

    fn local(self) -> Span {
        Span(self.local.load(SeqCst))
    }

    fn flags(self) -> u64 {
        self.flags.load(SeqCst)
    }

    fn advance(self) -> u64 {
        self.cursor.fetch_add(1, SeqCst)
    }

    fn spent(self) -> u64 {
        self.spent.load(SeqCst)
    }

    fn spend(self, old: u64, new: u64) -> bool {
        self.spent.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }
}

/// Entries that the two flow tables of a family hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// The table that never evicts.
    pub main: usize,
    /// The table beside it.
    pub lru: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { main: 256, lru: 64 }
    }
}

/// Counters as they stand, zeros left out; the difference of two is what happened in between.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// By reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// By service id.
    pub services: BTreeMap<u32, ServiceStats>,
    /// By backend id.
    pub backends: BTreeMap<u32, ServiceStats>,
}

/// Everything that the datapath's environment consists of.
#[derive(Debug)]
pub struct World {
    v4: Family<Addr4>,
    v6: Family<Addr6>,
    services: Vec<ServiceCell>,
    backends: Vec<AtomicU64>,
    fragments: Mutex<HashMap<FragmentKey, FragmentValue>>,
    /// What else is known of them.
    records: RwLock<Vec<BackendRecord>>,
    affinity: Affinity,
    /// Connected sockets of the host: protocol, own end, other end.
    sockets: RwLock<BTreeSet<(u8, SocketAddr, SocketAddr)>>,
    service_stats: Vec<Mutex<ServiceStats>>,
    backend_stats: Vec<Mutex<BackendStats>>,
    reasons: Vec<AtomicU64>,
    cpus: Vec<Mutex<CpuRecord>>,
    /// By CPU and place.
    ways: Mutex<HashMap<(u16, u32), WayRecord>>,
    /// How often somebody asked for a route.
    asked: AtomicU64,
    /// Whether what led to the uplink leads to the other one.
    moved: AtomicBool,
    events: Mutex<Vec<EventRecord>>,
    clock: AtomicU64,
    config: Config,
    uplinks: Uplinks,
    marks: Mutex<BTreeMap<u32, u64>>,
    schedule: Schedule,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cells<T: Default>(len: usize) -> Vec<T> {
    core::iter::repeat_with(T::default).take(len).collect()
}

impl World {
    /// A world of 8 CPUs with empty tables of these sizes, at an hour after boot.
    #[must_use]
    pub fn new(config: Config, sizes: Sizes, schedule: &Schedule) -> Self {
        Self {
            v4: Family::new(sizes, schedule),
            v6: Family::new(sizes, schedule),
            services: cells(CAPACITY),
            backends: cells(CAPACITY),
            fragments: Mutex::default(),
            records: RwLock::default(),
            affinity: Affinity::new(CAPACITY, schedule.clone()),
            sockets: RwLock::default(),
            service_stats: cells(CAPACITY),
            backend_stats: cells(CAPACITY),
            reasons: cells(Reason::ALL.len()),
            cpus: cells(8),
            ways: Mutex::default(),
            asked: AtomicU64::new(0),
            moved: AtomicBool::new(false),
            events: Mutex::default(),
            clock: AtomicU64::new(3_600_000_000_000),
            config,
            uplinks: Uplinks::Tc,
            marks: Mutex::default(),
            schedule: schedule.clone(),
        }
    }

    /// The same with these programs at its uplinks.
    #[must_use]
    pub const fn uplinks(mut self, uplinks: Uplinks) -> Self {
        self.uplinks = uplinks;
        self
    }

    /// What is left behind by packets that leave the datapath, in counters of reasons and as records.
    fn left(&self) -> (Vec<u64>, usize) {
        (self.reasons(), lock(&self.events).len())
    }

    /// Replaces what user space programs, in the order in which it publishes: backends, ranges, slots, services,
    /// frontends, addresses. Cursors stay, and what is spent of rates.
    ///
    /// # Panics
    /// If there are more Service ports or backends than a world has room for.
    pub fn program(&self, tables: &Tables) {
        *write(&self.records) = tables.backends.clone();
        for (cell, record) in self.backends.iter().zip(&tables.backends) {
            cell.store(record.word, SeqCst);
        }
        *write(&self.v4.ranges) = tables.ranges4.clone();
        *write(&self.v6.ranges) = tables.ranges6.clone();
        *write(&self.v4.slots) = tables.slots4.clone();
        *write(&self.v6.slots) = tables.slots6.clone();
        for (id, record) in tables.services.iter().enumerate() {
            let cell = &self.services[id];
            cell.cluster.store(record.cluster, SeqCst);
            cell.local.store(record.local, SeqCst);
            cell.flags.store(record.flags, SeqCst);
        }
        *write(&self.v4.frontends) = tables.frontends4.clone();
        *write(&self.v6.frontends) = tables.frontends6.clone();
        let marks = tables.addresses4.keys().map(Address::mark);
        marks.chain(tables.addresses6.keys().map(Address::mark)).for_each(|mark| self.mark(mark));
        *write(&self.v4.addresses) = tables.addresses4.clone();
        *write(&self.v6.addresses) = tables.addresses6.clone();
        assert!(tables.backends.len() <= self.backends.len(), "too many backends");
    }

    fn mark(&self, mark: Mark) {
        *lock(&self.marks).entry(mark.word).or_default() |= mark.bits;
    }

    fn has(&self, mark: Mark) -> bool {
        lock(&self.marks).get(&mark.word).is_some_and(|word| mark.is_in(*word))
    }

    /// Connects a socket of the host, at `own`, to `peer`.
    pub fn connect(&self, proto: Proto, own: SocketAddr, peer: SocketAddr) {
        write(&self.sockets).insert((proto as u8, own, peer));
    }

    /// Replaces the record of one backend.
    pub fn set_backend(&self, id: u32, record: &BackendRecord) {
        let mut records = write(&self.records);
        if let Some(cell) = usize::try_from(id).ok().and_then(|id| records.get_mut(id)) {
            *cell = *record;
        }
        if let Some(cell) = at(&self.backends, id) {
            cell.store(record.word, SeqCst);
        }
    }

    /// Moves the clock on.
    pub fn advance(&self, nanoseconds: u64) {
        self.clock.fetch_add(nanoseconds, SeqCst);
    }

    /// How often the datapath has asked for a route.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(SeqCst)
    }

    /// From now on the node's routes lead to the other uplink where they led to the first.
    pub fn move_routes(&self) {
        self.moved.store(true, SeqCst);
    }

    /// This world as CPU number `number` sees it. One thread at a time may be on a CPU.
    #[must_use]
    pub fn on_cpu(&self, number: u16) -> Cpu<'_> {
        Cpu::new(self, number)
    }

    /// The counters of all reasons, in the order of their numbers.
    #[must_use]
    pub fn reasons(&self) -> Vec<u64> {
        self.reasons.iter().map(|cell| cell.load(SeqCst)).collect()
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let reasons =
            Reason::ALL.iter().zip(&self.reasons).map(|(reason, cell)| (*reason, cell.load(SeqCst)));
        let services = self.service_stats.iter().map(|cell| *lock(cell));
        let backends = self.backend_stats.iter().map(|cell| lock(cell).traffic);
        let numbered = |stats: (u32, ServiceStats)| (stats.1 != ServiceStats::default()).then_some(stats);
        Counters {
            reasons: reasons.filter(|(_, count)| *count != 0).collect(),
            services: (0..).zip(services).filter_map(numbered).collect(),
            backends: (0..).zip(backends).filter_map(numbered).collect(),
        }
    }

    /// The records of events, all of them.
    #[must_use]
    pub fn events(&self) -> Vec<EventRecord> {
        lock(&self.events).clone()
    }

    /// Which backends clients have.
    #[must_use]
    pub fn affinity(&self) -> BTreeMap<AffinityKey, AffinityWord> {
        self.affinity.entries()
    }

    /// How many translations of UDP sockets there are, of both families.
    #[must_use]
    pub fn sock_udp(&self) -> usize {
        lock(&self.v4.sock_udp).len() + lock(&self.v6.sock_udp).len()
    }

    /// How many pairs of both families are counted as embryonic.
    #[must_use]
    pub fn embryonic(&self) -> u64 {
        let count = |begun, settled| StateRecord::embryonic(begun, settled);
        count(self.v4.note(Note::Begun), self.v4.note(Note::Settled))
            + count(self.v6.note(Note::Begun), self.v6.note(Note::Settled))
    }

    /// All IPv4 flow entries of one table.
    #[must_use]
    pub fn flows4(&self, table: FlowTable) -> HashMap<FlowKey<Addr4>, FlowValue<Addr4>> {
        self.v4.table(table).entries()
    }

    /// All IPv6 flow entries of one table.
    #[must_use]
    pub fn flows6(&self, table: FlowTable) -> HashMap<FlowKey<Addr6>, FlowValue<Addr6>> {
        self.v6.table(table).entries()
    }
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn at<T>(items: &[T], index: u32) -> Option<&T> {
    items.get(usize::try_from(index).ok()?)
}
