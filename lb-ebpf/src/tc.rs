//! The stages of the packet path, at each point where it is hooked in.
//!
//! ```text
//! parse ─> flow hit? ──yes──> reopen? ──no──> state, counters ─> rewrite
//!             └─no─> service ─> endpoint ─> pair ─┘               └─> every exit: one reason, one counter
//! ```

use lb_common::{
    Addr4, Addr6, Config, Effect, FlowKind, FlowState, FlowValue, FlowWord, Point, Proto, Reason,
};

use crate::env::{Env, FlowRef, FlowTable};
use crate::family::Family;
use crate::flow::{self, Found, Hit, Idle, Opening, Pair, Phase};
use crate::parse::{self, NETWORK, Packet, Unparsed};
use crate::pkt::Pkt;
use crate::select::{self, Pick};
use crate::verdict::Verdict;
use crate::{reject, rewrite};

/// How a packet leaves the stages: rewritten, for this reason, possibly back where it came from.
struct Done {
    reason: Reason,
    redirect: bool,
}

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
    let packet = match parse::packet::<A, P>(pkt) {
        Ok(packet) => packet,
        Err(Unparsed::Reason(reason)) => return leave(env, reason),
        Err(Unparsed::Fragment(dst)) if env.address(&dst).is_some() => return leave(env, Reason::Fragment),
        Err(Unparsed::Fragment(_)) => return leave(env, Reason::NotService),
    };
    match serve(pkt, env, &packet) {
        Ok(done) => finish(pkt, env, done),
        Err(reason) if reason.effect() == Effect::Reject => reject::answer(pkt, env, &packet, reason),
        Err(reason) => leave(env, reason),
    }
}

/// Egress only undoes: it never selects.
#[inline(always)]
fn egress<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E) -> Verdict {
    let packet = match parse::packet::<A, P>(pkt) {
        Ok(packet) => packet,
        Err(Unparsed::Reason(reason)) => return leave(env, reason),
        Err(Unparsed::Fragment(_)) => return leave(env, Reason::NotService),
    };
    let mut value = FlowValue::default();
    let Some(hit) = flow::lookup(env, &packet.key, &mut value) else {
        return leave(env, Reason::NotService);
    };
    if value.point != Point::PodEgress as u8 {
        return leave(env, Reason::OtherPoint);
    }
    match follow(pkt, &packet, &hit, &value, env.now()) {
        Ok(done) => finish(pkt, env, done),
        Err(reason) => leave(env, reason),
    }
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

/// Counts a packet that was rewritten, and turns it round if it goes back.
#[inline(always)]
fn finish<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E, done: Done) -> Verdict {
    if !done.redirect {
        return leave(env, done.reason);
    }
    if !rewrite::turn_round(pkt) {
        return leave(env, Reason::RewriteFailed);
    }
    env.count(done.reason);
    Verdict::Redirect
}

/// A packet of a pod: by its flow, or by a new one.
#[inline(always)]
fn serve<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E, packet: &Packet<A>) -> Result<Done, Reason> {
    let now = env.now();
    let mut value = FlowValue::default();
    let Some(hit) = flow::lookup(env, &packet.key, &mut value) else {
        return open(pkt, env, packet, &mut value, now, Reason::FlowOpened);
    };
    if value.point != Point::PodIngress as u8 {
        return Err(Reason::OtherPoint);
    }
    let config = env.config().ok_or(Reason::InconsistentTables)?;
    let idle = match renewal(env, config, packet, &hit, &value, now) {
        Renewal::None => return follow(pkt, packet, &hit, &value, now),
        Renewal::IfServed if select::service(env, &packet.key).is_err() => {
            return follow(pkt, packet, &hit, &value, now);
        }
        Renewal::Idle(limit) => Some(Idle { now, limit }),
        Renewal::Over | Renewal::IfServed => None,
    };
    let reverse = value.other_key(packet.key.proto);
    let word = FlowWord(value.word);
    let found = Found {
        table: hit.table,
        flow: hit.flow,
        word,
        service: value.service,
        backend: value.backend,
    };
    if !flow::remove(env, &packet.key, &reverse, &found, idle) {
        return Err(Reason::FlowBusy);
    }
    open(pkt, env, packet, &mut value, now, Reason::FlowReopened)
}

/// Whether a packet that hit a flow starts a new one in its place.
enum Renewal {
    /// It does not.
    None,
    /// It does: the flow was closed.
    Over,
    /// It does if both halves have idled for so long, nanoseconds.
    Idle(u64),
    /// It does if the Service can serve at all: the flow's backend has stopped (B96, B98).
    IfServed,
}

#[inline(always)]
fn renewal<A: Family, E: Env<A>>(
    env: &E,
    config: &Config,
    packet: &Packet<A>,
    hit: &Hit<E::Flow>,
    value: &FlowValue<A>,
    now: u64,
) -> Renewal {
    let word = FlowWord(value.word);
    if value.kind != FlowKind::Forward as u8 || word.state().has(FlowState::DEAD) {
        return Renewal::None;
    }
    let lifetimes = &config.lifetimes;
    let idle = now.saturating_sub(value.seen);
    match packet.proto {
        Proto::Tcp if !packet.flags.opens() => return Renewal::None,
        Proto::Tcp => {}
        Proto::Udp => {
            let backend = env.backend(value.backend);
            if backend.generation() != value.generation || !backend.serving() {
                return Renewal::IfServed;
            }
            if idle <= Phase::Unreplied.lifetime(lifetimes) && idle <= Phase::Replied.lifetime(lifetimes) {
                return Renewal::None;
            }
        }
    }
    let reverse = value.other_key(packet.key.proto);
    let reverse = flow::owner(env, hit.table, &reverse, word);
    let (state, seen) = reverse.map_or((FlowState(0), 0), |(flow, word)| (word.state(), flow.peek().1));
    let phase = Phase::of(packet.proto, word.state(), state);
    let limit = phase.lifetime(lifetimes);
    if phase.is_over() {
        Renewal::Over
    } else if idle > limit && now.saturating_sub(seen) > limit {
        Renewal::Idle(limit)
    } else {
        Renewal::None
    }
}

/// A packet of a known flow.
#[inline(always)]
fn follow<A: Family, P: Pkt, F: FlowRef<A>>(
    pkt: &mut P,
    packet: &Packet<A>,
    hit: &Hit<F>,
    value: &FlowValue<A>,
    now: u64,
) -> Result<Done, Reason> {
    let forward = value.kind == FlowKind::Forward as u8;
    let word = FlowWord(value.word);
    let mut reason = if forward {
        Reason::FlowForward
    } else {
        Reason::FlowReverse
    };
    if word.state().has(FlowState::DEAD) {
        if forward && (packet.flags.opens() || packet.proto == Proto::Udp) {
            return Err(Reason::FlowBusy);
        }
        reason = Reason::FlowDying;
    } else {
        advance(hit.flow, word, packet.flags.state());
        hit.flow
            .touch(now, u64::from(pkt.length().saturating_sub(NETWORK)));
    }
    rewrite::apply(pkt, packet, &value.tuple)?;
    Ok(Done {
        reason,
        redirect: value.redirect != 0,
    })
}

/// Adds to the state of one direction.
///
/// Data after a reset shows that the reset was not believed (it was out of the window, or forged): it is taken back,
/// or an idle connection would lose its flow to one stray segment.
#[inline(always)]
fn advance<A: Family, F: FlowRef<A>>(flow: F, word: FlowWord, state: u8) {
    let next = |word: FlowWord| {
        if state & FlowState::DATA != 0 {
            word.with(state).without(FlowState::RST)
        } else {
            word.with(state)
        }
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

/// A packet without a flow, or whose flow has just been removed.
#[inline(always)]
fn open<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    packet: &Packet<A>,
    value: &mut FlowValue<A>,
    now: u64,
    opened: Reason,
) -> Result<Done, Reason> {
    let key = &packet.key;
    let served = select::service(env, key)?;
    let config = env.config().ok_or(Reason::InconsistentTables)?;
    // What begins in the middle must be placed alike by every node and at every retry, and may be evicted.
    let middle = packet.proto == Proto::Tcp && !packet.flags.opens();
    let (pick, table) = if middle {
        (Pick::Hash(key.hash()), FlowTable::Lru)
    } else {
        (Pick::Next, FlowTable::Main)
    };
    let slot = select::endpoint(env, &served, pick)?;
    let masquerade = if slot.addr == key.tuple.src {
        Some(config.node().ok_or(Reason::NoNodeAddress)?)
    } else {
        None
    };
    if packet.flags.resets() && masquerade.is_none() {
        let to = lb_common::Tuple {
            dst: slot.addr,
            dport: slot.port,
            ..key.tuple
        };
        rewrite::apply(pkt, packet, &to)?;
        return Ok(Done {
            reason: Reason::ResetPassedOn,
            redirect: false,
        });
    }
    let bytes = u64::from(pkt.length().saturating_sub(NETWORK));
    let state = packet.flags.state();
    let opening = Opening {
        key,
        proto: packet.proto,
        service: served.id,
        slot: &slot,
        masquerade,
        table,
        now,
        bytes,
        state,
    };
    let Pair {
        to,
        redirect,
        opened: made,
    } = flow::make(env, &opening, config, value)?;
    if made {
        env.opened(served.id, slot.backend);
    }
    rewrite::apply(pkt, packet, &to)?;
    let reason = match (made, middle) {
        (false, _) => Reason::FlowForward,
        (true, true) => Reason::FlowAdopted,
        (true, false) => opened,
    };
    Ok(Done { reason, redirect })
}
