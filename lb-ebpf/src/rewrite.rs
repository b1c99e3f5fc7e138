//! Gives a packet its new addresses and ports, and keeps every checksum right.

use core::mem::offset_of;

use lb_common::{FlowKey, Proto, Reason, Scratch};
use network_types::eth::EthHdr;

use crate::csum;
use crate::family::Family;
use crate::parse::{Part, SCTP_CHECKSUM, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pkt::{Change, Pkt};

/// Gives the packet the addresses and ports `scratch.to` instead of `scratch.key`; a later fragment its addresses.
///
/// # Errors
/// Why it must be dropped; it may be half rewritten.
#[inline(always)]
pub(crate) fn apply<A: Family, P: Pkt>(pkt: &mut P, scratch: &Scratch<A>) -> Result<(), Reason> {
    let field = checksum(scratch);
    if field != 0 {
        return internet(pkt, scratch, field);
    }
    let Scratch { key: FlowKey { tuple: from, proto, .. }, to, network, part, .. } = scratch;
    let ports = if *part == Part::Later as u8 {
        // The checksum that covers the addresses is in the first fragment.
        0
    } else if *proto == Proto::Sctp as u8 {
        sctp(pkt, scratch, from.ports(), to.ports())?
    } else {
        return Err(Reason::OtherProtocol);
    };
    resum::<A, P>(pkt, change_of_addresses(scratch), ports);
    if A::store_addresses(pkt, *network, from, to) { Ok(()) } else { Err(Reason::RewriteFailed) }
}

/// Where in the transport header of the packet is an Internet checksum that covers its addresses and ports; 0 if it has none,
/// or no such header.
#[inline(always)]
pub(crate) const fn checksum<A>(scratch: &Scratch<A>) -> u32 {
    if scratch.part == Part::Later as u8 {
        0
    } else if scratch.key.proto == Proto::Tcp as u8 {
        TCP_CHECKSUM
    } else if scratch.key.proto == Proto::Udp as u8 {
        UDP_CHECKSUM
    } else {
        0
    }
}

#[inline(always)]
fn change_of_addresses<A: Family>(scratch: &Scratch<A>) -> u32 {
    let Scratch { key: FlowKey { tuple: from, .. }, to, .. } = scratch;
    csum::difference(&from.src, &from.dst, &to.src, &to.dst)
}

/// Tells the kernel what no checksum in the packet makes up for: the IPv4 header does for its addresses.
#[inline(always)]
fn resum<A: Family, P: Pkt>(pkt: &mut P, addresses: u32, others: u32) {
    let difference = if A::FAMILY == 6 { csum::add(addresses, others) } else { others };
    if difference != 0 {
        pkt.resum(difference);
    }
}

/// [`apply`] where [`checksum`] has found `field`.
///
/// # Errors
/// See there.
#[inline(always)]
pub(crate) fn internet<A: Family, P: Pkt>(
    pkt: &mut P,
    scratch: &Scratch<A>,
    field: u32,
) -> Result<(), Reason> {
    let Scratch { key: FlowKey { tuple: from, proto, .. }, to, network, transport, .. } = scratch;
    let (old, new) = (from.ports(), to.ports());
    let end = A::end(pkt, *network).ok_or(Reason::RewriteFailed)?;
    let [l0, l1, l2, l3] = end.wrapping_sub(*transport).to_be_bytes();
    let rest = csum::add(u32::from_ne_bytes([l0, l1, l2, l3]), u32::from_ne_bytes([0, 0, 0, *proto]));
    let change = Change {
        addresses: change_of_addresses(scratch),
        ports: csum::word_difference(old, new),
        pseudo: csum::add(csum::add(from.src.sum(), from.dst.sum()), rest),
        keep_zero: *proto == Proto::Udp as u8,
        v6: A::FAMILY == 6,
    };
    let done = pkt.follow_checksum(transport + field, &change)
        && (new == old || pkt.store(*transport, &new))
        && A::store_addresses(pkt, *network, from, to);
    if done { Ok(()) } else { Err(Reason::RewriteFailed) }
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
