//! ICMP errors, and the packets that they quote (B104, B105).
//!
//! One rule for every direction: an error goes the way of an answer to the packet that it quotes. So the entry of the
//! reversed quoted tuple says what becomes of it; call that X. The quoted tuple becomes the reverse of X, the error's
//! destination that of X, and its source that of X, unless it is a router: that keeps its name.

use lb_common::{FlowKey, Port, Proto, Reason, Scratch};

use super::{CHECKSUM, HEADER};
use crate::csum;
use crate::env::Env;
use crate::family::Family;
use crate::flow;
use crate::masquerade;
use crate::parse::{Part, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pkt::{Covered, Pkt};
use crate::stage;
use crate::verdict::Verdict;

/// Bytes of a transport header that an error quotes at least (RFC 792).
const LEAST: u32 = 8;

/// Where the parts of a quoted packet are.
#[derive(Clone, Copy)]
struct Quote {
    /// Offset of its network header.
    network: u32,
    /// Offset of its transport header.
    transport: u32,
    /// Where the quote ends.
    end: u32,
}

/// Translates an error about a packet of a known flow, without a trace in that flow. [`Reason::NotService`] if it is
/// about none. [`Verdict::Route`] of one that is not counted yet and has to be sent on.
#[inline(always)]
pub(super) fn translate<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    scratch: &mut Scratch<A>,
) -> Result<Verdict, Reason> {
    let quote = find(pkt, env, scratch).ok_or(Reason::NotService)?;
    flow::lookup(env, &scratch.reverse, &mut scratch.value).ok_or(Reason::NotService)?;
    if scratch.value.point != scratch.point {
        return Err(Reason::OtherPoint);
    }
    scratch.masquerade = scratch.value.masquerade;
    scratch.other.tuple = scratch.value.tuple.reverse();
    scratch.to = scratch.value.tuple;
    // A router keeps its name.
    if scratch.key.tuple.src != scratch.reverse.tuple.src {
        scratch.to.src = scratch.key.tuple.src;
    }
    if !rewritten(pkt, &quote, scratch) {
        return Err(Reason::RewriteFailed);
    }
    if masquerade::is_routed(scratch.masquerade) {
        return Ok(Verdict::Route);
    }
    Ok(stage::dispatch(pkt, env, Reason::ErrorTranslated, scratch))
}

/// Finds the quoted packet, and puts the key of an answer to it into `scratch.reverse`. `None` if it tells no ports.
#[inline(always)]
fn find<A: Family, P: Pkt, E: Env<A>>(pkt: &P, env: &E, scratch: &mut Scratch<A>) -> Option<Quote> {
    // By the packet's own length: behind it there may be padding, which no checksum covers.
    let end = A::end(pkt, scratch.network)?;
    let (network, transport) = (scratch.network, scratch.transport);
    scratch.other = scratch.key;
    scratch.network = transport + HEADER;
    scratch.key.proto = 0;
    // Whether it was a success does not matter: a quote may end in the midst of a transport header.
    let _ = env.parse(pkt, scratch);
    let quote = Quote { network: scratch.network, transport: scratch.transport, end };
    scratch.reverse = FlowKey::new(scratch.key.tuple.reverse(), scratch.key.proto);
    scratch.key = scratch.other;
    (scratch.network, scratch.transport, scratch.flags) = (network, transport, 0);
    let later = scratch.part == Part::Later as u8;
    scratch.part = Part::Whole as u8;

    Proto::from_number(scratch.reverse.proto)?;
    // Whom an error is for has sent the packet that it is about, or somebody makes it up.
    let made_up = scratch.reverse.tuple.dst != scratch.key.tuple.dst;
    if made_up || later || quote.transport + LEAST > end {
        return None;
    }
    let [s0, s1, d0, d1] = pkt.load(quote.transport)?;
    (scratch.reverse.tuple.sport, scratch.reverse.tuple.dport) = (Port([d0, d1]), Port([s0, s1]));
    Some(quote)
}

/// Makes the quoted tuple `scratch.other`, and the error's addresses those of `scratch.to`. False if the kernel refused:
/// the packet may then be half rewritten and must be dropped.
#[inline(always)]
fn rewritten<A: Family, P: Pkt>(pkt: &mut P, quote: &Quote, scratch: &Scratch<A>) -> bool {
    let Scratch { key, reverse, to: outer, other, network, transport, .. } = scratch;
    let to = &other.tuple;
    let checksum = *transport + CHECKSUM;
    let v6 = A::FAMILY == 6;
    let addresses = csum::difference(&reverse.tuple.src, &reverse.tuple.dst, &to.src, &to.dst);
    let ports = csum::word_difference(reverse.tuple.reverse().ports(), to.ports());
    let Some(inner) = quoted_checksum(pkt, quote, reverse.proto, csum::add(addresses, ports)) else {
        return false;
    };
    // The checksum of a quoted IPv4 header changes by as much as its addresses, the other way.
    let header = if v6 { addresses } else { 0 };
    let changed = csum::add(csum::add(header, ports), inner);
    let pseudo = csum::difference(&key.tuple.src, &key.tuple.dst, &outer.src, &outer.dst);
    A::store_addresses(pkt, quote.network, &reverse.tuple, to)
        && pkt.store(quote.transport, &to.ports())
        && pkt.adjust_checksum(checksum, changed, Covered::Segment, false, v6)
        && (!v6 || pkt.adjust_checksum(checksum, pseudo, Covered::Pseudo, false, v6))
        && A::store_addresses(pkt, *network, &key.tuple, outer)
}

/// Updates the checksum in the quoted transport header, if it has one that is within the quote, after what it covers
/// changed by `difference`. Returns by what the checksum changed itself; `None` if the kernel refused.
#[inline(always)]
fn quoted_checksum<P: Pkt>(pkt: &mut P, quote: &Quote, proto: u8, difference: u32) -> Option<u32> {
    let (offset, udp) = match Proto::from_number(proto)? {
        Proto::Tcp => (TCP_CHECKSUM, false),
        Proto::Udp => (UDP_CHECKSUM, true),
        // It would take the whole packet to compute it anew.
        Proto::Sctp => return Some(0),
    };
    let at = quote.transport + offset;
    if at + 2 > quote.end {
        return Some(0);
    }
    let old @ [o0, o1] = pkt.load(at)?;
    // Zero is "none".
    if udp && old == [0; 2] {
        return Some(0);
    }
    let mut new = csum::apply(old, difference);
    if udp && new == [0; 2] {
        new = [0xff; 2];
    }
    let [n0, n1] = new;
    pkt.store(at, &new).then_some(csum::word_difference([o0, o1, 0, 0], [n0, n1, 0, 0]))
}
