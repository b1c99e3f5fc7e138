//! What fixtures make of the maps: emptied, programmed, older, evicted.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use anyhow::Result;
use aya::Pod;
use aya::maps::PerCpuArray;
use aya::maps::lpm_trie::{Key, LpmTrie};
use lb_common::{
    Addr4, Addr6, Address, AffinityKey, AffinityWord, BackendRecord, ClientOf, Config, CpuRecord, FlowKey,
    FlowKind, FlowValue, FlowWord, FragmentKey, FragmentValue, ServiceRecord, SourceRangeKey, StateRecord,
    config_flags, maps,
};
use lb_ebpf::testing::routes;
use lb_ebpf::testing::tables::Tables;
use lb_userspace::bpf::probe;

use super::{Kernel, ROOM};

fn of_kind<A>(
    entries: Vec<(FlowKey<A>, FlowValue<A>)>,
    kind: FlowKind,
) -> impl Iterator<Item = (FlowKey<A>, FlowValue<A>)> {
    entries.into_iter().filter(move |(_, value)| value.kind == kind as u8)
}

impl Kernel {
    /// Replaces what a hash holds.
    fn refill<K: Pod + Eq + Hash, V: Pod>(
        &mut self,
        name: &str,
        contents: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let mut map = self.hash::<K, V>(name)?;
        let old: Vec<K> = map.keys().collect::<Result<_, _>>()?;
        for key in old {
            map.remove(&key)?;
        }
        for (key, value) in contents {
            map.insert(key, value, 0)?;
        }
        Ok(())
    }

    /// Replaces what a trie of source ranges holds.
    fn refill_ranges<A>(&mut self, name: &str, contents: &BTreeSet<SourceRangeKey<A>>) -> Result<()>
    where
        ClientOf<A>: Pod,
    {
        let mut map = LpmTrie::<_, ClientOf<A>, u32>::try_from(self.map_mut(name)?)?;
        let old = map.keys().collect::<Result<Vec<_>, _>>()?;
        for key in old {
            map.remove(&key)?;
        }
        for SourceRangeKey { bits, range } in contents {
            map.insert(&Key::new(*bits, *range), 1, 0)?;
        }
        Ok(())
    }

    /// Empties all maps that programs write, and sets the settings.
    pub(crate) fn reset(&mut self, config: &Config) -> Result<()> {
        let mut config = *config;
        if self.csum_ipv6 {
            config.flags |= config_flags::CSUM_IPV6_FLAG;
        }
        config.tick = probe::tick();
        self.mapped.clear()?;
        self.held = now()?;
        self.write(maps::CONFIG, &[config])?;
        for name in [maps::FLOWS4, maps::FLOWS_LRU4] {
            self.refill::<FlowKey<Addr4>, FlowValue<Addr4>>(name, [])?;
        }
        for name in [maps::FLOWS6, maps::FLOWS_LRU6] {
            self.refill::<FlowKey<Addr6>, FlowValue<Addr6>>(name, [])?;
        }
        self.refill::<FragmentKey, FragmentValue>(maps::FRAGMENTS, [])?;
        let interfaces = routes::INTERFACES.map(|(index, _)| (index, routes::interface(index)));
        self.refill(maps::INTERFACES, interfaces)?;
        self.refill::<AffinityKey, AffinityWord>(maps::AFFINITY, [])?;
        // Numbers of records go on: none may come back.
        let events = self.state()?.events;
        self.write(maps::STATE, &[StateRecord { events, ..StateRecord::default() }])?;
        let mut services = self.array::<ServiceRecord>(maps::SERVICES_MAP)?;
        for id in 0..ROOM {
            services.set(id, ServiceRecord::default(), 0)?;
        }
        // Pair numbers go on: an id must never come back.
        self.on_each_cpu(|record| *record = CpuRecord { pairs: record.pairs, ..CpuRecord::default() })
    }

    fn on_each_cpu(&mut self, change: impl Fn(&mut CpuRecord)) -> Result<()> {
        let mut cpu = PerCpuArray::<_, CpuRecord>::try_from(self.map_mut(maps::CPU)?)?;
        let mut records = cpu.get(&0, 0)?.to_vec();
        records.iter_mut().for_each(change);
        Ok(cpu.set(0, records.try_into()?, 0)?)
    }

    /// Replaces what user space programs, in the order in which it publishes. Cursors stay, and what is spent of rates.
    pub(crate) fn program(&mut self, tables: &Tables) -> Result<()> {
        self.write::<BackendRecord>(maps::BACKENDS_MAP, &tables.backends)?;
        self.write(maps::SLOTS4, &tables.slots4)?;
        self.write(maps::SLOTS6, &tables.slots6)?;
        let mut services = self.array::<ServiceRecord>(maps::SERVICES_MAP)?;
        for (id, record) in (0..).zip(&tables.services) {
            let ServiceRecord { cursor, spent, .. } = services.get(&id, 0)?;
            services.set(id, ServiceRecord { cursor, spent, ..*record }, 0)?;
        }
        self.refill_ranges(maps::SOURCE_RANGES4, &tables.ranges4)?;
        self.refill_ranges(maps::SOURCE_RANGES6, &tables.ranges6)?;
        self.refill(maps::FRONTENDS4, tables.frontends4.clone())?;
        self.refill(maps::FRONTENDS6, tables.frontends6.clone())?;
        let marks = tables.addresses4.keys().map(Address::mark);
        let marks = marks.chain(tables.addresses6.keys().map(Address::mark));
        let mut words = self.array::<u64>(maps::MARKED)?;
        for mark in marks {
            let word = words.get(&mark.word, 0)?;
            words.set(mark.word, word | mark.bits, 0)?;
        }
        self.refill(maps::ADDRESSES4, tables.addresses4.clone())?;
        self.refill(maps::ADDRESSES6, tables.addresses6.clone())
    }

    /// What the flow tables of a family hold, but for when, and under which ids.
    pub(crate) fn pairs<A: Address>(&self) -> Result<[BTreeMap<FlowKey<A>, FlowValue<A>>; 2]>
    where
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
    {
        let names =
            if A::FAMILY == 4 { [maps::FLOWS4, maps::FLOWS_LRU4] } else { [maps::FLOWS6, maps::FLOWS_LRU6] };
        let pairs = |name| -> Result<_> {
            let timeless = |(key, value): (FlowKey<A>, FlowValue<A>)| {
                let word = FlowWord(value.word).state().0.into();
                (key, FlowValue { word, seen: 0, check: 0, ..value })
            };
            Ok(self.flows::<A>(name)?.into_iter().map(timeless).collect())
        };
        let [main, lru] = names.map(pairs);
        Ok([main?, lru?])
    }

    /// Makes all flows, first fragments, what rates go by, and the last sweep so many seconds older.
    pub(crate) fn age(&mut self, seconds: u64) -> Result<()> {
        let mut state = self.state()?;
        state.swept = state.swept.map(|swept| swept.saturating_sub(seconds * 1_000_000_000));
        self.write(maps::STATE, &[state])?;
        // What a second gives back is there after any.
        self.on_each_rate(|_| 0)?;
        let mut fragments = self.hash::<FragmentKey, FragmentValue>(maps::FRAGMENTS)?;
        let old: Vec<(FragmentKey, FragmentValue)> = fragments.iter().collect::<Result<_, _>>()?;
        for (key, FragmentValue { sport, dport, proto, seen, .. }) in old {
            let seen = seen.saturating_sub(u32::try_from(seconds)?);
            fragments.insert(key, FragmentValue::new(&key, [sport, dport], proto, seen), 0)?;
        }
        let now = now()?;
        let mut affinity = self.hash::<AffinityKey, AffinityWord>(maps::AFFINITY)?;
        let old: Vec<(AffinityKey, AffinityWord)> = affinity.iter().collect::<Result<_, _>>()?;
        for (key, word) in old {
            affinity.insert(key, word.at(now - word.idle(now) - seconds * 1_000_000_000), 0)?;
        }
        for name in [maps::FLOWS4, maps::FLOWS_LRU4] {
            for (key, mut value) in self.flows::<Addr4>(name)? {
                value.seen = value.seen.saturating_sub(seconds * 1_000_000_000);
                self.hash(name)?.insert(key, value, 0)?;
            }
        }
        for name in [maps::FLOWS6, maps::FLOWS_LRU6] {
            for (key, mut value) in self.flows::<Addr6>(name)? {
                value.seen = value.seen.saturating_sub(seconds * 1_000_000_000);
                self.hash(name)?.insert(key, value, 0)?;
            }
        }
        Ok(())
    }

    /// What rates allow does not grow by the time that a test takes: only if the flows are made older.
    pub(crate) fn hold_rates(&mut self) -> Result<()> {
        let now = now()?;
        let passed = now.saturating_sub(std::mem::replace(&mut self.held, now));
        self.on_each_rate(|spent| spent + passed)
    }

    /// Changes what is spent of all rates that anything has been spent of.
    fn on_each_rate(&mut self, change: impl Fn(u64) -> u64) -> Result<()> {
        let change = |spent: &mut u64| {
            if *spent != 0 {
                *spent = change(*spent);
            }
        };
        self.on_each_cpu(|record| {
            [&mut record.rejects, &mut record.events, &mut record.flows].into_iter().for_each(change);
        })?;
        let mut services = self.array::<ServiceRecord>(maps::SERVICES_MAP)?;
        for id in 1..ROOM {
            let mut record = services.get(&id, 0)?;
            if record == ServiceRecord::default() {
                break;
            }
            change(&mut record.spent);
            services.set(id, record, 0)?;
        }
        Ok(())
    }

    /// Deletes all entries of this kind in the LRU tables, as if they had been evicted.
    pub(crate) fn evict(&mut self, kind: FlowKind) -> Result<()> {
        for (key, _) in of_kind(self.flows::<Addr4>(maps::FLOWS_LRU4)?, kind) {
            self.hash::<_, FlowValue<Addr4>>(maps::FLOWS_LRU4)?.remove(&key)?;
        }
        for (key, _) in of_kind(self.flows::<Addr6>(maps::FLOWS_LRU6)?, kind) {
            self.hash::<_, FlowValue<Addr6>>(maps::FLOWS_LRU6)?.remove(&key)?;
        }
        Ok(())
    }
}

/// The time by the clock that the programs go by, nanoseconds.
fn now() -> Result<u64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Ok(u64::try_from(now.tv_sec)? * 1_000_000_000 + u64::try_from(now.tv_nsec)?)
}
