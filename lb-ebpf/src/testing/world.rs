//! The datapath's environment in shared memory: any number of threads, each on a CPU of its own.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::boxed::Box;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::vec::Vec;

use lb_common::{
    Addr4, Addr6, Address, AddressValue, BackendRecord, BackendStats, BackendWord, Config, CpuRecord,
    FlowKey, FlowValue, FrontendKey, FrontendValue, Reason, ServiceStats, Slot, Span, SweepReport,
};

use super::schedule::Schedule;
use super::table::{Flow, Table, Words};
use super::tables::{ADDRESS, Tables, frontend};
use crate::env::{Env, FlowTable, Inserted, ServiceRef, Traffic};
use crate::sweep;

/// Service ports and backends that a world has room for.
const CAPACITY: usize = 64;

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
}

/// The flow tables of one family, and what user space programs for it.
#[derive(Debug)]
struct Family<A: Address> {
    main: Table<A>,
    lru: Table<A>,
    lru_used: AtomicBool,
    addresses: RwLock<BTreeMap<A, u8>>,
    frontends: RwLock<BTreeMap<FrontendKey<A>, u32>>,
    slots: RwLock<Vec<Slot<A>>>,
}

impl<A: Words> Family<A> {
    fn new(sizes: Sizes, schedule: &Schedule) -> Self {
        Self {
            main: Table::new(sizes.main, false, schedule.clone()),
            lru: Table::new(sizes.lru, true, schedule.clone()),
            lru_used: AtomicBool::new(false),
            addresses: RwLock::default(),
            frontends: RwLock::default(),
            slots: RwLock::default(),
        }
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
    service_stats: Vec<Mutex<ServiceStats>>,
    backend_stats: Vec<Mutex<BackendStats>>,
    reasons: Vec<AtomicU64>,
    cpus: Vec<Mutex<CpuRecord>>,
    clock: AtomicU64,
    config: Config,
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
            service_stats: cells(CAPACITY),
            backend_stats: cells(CAPACITY),
            reasons: cells(Reason::ALL.len()),
            cpus: cells(8),
            clock: AtomicU64::new(3_600_000_000_000),
            config,
            schedule: schedule.clone(),
        }
    }

    /// Replaces what user space programs, in the order in which it publishes: backends, slots, services, frontends,
    /// addresses. Cursors stay.
    ///
    /// # Panics
    /// If there are more Service ports or backends than a world has room for.
    pub fn program(&self, tables: &Tables) {
        for (cell, record) in self.backends.iter().zip(&tables.backends) {
            cell.store(record.word, SeqCst);
        }
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
        *write(&self.v4.addresses) = tables.addresses4.clone();
        *write(&self.v6.addresses) = tables.addresses6.clone();
        assert!(tables.backends.len() <= self.backends.len(), "too many backends");
    }

    /// Replaces the word of one backend.
    pub fn set_backend(&self, id: u32, record: &BackendRecord) {
        if let Some(cell) = at(&self.backends, id) {
            cell.store(record.word, SeqCst);
        }
    }

    /// Moves the clock on.
    pub fn advance(&self, nanoseconds: u64) {
        self.clock.fetch_add(nanoseconds, SeqCst);
    }

    /// This world as CPU number `number` sees it. One thread at a time may be on a CPU.
    #[must_use]
    pub fn on_cpu(&self, number: u16) -> Cpu<'_> {
        Cpu {
            world: self,
            number,
            accesses: Cell::default(),
        }
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let reasons = Reason::ALL
            .iter()
            .zip(&self.reasons)
            .map(|(reason, cell)| (*reason, cell.load(SeqCst)));
        let services = self.service_stats.iter().map(|cell| *lock(cell));
        let backends = self.backend_stats.iter().map(|cell| lock(cell).traffic);
        let numbered = |stats: (u32, ServiceStats)| (stats.1 != ServiceStats::default()).then_some(stats);
        Counters {
            reasons: reasons.filter(|(_, count)| *count != 0).collect(),
            services: (0..).zip(services).filter_map(numbered).collect(),
            backends: (0..).zip(backends).filter_map(numbered).collect(),
        }
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

/// Looks at every entry of one table, as the sweep programs do.
fn sweep_table<'w, A: Words>(cpu: &Cpu<'w>, family: &'w Family<A>, table: FlowTable) -> SweepReport
where
    Cpu<'w>: Env<A, Flow = Flow<'w, A>>,
{
    let mut report = SweepReport {
        began: cpu.now(),
        ..SweepReport::default()
    };
    let mut value = FlowValue::default();
    family.table(table).for_each(|key, entry| {
        sweep::visit(cpu, table, &key, entry, &mut value, &mut report);
    });
    report
}

/// One CPU of a world.
#[derive(Debug)]
pub struct Cpu<'w> {
    world: &'w World,
    number: u16,
    accesses: Cell<Accesses>,
}

impl Cpu<'_> {
    /// The accesses to hash tables since the last call.
    #[must_use]
    pub fn take_accesses(&self) -> Accesses {
        self.accesses.take()
    }

    /// One run of the IPv4 sweep over one table.
    #[must_use]
    pub fn sweep4(&self, table: FlowTable) -> SweepReport {
        sweep_table(self, &self.world.v4, table)
    }

    /// One run of the IPv6 sweep over one table.
    #[must_use]
    pub fn sweep6(&self, table: FlowTable) -> SweepReport {
        sweep_table(self, &self.world.v6, table)
    }

    fn accessed(&self, count: impl FnOnce(&mut Accesses)) {
        let mut accesses = self.accesses.get();
        count(&mut accesses);
        self.accesses.set(accesses);
    }
}

macro_rules! environment {
    ($addr:ty, $family:ident) => {
        impl<'w> Env<$addr> for Cpu<'w> {
            type Flow = Flow<'w, $addr>;
            type Service = &'w ServiceCell;
            type Scratch = Box<lb_common::Scratch<$addr>>;

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
                Some(Box::default())
            }

            fn config(&self) -> Option<&Config> {
                Some(&self.world.config)
            }

            fn count(&self, reason: Reason) {
                if let Some(cell) = at(&self.world.reasons, reason as u32) {
                    cell.fetch_add(1, SeqCst);
                }
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

            fn lru_used(&self) -> bool {
                self.world.schedule.access();
                self.world.$family.lru_used.load(SeqCst)
            }

            fn use_lru(&self) {
                self.world.schedule.access();
                self.world.$family.lru_used.store(true, SeqCst);
            }

            fn address(&self, addr: &$addr) -> Option<AddressValue> {
                self.accessed(|accesses| accesses.address += 1);
                read(&self.world.$family.addresses)
                    .get(addr)
                    .map(|kind| AddressValue {
                        kind: *kind,
                        ..ADDRESS
                    })
            }

            fn frontend(&self, key: &FrontendKey<$addr>) -> Option<FrontendValue> {
                self.accessed(|accesses| accesses.frontend += 1);
                read(&self.world.$family.frontends)
                    .get(key)
                    .map(|service| frontend(*service))
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

            fn port_cursor(&self, backend: u32) -> u64 {
                at(&self.world.backend_stats, backend).map_or(0, |stats| {
                    let mut stats = lock(stats);
                    stats.port_cursor += 1;
                    stats.port_cursor - 1
                })
            }
        }
    };
}

environment!(Addr4, v4);
environment!(Addr6, v6);
