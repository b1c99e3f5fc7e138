//! Packets without a flow, and those whose flow is to be replaced.

use lb_common::{Address, Effect, Endpoint, FlowState, FlowWord, Masquerade, Proto, Reason, Scratch, Tuple};

use super::Renewal;
use crate::cut::outcome;
use crate::env::Env;
use crate::family::Family;
use crate::flow::{self, Found, Idle, Made, Phase};
use crate::masquerade;
use crate::parse::Flags;
use crate::pkt::Pkt;
use crate::select::{self, Choice, Pick};

/// A packet without a flow, or with one that is to be replaced: finds out what it is to become.
#[inline(always)]
pub(super) fn open<A: Family, P: Pkt, E: Env<A>>(
    pkt: &P,
    env: &E,
    scratch: &mut Scratch<A>,
) -> Result<Reason, Reason> {
    match env.place(scratch)? {
        Placed::Kept => return Ok(Reason::FlowForward),
        Placed::Alone => return Ok(Reason::ResetPassedOn),
        Placed::Pair => {}
    }
    if scratch.masquerade == Masquerade::None as u8 && env.config().is_some_and(masquerade::possible::<A>) {
        env.masquerade(pkt, scratch)?;
    }
    let replaces = scratch.renewal != Renewal::None as u8;
    let middle = scratch.lru != 0;
    if env.make(scratch)? == Made::Joined {
        return Ok(Reason::FlowForward);
    }
    env.opened(scratch.service, scratch.backend);
    Ok(if middle {
        Reason::FlowAdopted
    } else if replaces {
        Reason::FlowReopened
    } else {
        Reason::FlowOpened
    })
}

outcome! {
    /// What a packet without a flow needs.
    Placed {
        /// A pair, from `scratch.key` to `scratch.to`.
        Pair = 0,
        /// Its rewrite alone: it ends a connection of which nothing is known.
        Alone = 1,
        /// Nothing new: its old flow is kept, since no endpoint serves (B98).
        Kept = 2,
    }
}

/// Selects an endpoint, and makes room where the packet's old flow is to be replaced.
#[inline(always)]
pub fn place<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Placed, Reason> {
    let flags = Flags(scratch.flags);
    let Tuple { src, dst, dport, .. } = scratch.key.tuple;
    let mut choice = Choice::new(Endpoint::new(dst, dport));
    choice.memory.client = src.to_mapped();
    let served = match select::service(env, &mut choice, scratch.key.proto) {
        Ok(served) => served,
        Err(_) if scratch.renewal == Renewal::IfServed as u8 => {
            return flow::join(env, scratch).map(|_| Placed::Kept);
        }
        Err(reason) => {
            let reason = select::unserved(env, scratch, reason);
            // Neither the packets that follow this one nor the answers to it must meet an ended flow.
            if reason.effect() == Effect::Pass {
                if scratch.renewal != Renewal::None as u8 {
                    env.clear(scratch)?;
                }
                if flags.opens() {
                    // What could not be removed does not hold up what is not ours.
                    let _ = env.make_way(scratch);
                }
            }
            return Err(reason);
        }
    };
    if scratch.renewal != Renewal::None as u8 {
        env.clear(scratch)?;
    }
    // What begins in the middle must be placed alike by every node and at every retry, and may be evicted.
    let middle = scratch.key.proto != Proto::Udp as u8 && !flags.opens();
    let pick = if middle { Pick::Hash(scratch.key.hash()) } else { Pick::Next };
    select::endpoint(env, &served, pick, &mut choice)?;
    let Choice { slot, memory, .. } = choice;
    scratch.service = memory.service;
    scratch.backend = slot.backend;
    scratch.generation = slot.generation;
    scratch.lru = u8::from(middle);
    scratch.masquerade = Masquerade::None as u8;
    scratch.to = Tuple { dst: slot.addr, dport: slot.port, ..scratch.key.tuple };
    if slot.addr == scratch.key.tuple.src {
        let config = env.config().ok_or(Reason::InconsistentTables)?;
        scratch.to.src = config.node().ok_or(Reason::NoNodeAddress)?;
        scratch.masquerade = Masquerade::Hairpin as u8;
    } else if flags.resets() {
        return Ok(Placed::Alone);
    }
    Ok(Placed::Pair)
}

outcome! {
    /// The packet's old flow.
    Cleared {
        /// It is gone.
        Gone = 0,
    }
}

/// Removes the flow that the packet hit.
#[inline(always)]
pub fn clear<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Cleared, Reason> {
    let Scratch { value, key, reverse, now, renewal, id, .. } = scratch;
    let config = env.config().ok_or(Reason::InconsistentTables)?;
    let proto = Proto::from_number(key.proto).ok_or(Reason::OtherProtocol)?;
    // Once more: a reference to the entry does not pass through memory. Gone meanwhile is as good as removed.
    let Some(hit) = flow::lookup(env, key, value) else {
        return Ok(Cleared::Gone);
    };
    let word = FlowWord(value.word);
    if word.id() != FlowWord(*id).id() {
        // Another CPU has begun a new flow here already.
        return Err(Reason::FlowBusy);
    }
    *reverse = value.other_key(key.proto);
    let answered = flow::owner(env, hit.table, reverse, word).map_or(FlowState(0), |(_, word)| word.state());
    let limit = Phase::of(proto, word.state(), answered).lifetime(&config.lifetimes);
    let idle = Idle { now: *now, limit, required: *renewal == Renewal::Idle as u8 };
    let found =
        Found { table: hit.table, flow: hit.flow, word, service: value.service, backend: value.backend };
    if flow::remove(env, key, reverse, &found, idle) { Ok(Cleared::Gone) } else { Err(Reason::FlowBusy) }
}
