//! Packets without a flow, and those whose flow is to be replaced.

use lb_common::{Address, Effect, Endpoint, Masquerade, Point, Proto, Reason, Scratch, Tuple};

use super::Renewal;
use crate::cut::outcome;
use crate::env::{Env, Sockets};
use crate::flow::{self, Made, Ousted, Terms};
use crate::masquerade;
use crate::parse::Flags;
use crate::select::{self, Asker, Choice, Pick};

/// A packet without a flow, or with one that is to be replaced: finds out what it is to become.
#[inline(always)]
pub(super) fn open<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Reason, Reason> {
    match select(env, scratch)? {
        Placed::Kept => return Ok(Reason::FlowForward),
        Placed::Alone => return Ok(Reason::ResetPassedOn),
        Placed::Pair | Placed::Keeping => {}
    }
    let replaces = scratch.renewal != Renewal::None as u8;
    let opened = opened(scratch);
    if make(env, scratch)? == Made::Joined {
        return Ok(Reason::FlowForward);
    }
    Ok(if replaces && opened == Reason::FlowOpened { Reason::FlowReopened } else { opened })
}

/// What the packet needs, and where it is to come from.
#[inline(always)]
pub(super) fn select<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Placed, Reason> {
    let placed = env.place(scratch)?;
    let possible = |config| masquerade::possible::<A>(config, scratch.point);
    let keeps = placed == Placed::Keeping && scratch.point != Point::OutwardIngress as u8;
    if matches!(placed, Placed::Pair | Placed::Keeping)
        && !keeps
        && scratch.masquerade == Masquerade::None as u8
        && env.config().is_some_and(possible)
    {
        env.masquerade(scratch)?;
    }
    Ok(placed)
}

/// Makes the pair that was selected.
#[inline(always)]
pub(super) fn make<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Made, Reason> {
    let made = env.make(scratch)?;
    if made == Made::Opened {
        env.opened(scratch.service, scratch.backend);
    }
    Ok(made)
}

/// The reason of the packet that begins the flow of its key.
#[inline(always)]
pub(super) const fn opened<A: Address>(scratch: &Scratch<A>) -> Reason {
    if middle(scratch) { Reason::FlowAdopted } else { Reason::FlowOpened }
}

/// Whether the packet is from the middle of a connection.
#[inline(always)]
const fn middle<A: Address>(scratch: &Scratch<A>) -> bool {
    scratch.key.proto != Proto::Udp as u8 && !Flags(scratch.flags).opens()
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
        /// A pair of a Service port that pods reach by their own addresses (B55).
        Keeping = 3,
    }
}

/// Selects an endpoint, and makes room where the packet's old flow is to be replaced.
#[inline(always)]
pub fn place<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Placed, Reason> {
    let flags = Flags(scratch.flags);
    let Tuple { src, dst, dport, .. } = scratch.key.tuple;
    let mut choice = Choice::new(Endpoint::new(dst, dport));
    choice.memory.client = src.to_mapped();
    let asker = Asker::Packet(scratch.interface);
    let served = match select::service(env, &mut choice, scratch.key.proto, asker) {
        Ok(served) => served,
        Err(_) if scratch.renewal == Renewal::IfServed as u8 => {
            return flow::join(env, scratch).map(|_| Placed::Kept);
        }
        Err(reason) => {
            let reason = select::unserved(env, scratch, reason);
            // Neither the packets that follow this one nor the answers to it must meet an ended flow.
            if reason.effect() == Effect::Pass {
                clear(env, scratch)?;
                if flags.opens() {
                    // What could not be removed does not hold up what is not ours.
                    let _ = env.make_way(scratch);
                }
            }
            return Err(reason);
        }
    };
    // Of connections that began before the node port, or before the agent, the flow table knows nothing.
    if served.by_node_port() && !flags.opens() && env.has_socket(&scratch.key, Sockets::Connected) {
        return Err(Reason::HostFlow);
    }
    scratch.service = choice.memory.service;
    // A flow whose backend has stopped goes on.
    if scratch.renewal != Renewal::IfServed as u8 {
        env.begin(scratch)?;
    }
    clear(env, scratch)?;
    // What begins in the middle must be placed alike by every node and at every retry, and may be evicted.
    let middle = middle(scratch);
    let pick = if middle { Pick::Hash(scratch.key.hash()) } else { Pick::Next };
    select::endpoint(env, &served, pick, &mut choice)?;
    let slot = choice.slot;
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
    Ok(if choice.keeping == 0 { Placed::Pair } else { Placed::Keeping })
}

/// Removes the flow that the packet hit, if that is to be replaced: `scratch.value`, in the table `scratch.found`.
#[inline(always)]
pub(super) fn clear<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<(), Reason> {
    if scratch.renewal == Renewal::None as u8 {
        return Ok(());
    }
    let idle = scratch.renewal == Renewal::Idle as u8;
    scratch.terms = if idle { Terms::Idle } else { Terms::Now } as u8;
    scratch.other = scratch.key;
    scratch.reverse = scratch.value.other_key(scratch.key.proto);
    if env.oust(scratch)? == Ousted::No { Err(Reason::FlowBusy) } else { Ok(()) }
}
