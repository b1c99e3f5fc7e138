//! The LRU table evicts each half of a pair by itself: the one that is left names the other.

use lb_common::{Address, FlowKind, FlowState, FlowWord, Reason, Scratch};

use super::pair::{fill, insert, owner};
use crate::cut::outcome;
use crate::env::{Env, FlowTable, Inserted};

outcome! {
    /// What became of half a pair.
    Mended {
        /// The other half is there.
        Whole = 0,
        /// It is not, and cannot be: another flow has its key, or the pair has gone.
        Broken = 1,
    }
}

/// Puts back the half that an LRU pair has lost, under the creation id of the other half: `scratch.value`, which stays.
/// The pair is that of the packet in `scratch.key`, which a forward half counts unless it is left to another program.
///
/// The pair may be locked at the same time, to be moved or removed. Whoever does that looks for the new half after he
/// has locked the one that was found, or has not locked it yet when it is looked at after the insertion.
#[inline(always)]
pub fn mend<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Mended, Reason> {
    let Scratch { value, held, key, reverse, to, .. } = scratch;
    let word = FlowWord(value.word);
    let found_forward = value.kind == FlowKind::Forward as u8;
    let mut points = (value.other_point, value.point);
    if found_forward {
        *reverse = value.other_key(key.proto);
        *to = value.tuple;
        points = (value.point, value.other_point);
    }
    *held = *value;
    (scratch.forward_point, scratch.reverse_point) = points;
    scratch.id = word.without(u8::MAX).with(if found_forward { 0 } else { FlowState::PUT_BACK }).0;
    scratch.service = value.service;
    scratch.backend = value.backend;
    scratch.generation = value.generation;
    scratch.masquerade = value.masquerade;
    fill(scratch, if found_forward { FlowKind::Reverse } else { FlowKind::Forward });
    let (absent, present) =
        if found_forward { (scratch.reverse, scratch.key) } else { (scratch.key, scratch.reverse) };
    let whole = match insert(env, FlowTable::Lru, &absent, &scratch.value) {
        Inserted::Done => {
            let found = owner(env, FlowTable::Lru, &present, word);
            let locked = found.is_none_or(|(_, word)| word.state().has(FlowState::DEAD));
            if locked {
                env.delete_flow(FlowTable::Lru, &absent);
            }
            // Whoever has locked the pair goes by what there was; this packet can, too.
            found.is_some() || owner(env, FlowTable::Main, &absent, word).is_some()
        }
        Inserted::Exists => owner(env, FlowTable::Lru, &absent, word).is_some(),
        Inserted::Full | Inserted::Failed => false,
    };
    scratch.value = scratch.held;
    Ok(if whole { Mended::Whole } else { Mended::Broken })
}
