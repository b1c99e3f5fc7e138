//! Past the host stack (`--redirect-peer`): what is about to enter it and goes to a pod of this node is handed to the pod.
//!
//! The program is the last one at ingress: those before it have decided. What the stack would do then is done here: the route,
//! one hop less, and the stage at egress of the pod's interface, which the packet does not pass. Netfilter is not asked.
//!
//! Whatever needs more of the stack than that goes up untouched: first of all, for once the stage at egress has seen a packet
//! it must not see it again.

use lb_common::interface_flags::PEER;
use lb_common::{Addr4, Addr6, Address, Point, Reason, Scratch};

use super::{classify, leave, parse};
use crate::cut::outcome;
use crate::env::Env;
use crate::family::Family;
use crate::parse::{self as headers, LINK, Part};
use crate::pkt::Pkt;
use crate::route;
use crate::verdict::Verdict;

outcome! {
    /// Where a packet goes that is about to enter the host stack.
    Entered {
        /// There.
        Stack = 0,
        /// Into a pod, past it.
        Pod = 1,
    }
}

/// A packet that is about to enter the host stack, with an Ethernet header.
#[inline(always)]
pub fn shortcut<P: Pkt, E: Env<Addr4> + Env<Addr6>>(pkt: &mut P, env: &E) -> Verdict {
    let link = headers::link(pkt);
    // Tags are another interface's, and marks may choose another route.
    if !pkt.is_for_us() || !pkt.is_unlabelled() || link.network != LINK {
        return Verdict::Pass;
    }
    let entered =
        if link.family == 4 { entered::<Addr4, P, E>(pkt, env) } else { entered::<Addr6, P, E>(pkt, env) };
    match entered {
        Ok(Entered::Stack) => Verdict::Pass,
        Ok(Entered::Pod) => match classify(pkt, env, Point::PodEgress) {
            Verdict::Pass => {
                leave::<Addr4, E>(env, Reason::PastStack);
                Verdict::Route
            }
            verdict => verdict,
        },
        Err(reason) => leave::<Addr4, E>(env, reason),
    }
}

#[inline(always)]
fn entered<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E) -> Result<Entered, Reason> {
    match env.scratch() {
        Some(mut scratch) => env.enter(pkt, &mut scratch),
        None => Ok(Entered::Stack),
    }
}

/// Sets the packet on its way into the pod that it is for, if it is for one: it has the addresses of a frame that its route
/// gives it, and one hop less.
///
/// # Errors
/// The reason why it goes nowhere.
#[inline(always)]
pub fn enter<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    scratch: &mut Scratch<A>,
) -> Result<Entered, Reason> {
    let parsed = parse(pkt, env, scratch, LINK, Point::PodEgress);
    let tuple = scratch.key.tuple;
    // Fragments, what has no ports and options are the stack's, and so is an address that is no single machine's or means
    // something on one link alone.
    if parsed != Ok(Part::Whole)
        || scratch.transport != LINK + A::HEADER
        || !is_routable(&tuple.src)
        || !is_routable(&tuple.dst)
    {
        return Ok(Entered::Stack);
    }
    scratch.to = tuple;
    let Ok(route) = route::way(pkt, env, scratch) else { return Ok(Entered::Stack) };
    // The stack resolves a neighbour.
    if route.link == [0; 3] || env.interface(route.interface).flags & PEER == 0 {
        return Ok(Entered::Stack);
    }
    let set_out =
        route::pass_on::<A, P>(pkt, LINK) && route::put_link(pkt, route.link) && env.deliver(route.interface);
    if set_out { Ok(Entered::Pod) } else { Err(Reason::RewriteFailed) }
}

/// Whether a router may have to do with the address.
#[inline(always)]
fn is_routable<A: Address>(addr: &A) -> bool {
    let [first, second, .., a, _, _, _] = addr.to_mapped().0;
    if A::FAMILY == 4 {
        // What was once reserved (240/4) is routed like any other.
        a != 0 && a != 127 && a & 0xf0 != 224 && a != 255
    } else {
        first != 0 && first != 0xff && (first != 0xfe || second & 0xc0 != 0x80)
    }
}
