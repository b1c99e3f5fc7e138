//! Packets of known flows.

use lb_common::{Address, FlowKind, FlowState, FlowWord, Masquerade, NOBODYS, Proto, Reason, Scratch};

use super::open::opened;
use super::{discard, go_on, join, leave, length};
use crate::cut::{Outcome, outcome};
use crate::env::{Env, FlowRef, FlowTable};
use crate::family::Family;
use crate::flow::{self, Hit, Mended, Phase};
use crate::parse::{Flags, Part};
use crate::pkt::Pkt;
use crate::rewrite;
use crate::verdict::Verdict;

outcome! {
    /// Whether and how a packet that hit a flow starts a new one in its place.
    Renewal {
        /// It does not, or there is no flow.
        None = 0,
        /// It does: the flow was closed, or lacks its reverse entry.
        Over = 1,
        /// It does if both halves have idled for their lifetime.
        Idle = 2,
        /// It does if the Service can serve at all: the flow's backend has stopped (B96, B98).
        IfServed = 3,
    }
}

#[inline(always)]
pub(super) fn renewal<A: Family, E: Env<A>>(
    env: &E,
    hit: &Hit<E::Flow>,
    scratch: &mut Scratch<A>,
) -> Renewal {
    let Scratch { value, key, now, flags, lru, renewal, .. } = scratch;
    let word = FlowWord(value.word);
    if value.kind != FlowKind::Forward as u8 || word.state().has(FlowState::DEAD) {
        return Renewal::None;
    }
    let Some(proto) = Proto::from_number(key.proto) else { return Renewal::None };
    // Out of the LRU table each half is evicted by itself.
    let whole = hit.table == FlowTable::Main;
    let opens = Flags(*flags).opens();
    // Of most packets nothing else need be asked.
    if proto != Proto::Udp && whole && !opens {
        return Renewal::None;
    }
    let Some(config) = env.config() else { return Renewal::None };
    let lifetimes = &config.lifetimes;
    let idle = now.saturating_sub(value.seen);
    let mut otherwise = Renewal::None;
    match proto {
        Proto::Tcp | Proto::Sctp => {}
        Proto::Udp => {
            let backend = env.backend(value.backend);
            // The host's own has no backend to lose.
            let stopped =
                value.service != NOBODYS && (backend.generation() != value.generation || !backend.serving());
            if stopped {
                otherwise = Renewal::IfServed;
            }
            let fresh =
                idle <= Phase::Unreplied.lifetime(lifetimes) && idle <= Phase::Replied.lifetime(lifetimes);
            if fresh && (whole || stopped) {
                return otherwise;
            }
        }
    }
    (*lru, *renewal) = (u8::from(!whole), otherwise as u8);
    env.renew(scratch).unwrap_or(otherwise)
}

/// The part of it that looks at the reverse entry. Expects in `scratch` the entry that was found, in which table, and
/// what is done with it `otherwise`, which is the error.
#[inline(always)]
pub fn renew<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Renewal, Reason> {
    let Scratch { value, key, reverse, now, flags, lru, renewal, .. } = scratch;
    let word = FlowWord(value.word);
    let (config, proto) =
        (env.config().ok_or(Reason::FlowError)?, Proto::from_number(key.proto).ok_or(Reason::FlowError)?);
    let lifetimes = &config.lifetimes;
    let idle = now.saturating_sub(value.seen);
    let opens = Flags(*flags).opens();
    let otherwise = Renewal::of(*renewal).ok_or(Reason::FlowError)?;
    let (whole, table) = if *lru == 0 { (true, FlowTable::Main) } else { (false, FlowTable::Lru) };
    *reverse = value.other_key(key.proto);
    let answered = flow::owner(env, table, reverse, word);
    let (state, seen) = answered.map_or((FlowState(0), 0), |(flow, word)| (word.state(), flow.peek().1));
    let phase = Phase::of(proto, word.state(), state);
    let limit = phase.lifetime(lifetimes);
    // Without its reverse entry (evicted, or swept from under a CPU that was held up for long) no answer comes back.
    let broken = answered.is_none() && (proto != Proto::Udp || !whole);
    let restarts = opens || (proto == Proto::Udp && idle > limit);
    Ok(if broken && !whole && !restarts {
        match env.mend(scratch) {
            Ok(Mended::Whole) => otherwise,
            _ => Renewal::Over,
        }
    } else if broken {
        Renewal::Over
    } else if proto != Proto::Udp && !opens {
        Renewal::None
    } else if phase.is_over() {
        Renewal::Over
    } else if idle > limit && now.saturating_sub(seen) > limit {
        Renewal::Idle
    } else {
        otherwise
    })
}

/// A packet of a known flow.
#[inline(always)]
pub(super) fn follow<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    hit: &Hit<E::Flow>,
    scratch: &mut Scratch<A>,
) -> Verdict {
    join(scratch);
    match account(pkt, env, hit, scratch) {
        Ok(reason) => {
            let field = rewrite::checksum(scratch);
            // Of most packets a call of what can do more would be a tenth of what they cost.
            let plain = A::FAMILY == 4
                && field != 0
                && scratch.part == Part::Whole as u8
                && scratch.masquerade == Masquerade::None as u8;
            if !plain {
                return go_on(pkt, env, reason, scratch);
            }
            match rewrite::internet(pkt, scratch, field) {
                Ok(()) => leave(env, reason),
                Err(reason) => discard(pkt, env, scratch, reason),
            }
        }
        Err(reason) => discard(pkt, env, scratch, reason),
    }
}

/// Notes a packet in the flow that it hit: the reason with which it goes on.
///
/// # Errors
/// The reason with which it leaves instead.
#[inline(always)]
pub(super) fn account<A: Family, P: Pkt, E: Env<A>>(
    pkt: &P,
    env: &E,
    hit: &Hit<E::Flow>,
    scratch: &mut Scratch<A>,
) -> Result<Reason, Reason> {
    let length = length(pkt, scratch);
    let Scratch { value, key, flags, now, .. } = scratch;
    let flags = Flags(*flags);
    let forward = value.kind == FlowKind::Forward as u8;
    let word = FlowWord(value.word);
    if value.kind == FlowKind::Host as u8 {
        advance(hit.flow, word, flags.state());
        hit.flow.touch(*now, length);
        return Err(Reason::HostFlow);
    }
    // Whoever made the pair counted the packet that it was made for, unless it left that packet to this program.
    let begins = forward && value.packets == 0 && !word.state().has(FlowState::PUT_BACK);
    let mut reason = if forward { Reason::FlowForward } else { Reason::FlowReverse };
    if word.state().ends() {
        if forward && (flags.opens() || key.proto == Proto::Udp as u8) {
            return Err(Reason::FlowBusy);
        }
        reason = Reason::FlowDying;
    } else if !word.state().has(FlowState::DEAD) {
        advance(hit.flow, word, flags.state());
        hit.flow.touch(*now, length);
        if confirms(forward, word.state(), flags.state()) {
            // If it fails the pair stays as it is, and the packet is none the worse for it.
            let _ = env.assure(scratch);
        }
        if begins {
            reason = opened(scratch);
        }
    }
    Ok(reason)
}

/// Whether a packet that adds `adds` to the state of its direction may be the one that confirms the pair: the client's
/// first one that is no SYN, or the backend's first one at all. The backend's SYN-ACK is not: no client has confirmed
/// before.
#[inline(always)]
const fn confirms(forward: bool, before: FlowState, adds: u8) -> bool {
    let first = if forward { !before.has(FlowState::DATA) } else { before.0 == 0 };
    first && adds & FlowState::DATA != 0
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
