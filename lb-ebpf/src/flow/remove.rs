//! How two entries are locked and removed as one, without locks of the kernel.
//!
//! - The forward entry's word is the lock: whoever swaps it to `dead` owns the removal of both.
//! - A reverse whose forward is missing or belongs to another pair is an orphan; it locks by its own word.

use lb_common::{Address, Config, FlowKey, FlowState, FlowValue, FlowWord, NOBODYS};

use super::Hit;
use super::phase::seconds;
use crate::env::{Env, FlowRef, FlowTable, Note, Traffic};

/// The forward entry of a pair that may have to go.
pub(crate) struct Found<F> {
    /// The table that holds the pair.
    pub(crate) table: FlowTable,
    /// The forward entry in place.
    pub(crate) flow: F,
    /// Its word, as it was read.
    pub(crate) word: FlowWord,
    /// The Service port that its traffic counts for.
    pub(crate) service: u32,
    /// The backend that its traffic counts for.
    pub(crate) backend: u32,
}

/// The condition that both halves of a pair have idled for more than `limit` nanoseconds, that it is still over, or none.
///
/// Not an `Option`: the compiler may compute with the fields before it looks at the tag, and the verifier refuses
/// arithmetic on whatever an unset register holds.
#[derive(Clone, Copy)]
pub(crate) struct Idle {
    /// Now.
    pub(crate) now: u64,
    /// Longest time that leaves the pair alive.
    pub(crate) limit: u64,
    /// Whether that is a condition.
    pub(crate) required: bool,
    /// The word of the reverse entry by which the pair was over.
    pub(crate) back: FlowWord,
    /// Whether it must be that word still: data after a RST takes the RST back.
    pub(crate) unchanged: bool,
}

impl Idle {
    /// No condition.
    pub(crate) const NONE: Self =
        Self { now: 0, limit: 0, required: false, back: FlowWord(0), unchanged: false };

    /// The condition that the pair is still over: the word of the reverse entry is `back`, and that of the forward entry
    /// the one that is exchanged.
    #[inline(always)]
    pub(crate) const fn unchanged(back: FlowWord) -> Self {
        Self { back, unchanged: true, ..Self::NONE }
    }

    /// The condition that the pair has idled for more than `limit`.
    #[inline(always)]
    pub(crate) const fn more_than(limit: u64, now: u64) -> Self {
        Self { now, limit, required: true, ..Self::NONE }
    }

    /// Whether a pair last seen at `seen` fulfils the condition.
    #[inline(always)]
    const fn holds(&self, seen: u64) -> bool {
        !self.required || self.now.saturating_sub(seen) > self.limit
    }
}

/// Locks the pair and removes it, if it is idle. True if the pair is gone by this call.
#[inline(always)]
pub(crate) fn remove<A: Address, E: Env<A>>(
    env: &E,
    forward: &FlowKey<A>,
    reverse: &FlowKey<A>,
    found: &Found<E::Flow>,
    idle: Idle,
) -> bool {
    let Found { table, flow, word, service, backend } = *found;
    let dead = word.with(FlowState::DEAD);
    // Most pairs that the sweep asks about live: do not lock those.
    if !idle.holds(flow.peek().1) || word.state().has(FlowState::DEAD) || !flow.exchange(word, dead) {
        return false;
    }
    let other = env.flow(table, reverse).filter(|other| other.peek().0.id() == word.id());
    // Read again under the lock: a packet may have come between, and one-way traffic refreshes one half only.
    let reverse_seen = other.map_or(0, |other| other.peek().1);
    // By an exchange: a packet may come until the reverse entry is marked.
    let taken_back = idle.unchanged && other.is_some_and(|other| !bury(other, idle.back));
    if taken_back || !idle.holds(flow.peek().1) || !idle.holds(reverse_seen) {
        // Nobody else changes a dead word, so this cannot fail.
        flow.exchange(dead, word);
        return false;
    }
    // What cannot be marked now is an orphan, and counted as such. Marked before the forward entry goes: who meets a
    // living reverse entry alone may put the other half back.
    let other = other.filter(|other| {
        let (word, _) = other.peek();
        idle.unchanged || word.id() == dead.id() && bury(*other, word)
    });
    let inward = flow.traffic();
    env.delete_flow(table, forward);
    if table == FlowTable::Main {
        if !word.state().has(FlowState::ASSURED) {
            env.add_note(Note::Settled, 1);
        }
        if env.note(Note::Full) != 0 {
            env.set_note(Note::Full, 0);
        }
    }
    let outward = other.map_or(Traffic::default(), FlowRef::traffic);
    if other.is_some() {
        env.delete_flow(table, reverse);
    }
    count(env, [service, backend], inward, outward);
    true
}

/// Removes a reverse entry without a forward entry, if it is old enough. True if it is gone by this call.
#[inline(always)]
pub(crate) fn remove_orphan<A: Address, E: Env<A>>(
    env: &E,
    reverse: &FlowKey<A>,
    hit: &Hit<E::Flow>,
    value: &FlowValue<A>,
    now: u64,
    config: &Config,
) -> bool {
    let idle = Idle::more_than(seconds(config.lifetimes.orphan), now);
    let word = FlowWord(value.word);
    if !idle.holds(value.seen) || !bury(hit.flow, word) {
        return false;
    }
    // Read again under the lock: a packet may have come between, and the copy of an element that was being refilled
    // can have the new entry's word and the old one's time.
    if !idle.holds(hit.flow.peek().1) {
        hit.flow.exchange(word.with(FlowState::DEAD), word);
        return false;
    }
    let outward = hit.flow.traffic();
    env.delete_flow(hit.table, reverse);
    count(env, [value.service, value.backend], Traffic::default(), outward);
    true
}

/// Adds the traffic of a pair that has gone to the counters of Service port and backend. What the host itself has sent is
/// neither's.
#[inline(always)]
fn count<A: Address, E: Env<A>>(env: &E, [service, backend]: [u32; 2], inward: Traffic, outward: Traffic) {
    if service != NOBODYS {
        env.ended(service, backend, inward, outward);
    }
}

/// Marks a reverse entry dead: the one who succeeds removes it, or moves it.
#[inline(always)]
pub(super) fn bury<A: Address, F: FlowRef<A>>(flow: F, word: FlowWord) -> bool {
    !word.state().has(FlowState::DEAD) && flow.exchange(word, word.with(FlowState::DEAD))
}
