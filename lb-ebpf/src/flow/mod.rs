//! The flow table: lookup, the pair protocol, lifetimes.

mod assure;
mod contend;
mod host;
mod mend;
mod oust;
mod pair;
mod phase;
mod remove;
mod room;

use lb_common::{Address, FlowKey, FlowValue, FlowWord};

use crate::env::{Env, FlowRef, FlowTable};

pub use assure::{Assured, assure};
pub use contend::{Contention, contend, make_way};
pub(crate) use host::{beset, host, shown};
pub use mend::{Mended, mend};
pub use oust::{Ousted, Terms, oust};
pub use pair::{Attempt, Made, attempt, make};
pub(crate) use pair::{join, owner};
pub use phase::Phase;
pub(crate) use phase::confirmed;
pub(crate) use remove::{Found, Idle, remove, remove_orphan};

/// An entry that was found, beside the copy of its value.
pub(crate) struct Hit<F> {
    /// The table that it is in.
    pub(crate) table: FlowTable,
    /// The entry in place.
    pub(crate) flow: F,
}

/// Looks `key` up in both tables and copies the entry to `value`.
///
/// The kernel recycles elements of a preallocated hash at once: between lookup and copy the element can become another
/// key's. The check word binds key and creation id together, so such a copy is recognised; the key is then looked up
/// once more, and if that fails too it counts as absent, which an insertion that never replaces will settle.
///
/// A pair that moves is in the main table before it leaves the LRU table. So who has missed it in the main table asks that
/// once more, whatever the LRU table had: nothing, as the pair had left it, or what another CPU had put in its place for
/// the moment until it saw the pair in the main table and gave way.
#[inline(always)]
pub(crate) fn lookup<A: Address, E: Env<A>>(
    env: &E,
    key: &FlowKey<A>,
    value: &mut FlowValue<A>,
) -> Option<Hit<E::Flow>> {
    // Before the first look: afterwards the pair may have moved, as the last one of the LRU table.
    let used = env.lru_used();
    if let Some(flow) = lookup_in(env, FlowTable::Main, key, value) {
        return Some(Hit { table: FlowTable::Main, flow });
    }
    if !used {
        return None;
    }
    let flow = lookup_in(env, FlowTable::Lru, key, value);
    if let Some(flow) = env.flow(FlowTable::Main, key) {
        return intact(flow, key, value).then_some(Hit { table: FlowTable::Main, flow });
    }
    flow.map(|flow| Hit { table: FlowTable::Lru, flow })
}

/// As [`lookup`], in one table.
#[inline(always)]
fn lookup_in<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    key: &FlowKey<A>,
    value: &mut FlowValue<A>,
) -> Option<E::Flow> {
    let flow = env.flow(table, key)?;
    if intact(flow, key, value) {
        return Some(flow);
    }
    let flow = env.flow(table, key)?;
    intact(flow, key, value).then_some(flow)
}

#[inline(always)]
fn intact<A: Address, F: FlowRef<A>>(flow: F, key: &FlowKey<A>, value: &mut FlowValue<A>) -> bool {
    flow.read(value) && value.check == FlowValue::check_of(key, FlowWord(value.word).id())
}
