//! What the two entries of every pair must look like.

use std::collections::HashMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use lb_common::{Address, FlowKey, FlowKind, FlowState, FlowValue, FlowWord};

use super::world::World;
use crate::env::FlowTable;

/// What is wrong with the flow tables of a world at rest: entries that belong to another key, halves of pairs, pairs
/// whose entries name each other wrongly, keys that are in both tables, entries that are locked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Reverse entries without a forward entry: garbage that the sweep will remove.
    pub orphans: Vec<String>,
    /// Forward entries without a reverse entry: only an eviction may leave them.
    pub widows: Vec<String>,
    /// Everything else.
    pub broken: Vec<String>,
}

/// How many pairs of the main tables of `world` are embryonic, by looking at each.
#[must_use]
pub fn embryonic(world: &World) -> u64 {
    fn count<A>(table: &HashMap<FlowKey<A>, FlowValue<A>>) -> usize {
        let assured = |value: &FlowValue<A>| FlowWord(value.word).state().has(FlowState::ASSURED);
        table.values().filter(|value| value.kind == FlowKind::Forward as u8 && !assured(value)).count()
    }
    (count(&world.flows4(FlowTable::Main)) + count(&world.flows6(FlowTable::Main))) as u64
}

impl Faults {
    /// The faults of `world`.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let mut faults = Self::default();
        faults.look_at(&world.flows4(FlowTable::Main), &world.flows4(FlowTable::Lru));
        faults.look_at(&world.flows6(FlowTable::Main), &world.flows6(FlowTable::Lru));
        faults
    }

    /// Whether there are none at all.
    #[must_use]
    pub fn none(&self) -> bool {
        self.orphans.is_empty() && self.widows.is_empty() && self.broken.is_empty()
    }

    /// Adds those of the two tables of one family.
    pub fn look_at<A: Address>(
        &mut self,
        main: &HashMap<FlowKey<A>, FlowValue<A>>,
        lru: &HashMap<FlowKey<A>, FlowValue<A>>,
    ) {
        let twice = main.keys().filter(|key| lru.contains_key(key));
        self.broken.extend(twice.map(|key| format!("in both tables: {key:?}")));
        for table in [main, lru] {
            for (key, value) in table {
                self.look_at_entry(table, key, value);
            }
        }
    }

    fn look_at_entry<A: Address>(
        &mut self,
        table: &HashMap<FlowKey<A>, FlowValue<A>>,
        key: &FlowKey<A>,
        value: &FlowValue<A>,
    ) {
        let word = FlowWord(value.word);
        if value.check != FlowValue::check_of(key, word.id()) {
            self.broken.push(format!("value of another key: {key:?} {value:?}"));
        }
        if word.state().has(FlowState::DEAD) {
            self.broken.push(format!("locked for ever: {key:?} {value:?}"));
        }
        if value.kind == FlowKind::Host as u8 {
            if value.tuple != key.tuple {
                self.broken.push(format!("translates: {key:?} {value:?}"));
            }
            return;
        }
        let other = table.get(&value.other_key(key.proto));
        let other = other.filter(|other| FlowWord(other.word).id() == word.id());
        match other {
            Some(other) if other.tuple.reverse() == key.tuple && other.kind != value.kind => {}
            Some(other) => self.broken.push(format!("crossed: {key:?} {value:?} {other:?}")),
            None if value.kind == FlowKind::Reverse as u8 => self.orphans.push(format!("{key:?} {value:?}")),
            None => self.widows.push(format!("{key:?} {value:?}")),
        }
    }
}
