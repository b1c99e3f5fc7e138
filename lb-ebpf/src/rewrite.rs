//! Gives a packet its new addresses and ports, and keeps every checksum right.

use core::mem::offset_of;

use lb_common::{FlowKey, Proto, Reason, Scratch};
use network_types::eth::EthHdr;

use crate::csum;
use crate::family::Family;
use crate::parse::{Part, SCTP_CHECKSUM, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pkt::{Covered, Pkt};

/// Gives the packet the addresses and ports `scratch.to` instead of `scratch.key`; a later fragment its addresses.
///
/// # Errors
/// Why it must be dropped; it may be half rewritten.
#[inline(always)]
pub(crate) fn apply<A: Family, P: Pkt>(pkt: &mut P, scratch: &Scratch<A>) -> Result<(), Reason> {
    let Scratch { key: FlowKey { tuple: from, proto, .. }, to, network, transport, part, .. } = scratch;
    let addresses = csum::difference(&from.src, &from.dst, &to.src, &to.dst);
    let (old, new) = (from.ports(), to.ports());
    let done = if *part == Part::Later as u8 {
        // The checksum that covers the addresses is in the first fragment.
        resum::<A, P>(pkt, addresses, 0);
        true
    } else {
        match Proto::from_number(*proto).ok_or(Reason::OtherProtocol)? {
            Proto::Tcp => internet::<A, P>(pkt, *transport, TCP_CHECKSUM, false, addresses, [old, new]),
            Proto::Udp => internet::<A, P>(pkt, *transport, UDP_CHECKSUM, true, addresses, [old, new]),
            Proto::Sctp => {
                let ports = sctp(pkt, scratch, old, new)?;
                resum::<A, P>(pkt, addresses, ports);
                true
            }
        }
    };
    if done && A::store_addresses(pkt, *network, from, to) { Ok(()) } else { Err(Reason::RewriteFailed) }
}

/// Tells the kernel what no checksum in the packet makes up for: the IPv4 header does for its addresses.
#[inline(always)]
fn resum<A: Family, P: Pkt>(pkt: &mut P, addresses: u32, others: u32) {
    let difference = if A::FAMILY == 6 { csum::add(addresses, others) } else { others };
    if difference != 0 {
        pkt.resum(difference);
    }
}

/// Ports, and a checksum that covers them and the addresses.
#[inline(always)]
fn internet<A: Family, P: Pkt>(
    pkt: &mut P,
    transport: u32,
    field: u32,
    keep_zero: bool,
    addresses: u32,
    [old, new]: [[u8; 4]; 2],
) -> bool {
    let (field, v6) = (transport + field, A::FAMILY == 6);
    // Addresses and ports separately: a checksum left to the hardware covers the ones but not yet the others.
    pkt.adjust_checksum(field, addresses, Covered::Pseudo, keep_zero, v6)
        && (new == old
            || pkt.adjust_checksum(field, csum::word_difference(old, new), Covered::Segment, keep_zero, v6)
                && pkt.store(transport, &new))
}

/// Ports, and a checksum that covers them and all that follows, but no address. What the bytes change by, for
/// [`Pkt::resum`].
///
/// A checksum of zero stays: either the hardware is to fill it in, as on every veth pair, or the receiver has agreed to
/// go without (RFC 9653). One packet in four thousand million has it for its checksum; a retransmission has another.
#[inline(always)]
fn sctp<A: Family, P: Pkt>(
    pkt: &mut P,
    scratch: &Scratch<A>,
    old: [u8; 4],
    new: [u8; 4],
) -> Result<u32, Reason> {
    if old == new {
        return Ok(0);
    }
    let Scratch { network, transport, part, .. } = scratch;
    let mut difference = csum::word_difference(old, new);
    let field = transport + SCTP_CHECKSUM;
    let checksum: [u8; 4] = pkt.load(field).ok_or(Reason::RewriteFailed)?;
    if checksum != [0; 4] {
        if *part != Part::Whole as u8 {
            return Err(Reason::Fragment);
        }
        let end = A::end(pkt, *network).ok_or(Reason::RewriteFailed)?;
        let length = end.checked_sub(*transport).ok_or(Reason::RewriteFailed)?;
        let pattern = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
        let changed = (u32::from_le_bytes(checksum) ^ pkt.crc32c(pattern, length)).to_le_bytes();
        if !pkt.store(field, &changed) {
            return Err(Reason::RewriteFailed);
        }
        difference = csum::add(difference, csum::word_difference(checksum, changed));
    }
    if pkt.store(*transport, &new) { Ok(difference) } else { Err(Reason::RewriteFailed) }
}

/// Has the packet, whose network header is at `network`, go back where it came from: swaps the link-layer addresses, if it
/// has any.
#[inline(always)]
pub(crate) fn turn_round<P: Pkt>(pkt: &mut P, network: u32) -> bool {
    const AT: u32 = offset_of!(EthHdr, dst_addr) as u32;
    if network == 0 {
        return pkt.plain(network);
    }
    let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = pkt.load(AT) else {
        return false;
    };
    pkt.store(AT, &[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5])
}
