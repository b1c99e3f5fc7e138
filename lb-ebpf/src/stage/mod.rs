//! The stages of the packet path, at each point where it is hooked in.
//!
//! ```text
//! parse ─> flow hit? ──yes──> reopen? ──no──> state, counters ─> rewrite
//!             └─no─> service ─> endpoint ─> pair ─┘               └─> every exit: one reason, one counter
//! ```
//!
//! All points have the same stages, but that egress never selects, and what leaves the node may have to stay.

mod depart;
mod early;
mod follow;
mod open;
mod shortcut;

use lb_common::{
    Addr4, Addr6, Address, Effect, FlowKey, FlowKind, FlowName, FlowWord, Masquerade, Point, Reason, Scratch,
};

use crate::env::Env;
use crate::event;
use crate::family::Family;
use crate::flow;
use crate::fragment::{self, Met};
use crate::masquerade;
use crate::parse::{self, Part};
use crate::pkt::Pkt;
use crate::rewrite;
use crate::route;
use crate::select::Range;
use crate::verdict::Verdict;

pub use depart::{Departed, depart};
pub use early::early;
pub use follow::{Renewal, renew};
use follow::{follow, renewal};
pub use open::{Placed, place};
pub use shortcut::{Entered, enter, shortcut};

/// A packet at `point` of an interface where packets have Ethernet headers.
#[inline(always)]
pub fn classify<P: Pkt, E: Env<Addr4> + Env<Addr6>>(pkt: &mut P, env: &E, point: Point) -> Verdict {
    // A router takes nothing else either. What pods send is for their bridge, or for each other.
    if point == Point::OutwardIngress && !pkt.is_for_us() {
        return leave::<Addr4, E>(env, Reason::OtherHost);
    }
    let link = parse::link(pkt);
    of_family(pkt, env, link, point)
}

/// A packet at `point` of an interface where packets have no link-layer header; `kind`: the EtherType that the kernel has
/// for it, as it would lie in a frame.
///
/// What is sent back or on has an empty Ethernet header afterwards ([`Pkt::plain`]).
#[inline(always)]
pub fn classify_bare<P: Pkt, E: Env<Addr4> + Env<Addr6>>(
    pkt: &mut P,
    env: &E,
    kind: u16,
    point: Point,
) -> Verdict {
    of_family(pkt, env, parse::bare(kind), point)
}

#[inline(always)]
fn of_family<P: Pkt, E: Env<Addr4> + Env<Addr6>>(
    pkt: &mut P,
    env: &E,
    link: parse::Link,
    point: Point,
) -> Verdict {
    match link.family {
        4 => stages::<Addr4, P, E>(pkt, env, link.network, point),
        6 => stages::<Addr6, P, E>(pkt, env, link.network, point),
        _ => leave::<Addr4, E>(env, Reason::NotIp),
    }
}

#[inline(always)]
fn stages<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E, network: u32, point: Point) -> Verdict {
    let Some(mut scratch) = env.scratch() else {
        return leave(env, Reason::NotService);
    };
    let scratch = &mut *scratch;
    if let Some(verdict) = begin(pkt, env, scratch, network, point) {
        return verdict;
    }
    let selects = selects(point);
    if !selects && scratch.interface != 0 && route::was_sent_on(env, &scratch.key) {
        return leave(env, Reason::OtherPoint);
    }
    if !concerns(env, scratch, point) {
        return leave(env, Reason::NotService);
    }
    if let Some(hit) = flow::lookup(env, &scratch.key, &mut scratch.value) {
        // At egress begins what is the host's own. What is sent on may be a masqueraded flow's, with the same ends.
        let sent_on = !selects && scratch.interface != 0;
        if scratch.value.point != point as u8 || sent_on && scratch.value.kind == FlowKind::Forward as u8 {
            return leave(env, Reason::OtherPoint);
        }
        let renewal = renewal(env, &hit, scratch);
        if renewal == Renewal::None {
            return follow(pkt, env, &hit, scratch);
        }
        scratch.renewal = renewal as u8;
        scratch.found = hit.table as u8;
    }
    // To a pod nothing but the host's own may begin here.
    if point == Point::PodEgress && (scratch.interface != 0 || !parse::begins(scratch)) {
        return leave(env, Reason::NotService);
    }
    scratch.bytes = length(pkt, scratch);
    let opened = if selects { open::open(env, scratch) } else { depart::part(env, scratch) };
    match opened {
        Ok(reason) => go_on(pkt, env, reason, scratch),
        Err(reason) => refuse(pkt, env, reason, scratch),
    }
}

/// Whether new flows are made there.
#[inline(always)]
const fn selects(point: Point) -> bool {
    matches!(point, Point::PodIngress | Point::OutwardIngress)
}

/// Whether a packet with ports may be a flow's or begin one, or must not pass. Of what does not, which is most of what
/// there is, that is known without a look into any table.
#[inline(always)]
fn concerns<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>, point: Point) -> bool {
    // The point is not read from memory: here the compiler knows it, and the verifier need not walk along all of them.
    let FlowKey { tuple, .. } = &scratch.key;
    if env.is_marked(tuple.known(point as u8)) {
        return true;
    }
    if point == Point::PodEgress {
        return false;
    }
    point == Point::OutwardEgress && env.is_marked(&tuple.dst)
        || parse::begins(scratch) && env.range(scratch) == Ok(Range::Inside)
}

/// What comes first at every point: parses the packet. The verdict about one that has no ports, or none of its own.
#[inline(always)]
fn begin<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    scratch: &mut Scratch<A>,
    network: u32,
    point: Point,
) -> Option<Verdict> {
    let parsed = parse(pkt, env, scratch, network, point);
    if scratch.part != Part::Whole as u8 {
        scratch.bytes = length(pkt, scratch);
        match env.meet(scratch) {
            Ok(Met::First) => {}
            Ok(met) => return Some(go_on(pkt, env, met.reason(), scratch)),
            Err(reason) => return Some(discard(pkt, env, scratch, reason)),
        }
    }
    match parsed {
        Ok(_) => None,
        Err(Reason::OtherProtocol) => {
            // What it quotes is looked at.
            pkt.gather();
            Some(match env.portless(pkt, scratch) {
                Ok(Verdict::Route) => route_error(pkt, env, scratch),
                Ok(verdict) => verdict,
                Err(reason) => refuse(pkt, env, reason, scratch),
            })
        }
        Err(reason) => Some(leave(env, reason)),
    }
}

/// Fills `scratch` with what is known of the packet.
#[inline(always)]
fn parse<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    scratch: &mut Scratch<A>,
    network: u32,
    point: Point,
) -> Result<Part, Reason> {
    scratch.network = network;
    scratch.point = point as u8;
    scratch.interface = if selects(point) { pkt.ifindex() } else { pkt.came_by() };
    scratch.now = env.now();
    scratch.renewal = Renewal::None as u8;
    scratch.flow = 0;
    let parsed = env.parse(pkt, scratch);
    if parsed == Err(Reason::Malformed) && pkt.gather() { env.parse(pkt, scratch) } else { parsed }
}

/// Has the packet become what the flow says that was found, and go by its way.
#[inline(always)]
fn join<A: Address>(scratch: &mut Scratch<A>) {
    let value = &scratch.value;
    scratch.to = value.tuple;
    scratch.masquerade = value.masquerade;
    scratch.flow = FlowName::new(FlowWord(value.word), value.kind).0;
}

/// Sends on the error of a masqueraded flow, which has been translated. Nobody is told if it goes no further.
#[inline(always)]
fn route_error<A: Family, P: Pkt, E: Env<A>>(pkt: &mut P, env: &E, scratch: &mut Scratch<A>) -> Verdict {
    let failed = match env.find_way(pkt, scratch) {
        Err(reason) => reason,
        Ok(_) if route::pass_on::<A, P>(pkt, scratch.network) => {
            env.count(Reason::ErrorTranslated);
            return Verdict::Route;
        }
        Ok(_) => Reason::RewriteFailed,
    };
    discard(pkt, env, scratch, failed)
}

/// Makes of the packet what `scratch.to` and `scratch.masquerade` say.
#[inline(always)]
fn go_on<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    reason: Reason,
    scratch: &mut Scratch<A>,
) -> Verdict {
    if masquerade::is_routed(scratch.masquerade)
        && let Err(reason) = env.find_way(pkt, scratch)
    {
        return refuse(pkt, env, reason, scratch);
    }
    env.carry(pkt, reason, scratch)
}

/// Does with a packet that was not rewritten as `reason` says, and answers it where that is due.
#[inline(always)]
fn refuse<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    reason: Reason,
    scratch: &mut Scratch<A>,
) -> Verdict {
    env.turn_away(pkt, reason, scratch)
}

/// The body of [`refuse`].
#[inline(always)]
pub fn turn_away<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    reason: Reason,
    scratch: &mut Scratch<A>,
) -> Verdict {
    // Nobody is told of a later fragment (RFC 1122, 3.2.2).
    if reason.effect() != Effect::Reject || scratch.part == Part::Later as u8 {
        return discard(pkt, env, scratch, reason);
    }
    scratch.bytes = length(pkt, scratch);
    // A refusal quotes it.
    pkt.gather();
    match env.reject(pkt, reason, scratch) {
        Ok(verdict) => {
            env.record(pkt, reason, scratch);
            verdict
        }
        Err(reason) => discard(pkt, env, scratch, reason),
    }
}

/// Counts a packet that was not rewritten.
#[inline(always)]
fn leave<A: Family, E: Env<A>>(env: &E, reason: Reason) -> Verdict {
    env.count(reason);
    match reason.effect() {
        Effect::Pass | Effect::Translate => Verdict::Pass,
        Effect::Answer | Effect::Reject | Effect::Drop => Verdict::Drop,
    }
}

/// The same of a packet that may have to be discarded; then it is recorded.
#[inline(always)]
fn discard<A: Family, P: Pkt, E: Env<A>>(
    pkt: &P,
    env: &E,
    scratch: &mut Scratch<A>,
    reason: Reason,
) -> Verdict {
    if event::wanted(reason) {
        scratch.bytes = length(pkt, scratch);
        env.record(pkt, reason, scratch);
    }
    leave(env, reason)
}

/// Rewrites the packet from `scratch.key` to `scratch.to` and sends it on, by the way that has been found, if it needs one.
#[inline(always)]
pub fn carry<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    reason: Reason,
    scratch: &mut Scratch<A>,
) -> Verdict {
    if let Err(reason) = rewrite::apply(pkt, scratch) {
        return discard(pkt, env, scratch, reason);
    }
    fragment::translated(env, scratch);
    dispatch(pkt, env, reason, scratch)
}

/// Counts a packet that was rewritten, and turns it round or passes it on if it does not go to the host stack.
#[inline(always)]
pub(crate) fn dispatch<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    reason: Reason,
    scratch: &mut Scratch<A>,
) -> Verdict {
    if scratch.masquerade == Masquerade::None as u8 {
        return leave(env, reason);
    }
    let (done, verdict) = if masquerade::is_routed(scratch.masquerade) {
        (route::pass_on::<A, P>(pkt, scratch.network), Verdict::Route)
    } else {
        (rewrite::turn_round(pkt, scratch.network), Verdict::Redirect)
    };
    if !done {
        return discard(pkt, env, scratch, Reason::RewriteFailed);
    }
    env.count(reason);
    verdict
}

/// Bytes of a packet from its network header on.
#[inline(always)]
fn length<A, P: Pkt>(pkt: &P, scratch: &Scratch<A>) -> u64 {
    u64::from(pkt.length().saturating_sub(scratch.network))
}
