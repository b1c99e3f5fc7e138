//! Gives a packet its new addresses and ports, and keeps every checksum right.

use core::mem::offset_of;

use lb_common::{FlowKey, Proto, Reason, Scratch, Tuple};
use network_types::eth::EthHdr;

use crate::csum;
use crate::family::Family;
use crate::parse::{Part, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pkt::{Covered, Pkt};

/// Gives the packet the addresses and ports `scratch.to` instead of `scratch.key`; a later fragment its addresses.
///
/// # Errors
/// The kernel refused: the packet may be half rewritten and must be dropped.
#[inline(always)]
pub(crate) fn apply<A: Family, P: Pkt>(pkt: &mut P, scratch: &Scratch<A>) -> Result<(), Reason> {
    let Scratch { key: FlowKey { tuple: from, proto, .. }, to, network, transport, part, .. } = scratch;
    let addresses = csum::difference(&from.src, &from.dst, &to.src, &to.dst);
    let done = if *part == Part::Later as u8 {
        // The checksum that covers the addresses is in the first fragment. The IPv4 header makes up for its own.
        if A::FAMILY == 6 {
            pkt.resum(addresses);
        }
        true
    } else {
        let proto = Proto::from_number(*proto).ok_or(Reason::OtherProtocol)?;
        segment::<A, P>(pkt, proto, *transport, addresses, from, to)
    };
    if done && A::store_addresses(pkt, *network, from, to) { Ok(()) } else { Err(Reason::RewriteFailed) }
}

/// The part of the transport header.
#[inline(always)]
fn segment<A: Family, P: Pkt>(
    pkt: &mut P,
    proto: Proto,
    transport: u32,
    addresses: u32,
    from: &Tuple<A>,
    to: &Tuple<A>,
) -> bool {
    let (checksum, keep_zero) = match proto {
        Proto::Tcp => (TCP_CHECKSUM, false),
        Proto::Udp => (UDP_CHECKSUM, true),
    };
    let checksum = transport + checksum;
    let v6 = A::FAMILY == 6;
    let (old_ports, ports) = (from.ports(), to.ports());
    // Addresses and ports separately: a checksum left to the hardware covers the ones but not yet the others.
    pkt.adjust_checksum(checksum, addresses, Covered::Pseudo, keep_zero, v6)
        && (ports == old_ports
            || pkt.adjust_checksum(
                checksum,
                csum::word_difference(old_ports, ports),
                Covered::Segment,
                keep_zero,
                v6,
            ) && pkt.store(transport, &ports))
}

/// Swaps the link-layer addresses: the packet goes back where it came from.
#[inline(always)]
pub(crate) fn turn_round<P: Pkt>(pkt: &mut P) -> bool {
    const AT: u32 = offset_of!(EthHdr, dst_addr) as u32;
    let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = pkt.load(AT) else {
        return false;
    };
    pkt.store(AT, &[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5])
}
