//! A pair that both directions have confirmed: no embryo any more, and safe from eviction.

use lb_common::{Address, FlowKey, FlowKind, FlowState, FlowValue, FlowWord, Proto, Reason, Scratch};

use super::pair::insert;
use super::phase::{Phase, confirmed};
use super::remove::bury;
use super::{lookup, lookup_in};
use crate::cut::outcome;
use crate::env::{Env, FlowRef, FlowTable, Inserted, Note};

outcome! {
    /// Whether a pair is assured now.
    Assured {
        /// It is not: not confirmed yet, or changed by another CPU at this moment.
        No = 0,
        /// It is.
        Yes = 1,
        /// It is, and went from the LRU table to the main table.
        Moved = 2,
    }
}

/// Notes that the pair which has the entry `scratch.value` of `scratch.key` is assured, if both directions have confirmed
/// it, and moves it out of the LRU table if there is room. Its reverse entry is then as young as if a packet had come at
/// `scratch.now`.
///
/// The one truth is the bit in the forward word: whoever sets it in the main table takes the pair out of the count of
/// embryos. Each direction notes in its own word what it has shown and looks at the other's word after that, so of two
/// packets that confirm a pair at once at least one sees both; what is missed all the same the sweep makes good.
#[inline(always)]
pub fn assure<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Assured, Reason> {
    let Scratch { value, held, key, other, reverse, now, .. } = scratch;
    if value.kind == FlowKind::Forward as u8 {
        *other = *key;
        *reverse = value.other_key(key.proto);
    } else {
        *other = value.other_key(key.proto);
        *reverse = *key;
    }
    let Some(hit) = lookup(env, other, value) else {
        return Ok(Assured::No);
    };
    let Some(answer) = lookup_in(env, hit.table, reverse, held) else {
        return Ok(Assured::No);
    };
    let (word, back) = (FlowWord(value.word), FlowWord(held.word));
    let state = word.state();
    if word.id() != back.id() || state.has(FlowState::DEAD) || !confirmed(state, back.state()) {
        return Ok(Assured::No);
    }
    let assured = word.with(FlowState::ASSURED);
    if hit.table == FlowTable::Main {
        if state.has(FlowState::ASSURED) {
            return Ok(Assured::Yes);
        }
        if !hit.flow.exchange(word, assured) {
            return Ok(Assured::No);
        }
        env.add_note(Note::Settled, 1);
        return Ok(Assured::Yes);
    }
    let proto = Proto::from_number(other.proto).ok_or(Reason::FlowError)?;
    let stays = Phase::of(proto, state, back.state()).is_over() || env.note(Note::Full) != 0;
    let locked = assured.with(FlowState::DEAD | FlowState::MOVING);
    if !hit.flow.exchange(word, if stays { assured } else { locked }) {
        return Ok(Assured::No);
    }
    if stays {
        return Ok(Assured::Yes);
    }
    // Until the forward entry stands beside it the new reverse entry must not look like an orphan.
    held.seen = held.seen.max(*now);
    value.word = assured.0;
    value.seen = hit.flow.peek().1;
    if bury(answer, back) {
        if transfer(env, [other, reverse], [value, held], [hit.flow, answer]) {
            return Ok(Assured::Moved);
        }
        // Nobody else changes a dead word, so neither can fail.
        answer.exchange(back.with(FlowState::DEAD), back);
    }
    hit.flow.exchange(locked, assured);
    Ok(Assured::Yes)
}

/// Copies a locked pair into the main table, then removes it from the LRU table; forward and reverse in this order.
/// False if there is no room, or another pair has a key: nothing has changed then.
///
/// Whoever looks a key up finds it throughout: the main table is asked first, and once more where both have missed.
/// Either half may be evicted in the midst, which changes nothing: the copies are whole. Whoever then makes a new pair
/// of such a key looks at the other table after its insertion, as `insert` does here.
#[inline(always)]
fn transfer<A: Address, E: Env<A>>(
    env: &E,
    [forward, reverse]: [&FlowKey<A>; 2],
    [there, back]: [&mut FlowValue<A>; 2],
    entries: [E::Flow; 2],
) -> bool {
    // The counters of a dead entry stand still.
    let [inward, outward] = entries.map(FlowRef::traffic);
    (there.packets, there.bytes) = (inward.packets, inward.bytes);
    (back.packets, back.bytes) = (outward.packets, outward.bytes);
    let inserted = match insert(env, FlowTable::Main, reverse, back) {
        Inserted::Done => match insert(env, FlowTable::Main, forward, there) {
            Inserted::Done => {
                env.delete_flow(FlowTable::Lru, reverse);
                env.delete_flow(FlowTable::Lru, forward);
                return true;
            }
            inserted => {
                env.delete_flow(FlowTable::Main, reverse);
                inserted
            }
        },
        inserted => inserted,
    };
    if inserted == Inserted::Full {
        env.set_note(Note::Full, 1);
    }
    false
}
