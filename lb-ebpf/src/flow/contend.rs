//! What a reverse entry is good for that stands in the way: of another pair's, or of answers that are no Service's.

use lb_common::{Address, Config, FlowKey, FlowKind, FlowState, FlowWord, Proto, Reason, Scratch};

use super::phase::{Phase, seconds};
use super::remove::{Found, Idle, remove, remove_orphan};
use super::{Hit, lookup, owner};
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
    let config = env.config().ok_or(Reason::FlowError)?;
    let Some(hit) = lookup(env, &scratch.reverse, &mut scratch.value) else {
        return Ok(Contention::Freed);
    };
    let Scratch { value, key, other, now, .. } = scratch;
    let word = FlowWord(value.word);
    if value.kind != FlowKind::Reverse as u8 {
        return Ok(Contention::Taken);
    }
    let own = value.tuple == key.tuple.reverse();
    *other = value.other_key(key.proto);
    let forward = owner(env, hit.table, other, word);
    let alone = forward.is_none();
    let rest = Idle::more_than(seconds(config.lifetimes.reuse_closed), *now);
    let freed = (!own || alone) && oust(env, scratch, config, &hit, forward, rest)?;
    if freed {
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
    let config = env.config().ok_or(Reason::FlowError)?;
    scratch.reverse = FlowKey::new(scratch.key.tuple.reverse(), scratch.key.proto);
    let Some(hit) = lookup(env, &scratch.reverse, &mut scratch.value) else {
        return Ok(Contention::Freed);
    };
    let Scratch { value, key, other, .. } = scratch;
    if value.kind != FlowKind::Reverse as u8 || value.tuple.dst != key.tuple.src {
        return Ok(Contention::Taken);
    }
    *other = value.other_key(key.proto);
    let forward = owner(env, hit.table, other, FlowWord(value.word));
    let ousted = oust(env, scratch, config, &hit, forward, Idle::NONE)?;
    Ok(if ousted { Contention::Freed } else { Contention::Taken })
}

/// Removes the pair of the reverse entry `hit`, a copy of which is `scratch.value`, and of the entry `forward` of
/// `scratch.other`: if it has idled out, or if it is over and `rest` holds. Without a forward entry, the orphan.
#[inline(always)]
fn oust<A: Address, E: Env<A>>(
    env: &E,
    scratch: &Scratch<A>,
    config: &Config,
    hit: &Hit<E::Flow>,
    forward: Option<(E::Flow, FlowWord)>,
    rest: Idle,
) -> Result<bool, Reason> {
    let Scratch { value, key, reverse, other, now, .. } = scratch;
    let proto = Proto::from_number(key.proto).ok_or(Reason::FlowError)?;
    let Some((flow, word)) = forward else {
        return Ok(remove_orphan(env, reverse, hit, value, *now, config));
    };
    let phase = Phase::of(proto, word.state(), FlowWord(value.word).state());
    let idle = if phase.is_over() { rest } else { Idle::more_than(phase.lifetime(&config.lifetimes), *now) };
    let found = Found { table: hit.table, flow, word, service: value.service, backend: value.backend };
    Ok(remove(env, other, reverse, &found, idle))
}
