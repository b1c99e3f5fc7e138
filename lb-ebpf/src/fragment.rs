//! Fragments: the first one has the transport header and goes like a whole packet, the later ones follow it.
//!
//! What is remembered of a first fragment are its ports, so that a later one has a key; where that leads the flow table
//! says. The checksum of the transport header covers the whole packet and stands in the first fragment, so the later
//! ones change their addresses alone.

use lb_common::{
    Address, FlowKey, FlowKind, FlowState, FlowWord, FragmentKey, FragmentValue, Point, Reason, Scratch,
    Tuple,
};

use crate::cut::outcome;
use crate::env::{Env, FlowRef};
use crate::flow::{self, Hit};
use crate::parse::Part;
use crate::select;

/// How long a first fragment is remembered, seconds: after that nobody waits for the others any more. Numbers come
/// round, and a later fragment must not follow the first one of an older packet.
const MEMORY: u32 = 30;

outcome! {
    /// A fragment.
    Met {
        /// The first: it goes on as a whole packet does.
        First = 0,
        /// A later one, towards the backend: it becomes `scratch.to`.
        Forward = 1,
        /// A later one, back to the client.
        Reverse = 2,
        /// A later one, of a flow that is just being removed.
        Dying = 3,
    }
}

impl Met {
    /// The reason with which a later fragment leaves.
    #[inline(always)]
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::First | Self::Forward => Reason::FlowForward,
            Self::Reverse => Reason::FlowReverse,
            Self::Dying => Reason::FlowDying,
        }
    }
}

/// Looks at a fragment whose addresses are in `scratch.key`: of a later one it completes the key, finds the flow and
/// counts the packet. Expects now, bytes and point in `scratch`.
///
/// # Errors
/// The reason with which a later fragment leaves that has no flow.
#[inline(always)]
pub fn meet<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Met, Reason> {
    let key = key(scratch);
    if scratch.part == Part::First as u8 {
        // It is remembered once it has been translated. If it is not, nothing may follow the one before.
        env.forget_fragment(&key);
        return Ok(Met::First);
    }
    let Some(hit) = find(env, &key, scratch) else {
        return Err(alone(env, scratch));
    };
    let Scratch { value, to, masquerade, now, bytes, .. } = scratch;
    (*to, *masquerade) = (value.tuple, value.masquerade);
    if FlowWord(value.word).state().has(FlowState::DEAD) {
        return Ok(Met::Dying);
    }
    hit.flow.touch(*now, *bytes);
    Ok(if value.kind == FlowKind::Forward as u8 { Met::Forward } else { Met::Reverse })
}

/// Finds the flow of the later fragment with this key, and completes the key of that.
#[inline(always)]
fn find<A: Address, E: Env<A>>(env: &E, key: &FragmentKey, scratch: &mut Scratch<A>) -> Option<Hit<E::Flow>> {
    let Scratch { key: flow, value, now, point, .. } = scratch;
    let first = env.fragment(key)?;
    if !first.belongs_to(key) || seconds(*now).saturating_sub(first.seen) > MEMORY {
        return None;
    }
    *flow = FlowKey::new(Tuple { sport: first.sport, dport: first.dport, ..flow.tuple }, first.proto);
    let hit = flow::lookup(env, flow, value)?;
    (value.point == *point).then_some(hit)
}

/// The packet in `scratch` was translated: a first fragment is remembered.
#[inline(always)]
pub(crate) fn translated<A: Address, E: Env<A>>(env: &E, scratch: &Scratch<A>) {
    if scratch.part != Part::First as u8 {
        return;
    }
    let FlowKey { tuple, proto, .. } = scratch.key;
    let key = key(scratch);
    let value = FragmentValue::new(&key, [tuple.sport, tuple.dport], proto, seconds(scratch.now));
    env.remember_fragment(&key, &value);
}

/// Why a later fragment without a first one, or without its flow, leaves.
#[inline(always)]
fn alone<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Reason {
    // What leaves the node may be of an answer: only a first fragment tells.
    if scratch.point == Point::PodEgress as u8 || scratch.point == Point::OutwardEgress as u8 {
        return Reason::NotService;
    }
    match select::owned(env, &scratch.key.tuple.dst) {
        Ok(()) => Reason::FragmentBeforeFirst,
        Err(reason) => reason,
    }
}

#[inline(always)]
fn key<A: Address>(scratch: &Scratch<A>) -> FragmentKey {
    let FlowKey { tuple, proto, .. } = &scratch.key;
    FragmentKey::new(&tuple.src, &tuple.dst, scratch.identification, *proto, scratch.point)
}

/// Seconds of a time in nanoseconds.
#[inline(always)]
const fn seconds(nanoseconds: u64) -> u32 {
    (nanoseconds / 1_000_000_000) as u32
}
