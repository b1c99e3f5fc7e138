//! How two entries are made as one: reverse first, then forward, neither replacing anything. Who loses the forward uses
//! the winner's tuple and takes its own reverse away again.

use lb_common::{Address, FlowKey, FlowKind, FlowState, FlowValue, FlowWord, Masquerade, Reason, Scratch};

use super::contend::Contention;
use super::{lookup, room};
use crate::cut::outcome;
use crate::env::{Env, FlowRef, FlowTable, Inserted, Note, Sockets, note};
use crate::masquerade;
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

/// Makes the pair of `scratch.key` and `scratch.to`, or finds the one that another CPU made meanwhile. The search for a
/// free source port may change `scratch.to`, a lost race all of it.
///
/// Expects in `scratch` what the entries are filled with: now, bytes, flags, point, service, backend, generation,
/// masquerade and the table to begin with. No bytes: the packet is left to another program, which counts it.
#[inline(always)]
pub fn make<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Made, Reason> {
    scratch.id = number(env)?.0;
    scratch.forward_point = scratch.point;
    scratch.reverse_point = masquerade::answers(scratch.masquerade, scratch.point);
    scratch.draw = u8::from(scratch.masquerade != Masquerade::None as u8);
    if room::crowded(env, scratch.now) {
        scratch.lru = 1;
    }
    for _ in 0..TRIES {
        match env.attempt(scratch)? {
            Attempt::Opened => return Ok(Made::Opened),
            Attempt::Joined => return Ok(Made::Joined),
            Attempt::Again => {}
            Attempt::Contended => match env.contend(scratch)? {
                Contention::Own => return Ok(Made::Joined),
                Contention::Alone => return env.mend(scratch).map(|_| Made::Joined),
                Contention::Freed => {}
                Contention::Taken => scratch.draw = 1,
            },
        }
    }
    Err(Reason::SnatPortsExhausted)
}

/// A creation id that nobody has had, as a word without any state.
#[inline(always)]
pub(super) fn number<A: Address, E: Env<A>>(env: &E) -> Result<FlowWord, Reason> {
    let count = env.with_cpu(|cpu| {
        cpu.pairs = cpu.pairs.wrapping_add(1);
        cpu.pairs
    });
    Ok(FlowWord::new(env.cpu(), count.ok_or(Reason::FlowError)?, 0))
}

/// One attempt at a pair: reverse, then forward.
#[inline(always)]
pub fn attempt<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Attempt, Reason> {
    let step = scratch.draw;
    if step != 0 {
        let cursor = env.port_cursor(scratch.backend, step.into());
        let number = crate::ports::number(scratch.backend, cursor);
        let port = env.config().and_then(|config| crate::ports::nth(&config.snat_ports, number));
        scratch.to.sport = port.ok_or(Reason::SnatPortsExhausted)?;
        // The next attempt keeps it, unless it proves to be taken: an ended pair may be removed to free it.
        scratch.draw = 0;
    }
    let table = if scratch.lru != 0 { FlowTable::Lru } else { FlowTable::Main };
    scratch.reverse = FlowKey::new(scratch.to.reverse(), scratch.key.proto);
    // A port that is bound by number may be one of the reserved ones, and thousands beside it as well.
    if step != 0 && env.has_socket(&scratch.reverse, Sockets::Receiving) {
        scratch.draw = step.saturating_mul(2);
        return Ok(Attempt::Again);
    }
    fill(scratch, FlowKind::Reverse);
    // Who looks a key up asks the main table first: an entry that is to give way must not hide, be it for a moment, what
    // lives in the other one.
    let taken = table == FlowTable::Main
        && env.lru_used()
        && anothers(env, FlowTable::Lru, &scratch.reverse, &scratch.value);
    let inserted =
        if taken { Inserted::Exists } else { insert(env, table, &scratch.reverse, &scratch.value) };
    match inserted {
        Inserted::Done => {}
        Inserted::Exists => return Ok(Attempt::Contended),
        Inserted::Full => return spill(env, scratch),
        Inserted::Failed => return Err(Reason::FlowError),
    }
    fill(scratch, FlowKind::Forward);
    let outcome = match insert(env, table, &scratch.key, &scratch.value) {
        Inserted::Done => {
            if table == FlowTable::Main {
                env.add_note(Note::Begun, 1);
            }
            return Ok(Attempt::Opened);
        }
        Inserted::Exists => join(env, scratch),
        Inserted::Full => spill(env, scratch),
        Inserted::Failed => Err(Reason::FlowError),
    };
    if outcome == Ok(Attempt::Joined) && FlowWord(scratch.value.word).id() == FlowWord(scratch.id).id() {
        // A packet that met the reverse entry alone has put the forward entry beside it: the pair is this one.
        return Ok(Attempt::Opened);
    }
    if owner(env, table, &scratch.reverse, FlowWord(scratch.id)).is_some() {
        env.delete_flow(table, &scratch.reverse);
    }
    outcome
}

/// The table is full: on to the LRU table, the last one.
#[inline(always)]
fn spill<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Attempt, Reason> {
    if scratch.lru != 0 {
        return Err(Reason::FlowTableFull);
    }
    env.set_note(Note::Full, 1);
    scratch.lru = 1;
    Ok(Attempt::Again)
}

/// Builds one half of the pair in `scratch.value`.
#[inline(always)]
pub(super) fn fill<A: Address>(scratch: &mut Scratch<A>, kind: FlowKind) {
    let Scratch { value, key, reverse, to, .. } = scratch;
    let id = FlowWord(scratch.id);
    let forward = matches!(kind, FlowKind::Forward);
    let points = (scratch.forward_point, scratch.reverse_point);
    let (point, other) = if forward { points } else { (points.1, points.0) };
    value.word = id.with(if forward { Flags(scratch.flags).state() } else { 0 }).0;
    value.seen = scratch.now;
    value.packets = u64::from(forward && scratch.bytes != 0);
    value.bytes = if forward { scratch.bytes } else { 0 };
    value.tuple = if forward { *to } else { key.tuple.reverse() };
    value.service = scratch.service;
    value.backend = scratch.backend;
    value.generation = scratch.generation;
    value.point = point;
    value.kind = kind as u8;
    value.masquerade = scratch.masquerade;
    value.other_point = other;
    value.check = FlowValue::check_of(if forward { key } else { reverse }, id.id());
}

/// The forward entry that is there, made by another CPU or long ago, holds for this packet too.
#[inline(always)]
pub(crate) fn join<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Attempt, Reason> {
    let Scratch { value, key, to, .. } = scratch;
    let hit = lookup(env, key, value).ok_or(Reason::FlowBusy)?;
    let state = FlowWord(value.word).state();
    if state.ends() {
        return Err(Reason::FlowBusy);
    }
    if scratch.bytes != 0 && !state.has(FlowState::DEAD) {
        hit.flow.touch(scratch.now, scratch.bytes);
    }
    *to = value.tuple;
    scratch.masquerade = value.masquerade;
    Ok(Attempt::Joined)
}

/// Inserts into `table` and gives way if the other table, the same name space, has the key in another pair.
///
/// The look at the other table comes after the insertion: of two CPUs that insert the same key into different tables
/// at least one sees the other's entry. Both may; both then give way, and the packet is sent again.
#[inline(always)]
pub(super) fn insert<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    key: &FlowKey<A>,
    value: &FlowValue<A>,
) -> Inserted {
    // Before anybody can look for it.
    env.mark(key.tuple.known(value.point));
    let inserted = env.insert_flow(table, key, value);
    if table == FlowTable::Lru && env.note(Note::LruUsed) != note::USED {
        env.set_note(Note::LruUsed, note::USED);
    }
    if inserted == Inserted::Done
        && (table == FlowTable::Lru || env.lru_used())
        && anothers(env, table.other(), key, value)
    {
        env.delete_flow(table, key);
        return Inserted::Exists;
    }
    inserted
}

/// Whether `table` has `key` in another pair than that of `value`.
#[inline(always)]
fn anothers<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    key: &FlowKey<A>,
    value: &FlowValue<A>,
) -> bool {
    env.flow(table, key).is_some_and(|flow| flow.peek().0.id() != FlowWord(value.word).id())
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
