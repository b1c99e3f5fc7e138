//! The stages of the packet path, at each point where it is hooked in.
//!
//! ```text
//! parse ─> flow hit? ──yes──> reopen? ──no──> state, counters ─> rewrite
//!             └─no─> service ─> endpoint ─> pair ─┘               └─> every exit: one reason, one counter
//! ```

use lb_common::{
    Addr4, Addr6, Address, Effect, FlowKind, FlowState, FlowWord, Point, Proto, Reason, Scratch, Tuple,
};

use crate::cut::outcome;
use crate::env::{Env, FlowRef, FlowTable};
use crate::family::Family;
use crate::flow::{self, Found, Hit, Idle, Made, Phase};
use crate::parse::{self, Flags, NETWORK, Unparsed};
use crate::pkt::Pkt;
use crate::rewrite;
use crate::select::{self, Pick};
use crate::verdict::Verdict;

/// A packet that a pod sends, at tcx ingress of the interface that faces the pod.
#[inline(always)]
pub fn pod_ingress<P: Pkt, E: Env<Addr4> + Env<Addr6>>(pkt: &mut P, env: &E) -> Verdict {
    match parse::family(pkt) {
        Some(4) => ingress::<Addr4, P, E>(pkt, env),
        Some(_) => ingress::<Addr6, P, E>(pkt, env),
        None => leave::<Addr4, E>(env, Reason::NotIp),
    }
}

/// A packet that a pod is sent, at tcx egress of the interface that faces the pod.
#[inline(always)]
pub fn pod_egress<P: Pkt, E: Env<Addr4> + Env<Addr6>>(pkt: &mut P, env: &E) -> Verdict {
    match parse::family(pkt) {
        Some(4) => egress::<Addr4, P, E>(pkt, env),
        Some(_) => egress::<Addr6, P, E>(pkt, env),
        None => leave::<Addr4, E>(env, Reason::NotIp),
    }
}

#[inline(always)]
fn ingress<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E) -> Verdict {
    let Some(mut scratch) = env.scratch() else {
        return leave(env, Reason::NotService);
    };
    let scratch = &mut *scratch;
    match parse::packet(pkt, scratch) {
        Ok(()) => {}
        Err(Unparsed::Reason(reason)) => return leave(env, reason),
        Err(Unparsed::Fragment(dst)) if env.address(&dst).is_some() => return leave(env, Reason::Fragment),
        Err(Unparsed::Fragment(_)) => return leave(env, Reason::NotService),
    }
    scratch.now = env.now();
    scratch.renewal = Renewal::None as u8;
    if let Some(hit) = flow::lookup(env, &scratch.key, &mut scratch.value) {
        if scratch.value.point != Point::PodIngress as u8 {
            return leave(env, Reason::OtherPoint);
        }
        let renewal = renewal(env, &hit, scratch);
        if renewal == Renewal::None {
            return follow(pkt, env, &hit, scratch);
        }
        scratch.renewal = renewal as u8;
    }
    scratch.bytes = length(pkt);
    match open(env, scratch) {
        Ok(reason) => translate(pkt, env, scratch, reason),
        Err(reason) if reason.effect() == Effect::Reject => match env.reject(pkt, reason, scratch) {
            Ok(verdict) => verdict,
            Err(reason) => leave(env, reason),
        },
        Err(reason) => leave(env, reason),
    }
}

/// Egress only undoes: it never selects.
#[inline(always)]
fn egress<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E) -> Verdict {
    let Some(mut scratch) = env.scratch() else {
        return leave(env, Reason::NotService);
    };
    let scratch = &mut *scratch;
    match parse::packet(pkt, scratch) {
        Ok(()) => {}
        Err(Unparsed::Reason(reason)) => return leave(env, reason),
        Err(Unparsed::Fragment(_)) => return leave(env, Reason::NotService),
    }
    let Some(hit) = flow::lookup(env, &scratch.key, &mut scratch.value) else {
        return leave(env, Reason::NotService);
    };
    if scratch.value.point != Point::PodEgress as u8 {
        return leave(env, Reason::OtherPoint);
    }
    scratch.now = env.now();
    follow(pkt, env, &hit, scratch)
}

/// Counts a packet that was not rewritten.
#[inline(always)]
fn leave<A: Family, E: Env<A>>(env: &E, reason: Reason) -> Verdict {
    env.count(reason);
    match reason.effect() {
        Effect::Pass | Effect::Translate => Verdict::Pass,
        Effect::Reject | Effect::Drop => Verdict::Drop,
    }
}

/// Rewrites the packet from `scratch.key` to `scratch.to`, counts it, and turns it round if it goes back.
#[inline(always)]
fn translate<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    scratch: &Scratch<A>,
    reason: Reason,
) -> Verdict {
    let Scratch { key, to, transport, redirect, .. } = scratch;
    let Some(proto) = Proto::from_number(key.proto) else {
        return leave(env, Reason::OtherProtocol);
    };
    if !rewrite::apply(pkt, proto, *transport, &key.tuple, to) {
        return leave(env, Reason::RewriteFailed);
    }
    if *redirect == 0 {
        return leave(env, reason);
    }
    if !rewrite::turn_round(pkt) {
        return leave(env, Reason::RewriteFailed);
    }
    env.count(reason);
    Verdict::Redirect
}

/// Whether and how a packet that hit a flow starts a new one in its place.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// It does not, or there is no flow.
    None = 0,
    /// It does: the flow was closed, or lacks its reverse entry.
    Over = 1,
    /// It does if both halves have idled for their lifetime.
    Idle = 2,
    /// It does if the Service can serve at all: the flow's backend has stopped (B96, B98).
    IfServed = 3,
}

#[inline(always)]
fn renewal<A: Family, E: Env<A>>(env: &E, hit: &Hit<E::Flow>, scratch: &mut Scratch<A>) -> Renewal {
    let Scratch { value, key, reverse, now, flags, id, .. } = scratch;
    let word = FlowWord(value.word);
    *id = value.word;
    if value.kind != FlowKind::Forward as u8 || word.state().has(FlowState::DEAD) {
        return Renewal::None;
    }
    let (Some(config), Some(proto)) = (env.config(), Proto::from_number(key.proto)) else {
        return Renewal::None;
    };
    let lifetimes = &config.lifetimes;
    let idle = now.saturating_sub(value.seen);
    // Out of the LRU table each half is evicted by itself.
    let whole = hit.table == FlowTable::Main;
    let opens = Flags(*flags).opens();
    match proto {
        Proto::Tcp if whole && !opens => return Renewal::None,
        Proto::Tcp => {}
        Proto::Udp => {
            let backend = env.backend(value.backend);
            if backend.generation() != value.generation || !backend.serving() {
                return Renewal::IfServed;
            }
            let fresh =
                idle <= Phase::Unreplied.lifetime(lifetimes) && idle <= Phase::Replied.lifetime(lifetimes);
            if whole && fresh {
                return Renewal::None;
            }
        }
    }
    *reverse = value.other_key(key.proto);
    let answered = flow::owner(env, hit.table, reverse, word);
    let (state, seen) = answered.map_or((FlowState(0), 0), |(flow, word)| (word.state(), flow.peek().1));
    let phase = Phase::of(proto, word.state(), state);
    let limit = phase.lifetime(lifetimes);
    // Without its reverse entry (evicted, or swept from under a CPU that was held up for long) no answer comes back.
    let broken = answered.is_none() && (proto == Proto::Tcp || !whole);
    if broken {
        Renewal::Over
    } else if proto == Proto::Tcp && !opens {
        Renewal::None
    } else if phase.is_over() {
        Renewal::Over
    } else if idle > limit && now.saturating_sub(seen) > limit {
        Renewal::Idle
    } else {
        Renewal::None
    }
}

/// A packet of a known flow.
#[inline(always)]
fn follow<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    hit: &Hit<E::Flow>,
    scratch: &mut Scratch<A>,
) -> Verdict {
    let Scratch { value, key, to, flags, now, redirect, .. } = scratch;
    let flags = Flags(*flags);
    let forward = value.kind == FlowKind::Forward as u8;
    let word = FlowWord(value.word);
    *to = value.tuple;
    *redirect = value.redirect;
    let mut reason = if forward { Reason::FlowForward } else { Reason::FlowReverse };
    if word.state().has(FlowState::DEAD) {
        if forward && (flags.opens() || key.proto == Proto::Udp as u8) {
            return leave(env, Reason::FlowBusy);
        }
        reason = Reason::FlowDying;
    } else {
        advance(hit.flow, word, flags.state());
        hit.flow.touch(*now, length(pkt));
    }
    translate(pkt, env, scratch, reason)
}

/// Bytes of a packet from its network header on.
#[inline(always)]
fn length<P: Pkt>(pkt: &P) -> u64 {
    u64::from(pkt.length().saturating_sub(NETWORK))
}

/// Adds to the state of one direction.
///
/// Data after a reset shows that the reset was not believed (it was out of the window, or forged): it is taken back,
/// or an idle connection would lose its flow to one stray segment.
#[inline(always)]
fn advance<A: Family, F: FlowRef<A>>(flow: F, word: FlowWord, state: u8) {
    let next = |word: FlowWord| {
        let word = if state & FlowState::DATA != 0 { word.without(FlowState::RST) } else { word };
        word.with(state)
    };
    if next(word) == word || flow.exchange(word, next(word)) {
        return;
    }
    // Another CPU changed the state between; what is lost now the next packet would repeat, but not a FIN.
    let (current, _) = flow.peek();
    if current.id() == word.id() && !current.state().has(FlowState::DEAD) {
        flow.exchange(current, next(current));
    }
}

/// A packet without a flow, or with one that is to be replaced: finds out what it is to become.
#[inline(always)]
fn open<A: Family, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Reason, Reason> {
    match env.place(scratch)? {
        Placed::Kept => return Ok(Reason::FlowForward),
        Placed::Alone => return Ok(Reason::ResetPassedOn),
        Placed::Pair => {}
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
    let Tuple { dst, dport, .. } = scratch.key.tuple;
    let served = match select::service(env, &dst, dport, scratch.key.proto) {
        Ok(served) => served,
        Err(_) if scratch.renewal == Renewal::IfServed as u8 => {
            return flow::join(env, scratch).map(|_| Placed::Kept);
        }
        Err(reason) => return Err(reason),
    };
    if scratch.renewal != Renewal::None as u8 {
        env.clear(scratch)?;
    }
    // What begins in the middle must be placed alike by every node and at every retry, and may be evicted.
    let middle = scratch.key.proto == Proto::Tcp as u8 && !flags.opens();
    let pick = if middle { Pick::Hash(scratch.key.hash()) } else { Pick::Next };
    let slot = select::endpoint(env, &served, pick)?;
    scratch.service = served.id;
    scratch.backend = slot.backend;
    scratch.generation = slot.generation;
    scratch.lru = u8::from(middle);
    scratch.masquerade = 0;
    scratch.redirect = 0;
    scratch.to = Tuple { dst: slot.addr, dport: slot.port, ..scratch.key.tuple };
    if slot.addr == scratch.key.tuple.src {
        let config = env.config().ok_or(Reason::InconsistentTables)?;
        scratch.to.src = config.node().ok_or(Reason::NoNodeAddress)?;
        scratch.masquerade = 1;
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
