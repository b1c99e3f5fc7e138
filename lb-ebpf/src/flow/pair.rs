//! The pair protocol: how two entries are made, locked and removed as one, without locks of the kernel.
//!
//! - Making: reverse first, then forward, neither replacing anything. Who loses the forward uses the winner's tuple and
//!   takes its own reverse away again.
//! - The forward entry's word is the lock: whoever swaps it to `dead` owns the removal of both.
//! - A reverse whose forward is missing or belongs to another pair is an orphan; it locks by its own word.

use lb_common::{
    Address, Config, FlowKey, FlowKind, FlowState, FlowValue, FlowWord, Point, Proto, Reason, Scratch,
};

use super::phase::{Phase, seconds};
use super::{Hit, lookup};
use crate::cut::outcome;
use crate::env::{Env, FlowRef, FlowTable, Inserted, Traffic};
use crate::parse::Flags;

/// Rounds of the search for a free source port; the last one may go to the change of table.
const TRIES: u32 = 33;

outcome! {
    /// A pair that is there now.
    Made {
        /// This packet made it.
        Opened = 0,
        /// Another packet made it.
        Joined = 1,
    }
}

outcome! {
    /// How an attempt at a pair ended.
    Attempt {
        /// There is a pair, and this packet made it.
        Opened = 0,
        /// There is a pair, and another packet made it.
        Joined = 1,
        /// Not yet: try again.
        Again = 2,
        /// Something stands where the reverse entry was to go.
        Contended = 3,
    }
}

outcome! {
    /// What was found where a reverse entry was to go.
    Contention {
        /// Another flow: try another port.
        Taken = 0,
        /// The reverse entry of this very flow.
        Own = 1,
        /// Nothing any more: try again with the same port.
        Freed = 2,
    }
}

/// Makes the pair of `scratch.key` and `scratch.to`, or finds the one that another CPU made meanwhile. The search for a
/// free source port may change `scratch.to`, a lost race all of it.
///
/// Expects in `scratch` what the entries are filled with: now, bytes, flags, service, backend, generation, masquerade
/// and the table to begin with.
#[inline(always)]
pub fn make<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Made, Reason> {
    let count = env.with_cpu(|cpu| {
        cpu.pairs = cpu.pairs.wrapping_add(1);
        cpu.pairs
    });
    scratch.id = FlowWord::new(env.cpu(), count.ok_or(Reason::FlowError)?, 0).0;
    scratch.redirect = scratch.masquerade;
    scratch.draw = scratch.masquerade;
    for _ in 0..TRIES {
        match env.attempt(scratch)? {
            Attempt::Opened => return Ok(Made::Opened),
            Attempt::Joined => return Ok(Made::Joined),
            Attempt::Again => {}
            Attempt::Contended => match env.contend(scratch)? {
                Contention::Own => return Ok(Made::Joined),
                Contention::Freed => {}
                Contention::Taken => scratch.draw = 1,
            },
        }
    }
    Err(Reason::SnatPortsExhausted)
}

/// One attempt at a pair: reverse, then forward.
#[inline(always)]
pub fn attempt<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Attempt, Reason> {
    if scratch.draw != 0 {
        let number = crate::ports::number(scratch.backend, env.port_cursor(scratch.backend));
        let port = env.config().and_then(|config| crate::ports::nth(&config.snat_ports, number));
        scratch.to.sport = port.ok_or(Reason::SnatPortsExhausted)?;
        // The next attempt keeps it, unless it proves to be taken: an ended pair may be removed to free it.
        scratch.draw = 0;
    }
    let table = if scratch.lru != 0 { FlowTable::Lru } else { FlowTable::Main };
    scratch.reverse = FlowKey::new(scratch.to.reverse(), scratch.key.proto);
    fill(scratch, FlowKind::Reverse);
    match insert(env, table, &scratch.reverse, &scratch.value) {
        Inserted::Done => {}
        Inserted::Exists => return Ok(Attempt::Contended),
        Inserted::Full => return spill(scratch),
        Inserted::Failed => return Err(Reason::FlowError),
    }
    fill(scratch, FlowKind::Forward);
    let inserted = insert(env, table, &scratch.key, &scratch.value);
    if inserted == Inserted::Done {
        return Ok(Attempt::Opened);
    }
    if owner(env, table, &scratch.reverse, FlowWord(scratch.id)).is_some() {
        env.delete_flow(table, &scratch.reverse);
    }
    match inserted {
        Inserted::Exists => join(env, scratch),
        Inserted::Full => spill(scratch),
        Inserted::Done | Inserted::Failed => Err(Reason::FlowError),
    }
}

/// The table is full: on to the LRU table, the last one.
#[inline(always)]
fn spill<A>(scratch: &mut Scratch<A>) -> Result<Attempt, Reason> {
    if scratch.lru != 0 {
        return Err(Reason::FlowTableFull);
    }
    scratch.lru = 1;
    Ok(Attempt::Again)
}

/// Builds one half of the pair in `scratch.value`.
#[inline(always)]
fn fill<A: Address>(scratch: &mut Scratch<A>, kind: FlowKind) {
    let Scratch { value, key, reverse, to, .. } = scratch;
    let id = FlowWord(scratch.id);
    let forward = matches!(kind, FlowKind::Forward);
    // A hairpin comes back by the point at which it went out.
    let point = if forward || scratch.masquerade != 0 { Point::PodIngress } else { Point::PodEgress };
    value.word = id.with(if forward { Flags(scratch.flags).state() } else { 0 }).0;
    value.seen = scratch.now;
    value.packets = u64::from(forward);
    value.bytes = if forward { scratch.bytes } else { 0 };
    value.tuple = if forward { *to } else { key.tuple.reverse() };
    value.service = scratch.service;
    value.backend = scratch.backend;
    value.generation = scratch.generation;
    value.point = point as u8;
    value.kind = kind as u8;
    value.redirect = scratch.masquerade;
    value.pad = 0;
    value.check = FlowValue::check_of(if forward { key } else { reverse }, id.id());
}

/// The forward entry that is there, made by another CPU or long ago, holds for this packet too.
#[inline(always)]
pub(crate) fn join<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Attempt, Reason> {
    let Scratch { value, key, to, .. } = scratch;
    let hit = lookup(env, key, value).ok_or(Reason::FlowBusy)?;
    if FlowWord(value.word).state().has(FlowState::DEAD) {
        return Err(Reason::FlowBusy);
    }
    hit.flow.touch(scratch.now, scratch.bytes);
    *to = value.tuple;
    scratch.redirect = value.redirect;
    Ok(Attempt::Joined)
}

/// Looks at the entry that stands where the reverse entry `scratch.reverse` of the flow `scratch.key` was to go, and
/// removes it if it is of no use.
#[inline(always)]
pub fn contend<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Contention, Reason> {
    let Scratch { value, key, reverse, other, now, .. } = scratch;
    let config = env.config().ok_or(Reason::FlowError)?;
    let proto = Proto::from_number(key.proto).ok_or(Reason::FlowError)?;
    let Some(hit) = lookup(env, reverse, value) else {
        return Ok(Contention::Freed);
    };
    let word = FlowWord(value.word);
    if value.kind != FlowKind::Reverse as u8 {
        return Ok(Contention::Taken);
    }
    let own = value.tuple == key.tuple.reverse();
    *other = value.other_key(key.proto);
    let freed = match owner(env, hit.table, other, word) {
        Some(_) if own => false,
        Some((flow, state)) => {
            let phase = Phase::of(proto, state.state(), word.state());
            let limit = if phase.is_over() {
                seconds(config.lifetimes.reuse_closed)
            } else {
                phase.lifetime(&config.lifetimes)
            };
            let found =
                Found { table: hit.table, flow, word: state, service: value.service, backend: value.backend };
            remove(env, other, reverse, &found, Idle::more_than(limit, *now))
        }
        None => remove_orphan(env, reverse, &hit, value, *now, config),
    };
    if freed {
        Ok(Contention::Freed)
    } else if !own {
        Ok(Contention::Taken)
    } else if word.state().has(FlowState::DEAD) {
        Err(Reason::FlowBusy)
    } else {
        Ok(Contention::Own)
    }
}

/// Inserts into `table` and gives way if the other table, the same name space, has the key.
///
/// The look at the other table comes after the insertion: of two CPUs that insert the same key into different tables
/// at least one sees the other's entry. Both may; both then give way, and the packet is sent again.
#[inline(always)]
fn insert<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    key: &FlowKey<A>,
    value: &FlowValue<A>,
) -> Inserted {
    if table == FlowTable::Lru {
        env.use_lru();
    }
    let inserted = env.insert_flow(table, key, value);
    if table == FlowTable::Lru {
        // Again: the sweep may have found the table empty between.
        env.use_lru();
    }
    if inserted == Inserted::Done
        && (table == FlowTable::Lru || env.lru_used())
        && env.flow(table.other(), key).is_some()
    {
        env.delete_flow(table, key);
        return Inserted::Exists;
    }
    inserted
}

/// The entry of `key`, if it is of the same pair as an entry with `word`.
#[inline(always)]
pub(crate) fn owner<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    key: &FlowKey<A>,
    word: FlowWord,
) -> Option<(E::Flow, FlowWord)> {
    let flow = env.flow(table, key)?;
    let (state, _) = flow.peek();
    (state.id() == word.id()).then_some((flow, state))
}

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

/// The condition that both halves of a pair have idled for more than `limit` nanoseconds, or none.
///
/// Not an `Option`: the compiler may compute with the fields before it looks at the tag, and the verifier refuses
/// arithmetic on whatever an unset register holds.
#[derive(Clone, Copy)]
pub(crate) struct Idle {
    /// Now.
    pub(crate) now: u64,
    /// Longest time that leaves the pair alive.
    pub(crate) limit: u64,
    /// Whether there is a condition.
    pub(crate) required: bool,
}

impl Idle {
    /// The condition that the pair has idled for more than `limit`.
    #[inline(always)]
    pub(crate) const fn more_than(limit: u64, now: u64) -> Self {
        Self { now, limit, required: true }
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
    if !idle.holds(flow.peek().1) || !idle.holds(reverse_seen) {
        // Nobody else changes a dead word, so this cannot fail.
        flow.exchange(dead, word);
        return false;
    }
    let inward = flow.traffic();
    env.delete_flow(table, forward);
    let mut outward = Traffic::default();
    if let Some(other) = other {
        let (word, _) = other.peek();
        // What cannot be marked now is an orphan, and counted as such.
        if word.id() == dead.id() && bury(other, word) {
            outward = other.traffic();
            env.delete_flow(table, reverse);
        }
    }
    env.ended(service, backend, inward, outward);
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
    env.ended(value.service, value.backend, Traffic::default(), outward);
    true
}

/// Marks a reverse entry dead: the one who succeeds removes it.
#[inline(always)]
fn bury<A: Address, F: FlowRef<A>>(flow: F, word: FlowWord) -> bool {
    !word.state().has(FlowState::DEAD) && flow.exchange(word, word.with(FlowState::DEAD))
}
