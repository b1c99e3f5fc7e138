//! Gives a packet its new addresses and ports, and keeps every checksum right.

use core::mem::offset_of;

use lb_common::{Proto, Tuple};
use network_types::eth::EthHdr;

use crate::csum;
use crate::family::Family;
use crate::parse::{TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pkt::{Covered, Pkt};

/// Gives a packet of `proto` with its headers at `network` and `transport` the addresses and ports `to` instead of
/// `from`. False if the kernel refused: the packet may then be half rewritten and must be dropped.
#[inline(always)]
pub(crate) fn apply<A: Family, P: Pkt>(
    pkt: &mut P,
    proto: Proto,
    network: u32,
    transport: u32,
    from: &Tuple<A>,
    to: &Tuple<A>,
) -> bool {
    let (checksum, keep_zero) = match proto {
        Proto::Tcp => (TCP_CHECKSUM, false),
        Proto::Udp => (UDP_CHECKSUM, true),
    };
    let checksum = transport + checksum;
    let v6 = A::FAMILY == 6;
    let ([s0, s1], [d0, d1]) = (to.sport.0, to.dport.0);
    let ports = [s0, s1, d0, d1];
    let ([s0, s1], [d0, d1]) = (from.sport.0, from.dport.0);
    let old_ports = [s0, s1, d0, d1];
    // Addresses and ports separately: a checksum left to the hardware covers the ones but not yet the others.
    let addresses = csum::difference(&from.src, &from.dst, &to.src, &to.dst);
    pkt.adjust_checksum(checksum, addresses, Covered::Pseudo, keep_zero, v6)
        && (ports == old_ports
            || pkt.adjust_checksum(
                checksum,
                csum::word_difference(old_ports, ports),
                Covered::Segment,
                keep_zero,
                v6,
            ) && pkt.store(transport, &ports))
        && A::store_addresses(pkt, network, from, to)
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
