//! What a reverse entry is good for that stands in the way: of another pair's, or of answers that are no Service's.

use lb_common::{Address, FlowKey, FlowKind, FlowState, FlowWord, Reason, Scratch};

use super::{Ousted, Terms, lookup, owner};
use crate::cut::outcome;
use crate::env::{Env, FlowTable};

outcome! {
    /// What was found where a reverse entry was to go.
    Contention {
        /// Another flow: try another port.
        Taken = 0,
        /// The reverse entry of this very flow.
        Own = 1,
        /// Nothing any more: try again with the same port.
        Freed = 2,
        /// The reverse entry of this very flow, whose forward entry was evicted.
        Alone = 3,
    }
}

/// Looks at the entry that stands where the reverse entry `scratch.reverse` of the flow `scratch.key` was to go, and
/// removes it if it is of no use.
#[inline(always)]
pub fn contend<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Contention, Reason> {
    let Some(hit) = lookup(env, &scratch.reverse, &mut scratch.value) else {
        return Ok(Contention::Freed);
    };
    let Scratch { value, key, other, terms, found, .. } = scratch;
    let word = FlowWord(value.word);
    if value.kind != FlowKind::Reverse as u8 {
        return Ok(Contention::Taken);
    }
    let own = value.tuple == key.tuple.reverse();
    *other = value.other_key(key.proto);
    let alone = owner(env, hit.table, other, word).is_none();
    (*terms, *found) = (Terms::Rested as u8, hit.table as u8);
    if (!own || alone) && env.oust(scratch)? == Ousted::Yes {
        Ok(Contention::Freed)
    } else if !own {
        Ok(Contention::Taken)
    } else if word.state().has(FlowState::DEAD) {
        Err(Reason::FlowBusy)
    } else if alone && hit.table == FlowTable::Lru && word.state().0 != 0 {
        Ok(Contention::Alone)
    } else {
        // What nobody has answered through may be that of a CPU which is about to insert the other half.
        Ok(Contention::Own)
    }
}

/// Looks at the reverse entry that would take the answers to the packet of `scratch.key`, which opens a connection past
/// all Services, for those of a flow, and removes that if it has ended.
///
/// One that is over goes at once: the client itself uses the port again, and a rest would never end, for each answer that
/// is led astray refreshes the entry. It must be a flow of the packet's own source, so nobody ends another's.
#[inline(always)]
pub fn make_way<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Contention, Reason> {
    scratch.reverse = FlowKey::new(scratch.key.tuple.reverse(), scratch.key.proto);
    let Some(hit) = lookup(env, &scratch.reverse, &mut scratch.value) else {
        return Ok(Contention::Freed);
    };
    let Scratch { value, key, other, terms, found, .. } = scratch;
    if value.kind != FlowKind::Reverse as u8 || value.tuple.dst != key.tuple.src {
        return Ok(Contention::Taken);
    }
    *other = value.other_key(key.proto);
    (*terms, *found) = (Terms::Over as u8, hit.table as u8);
    Ok(if env.oust(scratch)? == Ousted::Yes { Contention::Freed } else { Contention::Taken })
}
