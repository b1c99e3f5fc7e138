//! The same stages before the host stack (XDP on an uplink), for what needs nothing of it: what leaves again by an uplink,
//! what is refused and what is dropped.
//!
//! All else goes up untouched and uncounted ([`Verdict::Pass`]), and [`super::classify`] meets it at
//! [`Point::OutwardIngress`] as if it came there first. But for one thing: a flow that is new has been decided here, so
//! that it is decided once, and there it is found.

use lb_common::interface_flags::BACK_BY_REDIRECT;
use lb_common::{Addr4, Addr6, CpuRecord, Effect, FlowKind, Masquerade, Point, Reason, Scratch};

use super::follow::{Renewal, account, renewal};
use super::open::{self, Placed, opened};
use super::{concerns, discard, join, length, parse, refuse};
use crate::env::Env;
use crate::family::Family;
use crate::flow::{self, Hit, Made};
use crate::masquerade;
use crate::parse::{self as headers, Flags, Part};
use crate::pkt::Pkt;
use crate::route::{self, Found};
use crate::verdict::Verdict;

/// A packet that comes in by an uplink.
#[inline(always)]
pub fn early<P: Pkt, E: Env<Addr4> + Env<Addr6>>(pkt: &mut P, env: &E) -> Verdict {
    let link = headers::link(pkt);
    match link.family {
        4 => stages::<Addr4, P, E>(pkt, env, link.network),
        6 => stages::<Addr6, P, E>(pkt, env, link.network),
        _ => Verdict::Pass,
    }
}

#[inline(always)]
fn stages<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E, network: u32) -> Verdict {
    let Some(mut scratch) = env.scratch() else { return Verdict::Pass };
    let scratch = &mut *scratch;
    let parsed = parse(pkt, env, scratch, network, Point::OutwardIngress);
    // What has no ports, or not yet all of its data, is rare.
    if parsed != Ok(Part::Whole) || !concerns(env, scratch, Point::OutwardIngress) {
        return Verdict::Pass;
    }
    let verdict = match flow::lookup(env, &scratch.key, &mut scratch.value) {
        Some(hit) => known(pkt, env, &hit, scratch),
        None => unknown(pkt, env, scratch),
    };
    if verdict == Verdict::Redirect && u32::from(scratch.uplink) & BACK_BY_REDIRECT != 0 {
        env.send_back(scratch.interface);
        return Verdict::Route;
    }
    verdict
}

/// Whether the frame is for the interface that it came by, of which `scratch.uplink` tells from then on. A switch that has
/// forgotten who is where sends everybody what is for one; tc is told by the kernel. The map is not asked for every frame.
#[inline(always)]
fn is_for_us<A: Family, P: Pkt, E: Env<A>>(pkt: &P, env: &E, scratch: &mut Scratch<A>) -> bool {
    let look = |cpu: &mut CpuRecord| cpu.uplink(scratch.interface, scratch.now, |index| env.interface(index));
    let uplink = env.with_cpu(look).unwrap_or_default();
    scratch.uplink = uplink.flags as u8;
    pkt.load(0) == Some(uplink.mac)
}

/// A packet of a known flow.
#[inline(always)]
fn known<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    hit: &Hit<E::Flow>,
    scratch: &mut Scratch<A>,
) -> Verdict {
    let value = &scratch.value;
    if value.point != scratch.point
        || value.kind == FlowKind::Host as u8
        || value.masquerade == Masquerade::None as u8
        // The first one had no answer, maybe for a next hop that has moved: only tc has the kernel ask for it again.
        || Flags(scratch.flags).opens()
        || renewal(env, hit, scratch) != Renewal::None
        || !is_for_us(pkt, env, scratch)
    {
        return Verdict::Pass;
    }
    join(scratch);
    // Before the flow is told of the packet: if it goes up, it is not for this program to count.
    let exit = exit(pkt, env, scratch);
    if exit == Verdict::Pass {
        return exit;
    }
    match account(pkt, env, hit, scratch) {
        Ok(reason) => leave(pkt, env, exit, reason, scratch),
        Err(reason) => discard(pkt, env, scratch, reason),
    }
}

/// A packet without a flow.
#[inline(always)]
fn unknown<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E, scratch: &mut Scratch<A>) -> Verdict {
    // Before anything is chosen: nobody's turn and no rate is spent on what others are sent.
    if !is_for_us(pkt, env, scratch) {
        return Verdict::Pass;
    }
    match open::select(env, scratch) {
        Ok(Placed::Pair | Placed::Keeping) => {}
        Ok(Placed::Alone | Placed::Kept) => return Verdict::Pass,
        Err(reason) if reason.effect() == Effect::Pass => return Verdict::Pass,
        Err(reason) => return refuse(pkt, env, reason, scratch),
    }
    let mut exit = exit(pkt, env, scratch);
    let mut reason = opened(scratch);
    scratch.bytes = if exit == Verdict::Pass { 0 } else { length(pkt, scratch) };
    match open::make(env, scratch) {
        Ok(Made::Opened) => {}
        Ok(Made::Joined) if exit == Verdict::Pass => {}
        Ok(Made::Joined) => {
            // It may have been made to lead elsewhere, and it has been told of the packet.
            exit = self::exit(pkt, env, scratch);
            reason = Reason::FlowForward;
            if exit == Verdict::Pass {
                return discard(pkt, env, scratch, Reason::FlowBusy);
            }
        }
        Err(reason) => return discard(pkt, env, scratch, reason),
    }
    if exit == Verdict::Pass { exit } else { leave(pkt, env, exit, reason, scratch) }
}

/// How the packet that is to become `scratch.to` leaves the node from here; [`Verdict::Pass`] if it does not. With any
/// other the frame may have its new addresses already.
#[inline(always)]
fn exit<A: Family, P: Pkt, E: Env<A>>(pkt: &P, env: &E, scratch: &mut Scratch<A>) -> Verdict {
    if scratch.masquerade == Masquerade::Hairpin as u8 {
        Verdict::Redirect
    } else if !masquerade::is_routed(scratch.masquerade) {
        Verdict::Pass
    } else {
        let known = route::known(pkt, env, scratch, true);
        let found = match known {
            Some(found) => Ok(found),
            None => env.shortcut(pkt, scratch),
        };
        match found {
            Ok(Found::Back) => Verdict::Redirect,
            Ok(Found::Way) => Verdict::Route,
            Err(_) => Verdict::Pass,
        }
    }
}

/// Rewrites the packet and counts it.
#[inline(always)]
fn leave<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    exit: Verdict,
    reason: Reason,
    scratch: &mut Scratch<A>,
) -> Verdict {
    match env.carry(pkt, reason, scratch) {
        Verdict::Route => exit,
        verdict => verdict,
    }
}
