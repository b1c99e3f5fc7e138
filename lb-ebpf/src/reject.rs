//! Refusals: a TCP reset for a SYN, an ICMP error for everything else (B67), quoting what was sent (B68).

use lb_common::{Proto, Reason, Scratch};

use crate::csum;
use crate::env::Env;
use crate::family::Family;
use crate::icmp::HEADER;
use crate::limit;
use crate::parse::{self, Flags, Part, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pkt::{Covered, Pkt};
use crate::rewrite;
use crate::verdict::Verdict;

/// Bytes behind the network header that an ICMP error quotes, if the packet has them, else all whole words: a whole TCP
/// header. The kernel does not cut a packet inside a checksum that it still owes.
const QUOTE: u32 = 20;
/// Longest quote that is summed up, in words: an IPv6 header with extension headers of twice its size.
const QUOTE_WORDS: u32 = 40;

/// Answers the packet with a refusal for `reason`, sent back the way it came.
#[inline(always)]
pub fn answer<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    reason: Reason,
    scratch: &Scratch<A>,
) -> Result<Verdict, Reason> {
    let flags = Flags(scratch.flags);
    if flags.resets() {
        // Nobody answers a reset.
        env.count(reason);
        return Ok(Verdict::Drop);
    }
    if !allowed(env) {
        return Err(Reason::RejectLimited);
    }
    let tcp = scratch.key.proto == Proto::Tcp as u8;
    // The rest of a fragment's data is not known, and nobody would put a fragmented reset together.
    let whole = scratch.part == Part::Whole as u8;
    // Each of the two once: the verifier walks through every copy.
    let (kind, word) = match reason {
        Reason::PacketTooBig => (A::TOO_BIG, scratch.mtu),
        Reason::HopsExceeded => (A::HOPS_EXCEEDED, 0),
        _ => (A::PORT_UNREACHABLE, 0),
    };
    let built = if tcp && whole && flags.opens() && kind == A::PORT_UNREACHABLE {
        reset(pkt, scratch)
    } else {
        error(pkt, scratch, kind, word)
    };
    if built.is_none() || !rewrite::turn_round(pkt, scratch.network) {
        return Err(Reason::RejectFailed);
    }
    env.count(reason);
    Ok(Verdict::Redirect)
}

#[inline(always)]
fn allowed<A: Family, E: Env<A>>(env: &E) -> bool {
    let Some(config) = env.config() else { return false };
    let (now, rate) = (env.now(), config.reject_rate);
    env.with_cpu(|cpu| limit::take(&mut cpu.rejects, now, rate)).unwrap_or(false)
}

/// Turns a SYN into the RST that answers it (RFC 9293, 3.5.2), in place.
///
/// Options and payload stay: receivers ignore them in a reset, and without a change of length every checksum stays
/// right by increments, also one that is left to the hardware. Swapped addresses and ports do not change a sum.
#[inline(always)]
fn reset<A: Family, P: Pkt>(pkt: &mut P, scratch: &Scratch<A>) -> Option<()> {
    /// Offset of the sequence number; number, acknowledgement, flags and window follow each other.
    const SEQUENCE: u32 = 4;
    let (network, at) = (scratch.network, scratch.transport);
    let old: [u8; 12] = pkt.load(at + SEQUENCE)?;
    let [q0, q1, q2, q3, a0, a1, a2, a3, offset, _, w0, w1] = old;
    let payload = A::end(pkt, network)?.checked_sub(at + u32::from(offset >> 4) * 4)?;
    let acknowledged = u32::from_be_bytes([q0, q1, q2, q3]).wrapping_add(1).wrapping_add(payload);
    let [n0, n1, n2, n3] = acknowledged.to_be_bytes();
    let flags = Flags::RST | Flags::ACK;
    let new = [0, 0, 0, 0, n0, n1, n2, n3, offset, flags, 0, 0];
    let difference = csum::add(
        csum::add(
            csum::word_difference([q0, q1, q2, q3], [0; 4]),
            csum::word_difference([a0, a1, a2, a3], [n0, n1, n2, n3]),
        ),
        csum::word_difference([offset, old[9], w0, w1], [offset, flags, 0, 0]),
    );
    let back = scratch.key.tuple.reverse();
    let ([s0, s1], [d0, d1]) = (back.sport.0, back.dport.0);
    let done = pkt.adjust_checksum(at + TCP_CHECKSUM, difference, Covered::Segment, false, A::FAMILY == 6)
        && pkt.store(at + SEQUENCE, &new)
        && pkt.store(at, &[s0, s1, d0, d1])
        && A::store_addresses(pkt, network, &scratch.key.tuple, &back);
    done.then_some(())
}

/// Wraps the packet, cut short, into the ICMP error of this type and code that answers it. Of `word` either family has
/// the lower half in the same place: IPv4's length of the next hop's packets is the end of IPv6's.
#[inline(always)]
fn error<A: Family, P: Pkt>(
    pkt: &mut P,
    scratch: &Scratch<A>,
    (kind, code): (u8, u8),
    word: u32,
) -> Option<()> {
    let network = scratch.network;
    let headers = scratch.transport.checked_sub(network)?;
    let body = A::end(pkt, network)?.checked_sub(scratch.transport)?;
    let body = if body > QUOTE { QUOTE } else { body & !3 };
    let quote = headers.checked_add(body)?;
    if quote > QUOTE_WORDS * 4 || network + quote > pkt.length() {
        return None;
    }
    let owed = owed::<A, P>(pkt, scratch, body)?;
    let sum = csum::add(pkt.sum(network, if owed.owed { headers } else { quote }), owed.sum);
    if !pkt.truncate(network + quote) || !parse::insert_room(pkt, network, A::HEADER + HEADER) {
        return None;
    }
    let word @ [w0, w1, w2, w3] = word.to_be_bytes();
    let icmp = csum::add(sum, u32::from_ne_bytes([kind, code, 0, 0]));
    let icmp = csum::add(icmp, u32::from_ne_bytes(word));
    let back = scratch.key.tuple.reverse();
    let pseudo = A::store_header(pkt, network, &back, A::ICMP, HEADER + quote)?;
    let [c0, c1] = (!csum::fold(csum::add(icmp, pseudo))).to_ne_bytes();
    pkt.store(network + A::HEADER, &[kind, code, c0, c1, w0, w1, w2, w3]).then_some(())
}

/// [`Pkt::sum`].
#[inline(always)]
pub fn sum<P: Pkt>(pkt: &P, at: u32, length: u32) -> u32 {
    // In 64 bits: carries are branches.
    let mut sum = 0;
    for word in 0..QUOTE_WORDS {
        if word * 4 >= length {
            break;
        }
        let Some(bytes) = pkt.load(at + word * 4) else { break };
        sum += u64::from(u32::from_ne_bytes(bytes));
    }
    csum::add(sum as u32, (sum >> 32) as u32)
}

/// A checksum that is left to the hardware, and so will change in the quote.
#[derive(Clone, Copy)]
struct Owed {
    /// Whether it is.
    owed: bool,
    /// If so, what the quoted part of the transport header and its data will add up to.
    sum: u32,
}

/// Finds out whether the checksum of the packet is left to the hardware, which then computes it over what is left of
/// the packet in the quote, and writes it there. The ICMP checksum must be right after that; where nothing is written,
/// on a veth, nobody looks at it.
#[inline(always)]
fn owed<A: Family, P: Pkt>(pkt: &mut P, scratch: &Scratch<A>, body: u32) -> Option<Owed> {
    let none = Owed { owed: false, sum: 0 };
    let offset = match Proto::from_number(scratch.key.proto) {
        Some(Proto::Tcp) => TCP_CHECKSUM,
        Some(Proto::Udp) => UDP_CHECKSUM,
        Some(Proto::Sctp) | None => return Some(none),
    };
    if offset + 2 > body {
        return Some(none);
    }
    let at = scratch.transport + offset;
    let field: [u8; 2] = pkt.load(at)?;
    // Such a checksum, and no other, does not cover the segment yet.
    if !pkt.adjust_checksum(at, 1, Covered::Segment, false, A::FAMILY == 6) {
        return None;
    }
    if pkt.load(at)? != field {
        return pkt.store(at, &field).then_some(none);
    }
    // The field holds a sum; its complement is what makes the rest and that sum zero.
    Some(Owed { owed: true, sum: u32::from(!u16::from_ne_bytes(field)) })
}
