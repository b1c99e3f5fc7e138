//! A pair that stands in a packet's way, and the terms on which it goes.

use lb_common::{Address, FlowKind, FlowWord, Proto, Reason, Scratch};

use super::phase::{Phase, seconds};
use super::remove::{Found, Idle, remove, remove_orphan};
use super::{Hit, owner};
use crate::cut::{Outcome as _, outcome};
use crate::env::{Env, FlowTable};

outcome! {
    /// When a pair may be removed for a packet.
    Terms {
        /// At any time.
        Now = 0,
        /// Once both halves have idled for the lifetime of their phase.
        Idle = 1,
        /// Once it is over, or has idled.
        Over = 2,
        /// Once it has been over for a while, or has idled: a port is not used again at once.
        Rested = 3,
    }
}

outcome! {
    /// What became of a pair.
    Ousted {
        /// It stays.
        No = 0,
        /// It is gone by this call.
        Yes = 1,
        /// It was gone already.
        Gone = 2,
    }
}

/// Removes the pair of the forward entry `scratch.other` and the reverse entry `scratch.reverse`, on the terms
/// `scratch.terms`. `scratch.value` is a copy of one of them, which was found in the table `scratch.found`. A reverse entry
/// without a forward one goes as an orphan does.
#[inline(always)]
pub fn oust<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Ousted, Reason> {
    let Scratch { value, key, reverse, other, now, terms, found, .. } = scratch;
    let config = env.config().ok_or(Reason::InconsistentTables)?;
    let proto = Proto::from_number(key.proto).ok_or(Reason::FlowError)?;
    let terms = Terms::of(*terms).ok_or(Reason::FlowError)?;
    let table = FlowTable::of(*found);
    let known = FlowWord(value.word);
    let backward = value.kind == FlowKind::Reverse as u8;
    let Some((flow, word)) = owner(env, table, other, known) else {
        if backward && let Some(flow) = env.flow(table, reverse) {
            let hit = Hit { table, flow };
            let gone = remove_orphan(env, reverse, &hit, value, *now, config);
            return Ok(if gone { Ousted::Yes } else { Ousted::No });
        }
        return Ok(if env.flow(table, other).is_some() { Ousted::No } else { Ousted::Gone });
    };
    let back = if backward {
        known
    } else {
        owner(env, table, reverse, known).map_or(FlowWord(0), |(_, word)| word)
    };
    let phase = Phase::of(proto, word.state(), back.state());
    let lifetime = phase.lifetime(&config.lifetimes);
    let idle = match terms {
        Terms::Now => Idle::NONE,
        Terms::Over if phase.is_over() => Idle::unchanged(back),
        Terms::Rested if phase.is_over() => Idle::more_than(seconds(config.lifetimes.reuse_closed), *now),
        Terms::Idle | Terms::Over | Terms::Rested => Idle::more_than(lifetime, *now),
    };
    let found = Found { table, flow, word, service: value.service, backend: value.backend };
    Ok(if remove(env, other, reverse, &found, idle) { Ousted::Yes } else { Ousted::No })
}
