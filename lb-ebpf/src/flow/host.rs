//! Connections that the host itself has from a port which is a node port too, or a masqueraded flow's: their answers are
//! for none of these.

use lb_common::{
    Address, FlowKey, FlowKind, FlowState, FlowValue, FlowWord, Masquerade, NOBODYS, Point, Proto, Reason,
    Scratch,
};

use super::pair::{insert, number};
use super::{lookup, room};
use crate::env::{Env, FlowRef, FlowTable};
use crate::{masquerade, ports};

/// Bits of the state of an entry that say how far its connection has come.
const COURSE: u8 = FlowState::SYN | FlowState::DATA | FlowState::FIN | FlowState::RST;

/// Has what answers the packet of `scratch.key` left to the host. Where there is no room for that, nothing can be done.
/// False if it is a flow's: the packet is a Service's answer, on its way past the host stack.
#[inline(always)]
pub(crate) fn host<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<bool, Reason> {
    scratch.reverse = FlowKey::new(scratch.key.tuple.reverse(), scratch.key.proto);
    if let Some(hit) = lookup(env, &scratch.reverse, &mut scratch.value) {
        let word = FlowWord(scratch.value.word);
        let host = scratch.value.kind == FlowKind::Host as u8;
        if host && !word.state().has(FlowState::DEAD) {
            if scratch.key.proto != Proto::Udp as u8 {
                // A connection begins: what the one before it from this port has shown is over.
                hit.flow.exchange(word, word.without(COURSE));
            }
            hit.flow.touch(scratch.now, 0);
        }
        return Ok(host);
    }
    let id = number(env)?;
    let Scratch { value, reverse, now, .. } = scratch;
    let point = Point::OutwardIngress as u8;
    // Nobody waits for it to be confirmed.
    value.word = id.with(FlowState::ASSURED).0;
    (value.seen, value.packets, value.bytes) = (*now, 0, 0);
    value.tuple = reverse.tuple;
    (value.service, value.backend, value.generation) = (NOBODYS, NOBODYS, 0);
    (value.point, value.other_point) = (point, point);
    (value.kind, value.masquerade) = (FlowKind::Host as u8, Masquerade::None as u8);
    value.check = FlowValue::check_of(reverse, id.id());
    let table = if room::crowded(env, *now) { FlowTable::Lru } else { FlowTable::Main };
    insert(env, table, reverse, value);
    Ok(true)
}

/// Whether answers to the packet of `scratch.key`, which the host sends from a port for masquerading, would be taken for
/// those of a flow. If so the connection is to have a pair of its own, for which `scratch` is made ready: since its
/// tuple is taken, that gets another port.
#[inline(always)]
pub(crate) fn beset<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> bool {
    let Scratch { value, key, reverse, to, point, .. } = scratch;
    if !env.config().is_some_and(|config| ports::hold(&config.snat_ports, key.tuple.sport)) {
        return false;
    }
    *reverse = FlowKey::new(key.tuple.reverse(), key.proto);
    let answers = masquerade::answers(Masquerade::None as u8, *point);
    if lookup(env, reverse, value).is_none()
        || value.kind != FlowKind::Reverse as u8
        || value.point != answers
    {
        return false;
    }
    *to = key.tuple;
    scratch.service = NOBODYS;
    // Whose search for ports goes on.
    (scratch.backend, scratch.generation) = (value.backend, value.generation);
    (scratch.masquerade, scratch.lru) = (Masquerade::None as u8, 0);
    true
}

/// What the connection of such an entry has shown: what comes in is all that is seen of it.
#[inline(always)]
pub(crate) const fn shown(state: FlowState) -> FlowState {
    FlowState(state.0 & COURSE)
}
