//! The only code that differs between IPv4 and IPv6 packets.

use core::mem::offset_of;

use lb_common::{Addr4, Addr6, Address, Reason, Tuple};
use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};

use crate::csum;
use crate::icmp::Message;
use crate::parse::{self, Network};
use crate::pkt::Pkt;

/// A family of addresses together with its header.
pub trait Family: Address {
    /// Length of the header without options, bytes.
    const HEADER: u32;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// Type and code of the ICMP error "port unreachable" (RFC 792, RFC 4443).
    const PORT_UNREACHABLE: (u8, u8);
    /// Type and code of the ICMP error that tells a packet's longest length on its way.
    const TOO_BIG: (u8, u8);
    /// Type and code of the ICMP error that a router sends which lets a packet make no more hops.
    const HOPS_EXCEEDED: (u8, u8);
    /// Type of the ICMP message "echo reply".
    const ECHO_REPLY: u8;

    /// What an ICMP message of type `kind` is.
    fn message(kind: u8) -> Message;

    /// Parses the header at `at` up to the transport header.
    fn parse<P: Pkt>(pkt: &P, at: u32) -> Result<Network<Self>, Reason>;
    /// Overwrites the addresses of the header at `at`, keeping its own checksum, if it has one, right.
    fn store_addresses<P: Pkt>(pkt: &mut P, at: u32, from: &Tuple<Self>, to: &Tuple<Self>) -> bool;
    /// Hops that the packet may still make, by the header at `at`.
    fn hops<P: Pkt>(pkt: &P, at: u32) -> Option<u8>;
    /// Replaces that number, `from`, by `to`, keeping the header's own checksum, if it has one, right.
    fn store_hops<P: Pkt>(pkt: &mut P, at: u32, from: u8, to: u8) -> bool;
    /// Offset of the end of the packet, by the header at `at`.
    fn end<P: Pkt>(pkt: &P, at: u32) -> Option<u32>;
    /// Writes a header of [`Family::HEADER`] bytes for `length` bytes of `proto`, from source to destination of
    /// `tuple`; returns the sum of the pseudo header that a checksum of `proto` covers (ICMP over IPv4: none).
    fn store_header<P: Pkt>(pkt: &mut P, at: u32, tuple: &Tuple<Self>, proto: u8, length: u32)
    -> Option<u32>;
}

/// Hop limit of packets that the datapath makes.
const HOPS: u8 = 64;

impl Family for Addr4 {
    const HEADER: u32 = Ipv4Hdr::LEN as u32;
    const ICMP: u8 = IpProto::Icmp as u8;
    const PORT_UNREACHABLE: (u8, u8) = (3, 3);
    const TOO_BIG: (u8, u8) = (3, 4);
    const HOPS_EXCEEDED: (u8, u8) = (11, 0);
    const ECHO_REPLY: u8 = 0;

    #[inline(always)]
    fn message(kind: u8) -> Message {
        match kind {
            // Destination unreachable, source quench, time exceeded, parameter problem.
            3 | 4 | 11 | 12 => Message::Error,
            // Redirect: what it advises does not outlast a translation.
            5 => Message::Mute,
            8 => Message::EchoRequest,
            _ => Message::Other,
        }
    }

    #[inline(always)]
    fn parse<P: Pkt>(pkt: &P, at: u32) -> Result<Network<Self>, Reason> {
        parse::ipv4(pkt, at)
    }

    #[inline(always)]
    fn store_addresses<P: Pkt>(pkt: &mut P, at: u32, from: &Tuple<Self>, to: &Tuple<Self>) -> bool {
        // The checksum and both addresses stand side by side: one store for all three.
        const CHECKSUM: usize = offset_of!(Ipv4Hdr, check);
        let at = at + CHECKSUM as u32;
        let Some(old) = pkt.load(at) else { return false };
        let [c0, c1] = csum::apply(old, csum::difference(&from.src, &from.dst, &to.src, &to.dst));
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (to.src.0, to.dst.0);
        pkt.store(at, &[c0, c1, s0, s1, s2, s3, d0, d1, d2, d3])
    }

    #[inline(always)]
    fn hops<P: Pkt>(pkt: &P, at: u32) -> Option<u8> {
        pkt.load(at + offset_of!(Ipv4Hdr, ttl) as u32).map(|[hops]| hops)
    }

    #[inline(always)]
    fn store_hops<P: Pkt>(pkt: &mut P, at: u32, from: u8, to: u8) -> bool {
        // Time to live, protocol and checksum follow each other.
        let at = at + offset_of!(Ipv4Hdr, ttl) as u32;
        let Some([_, proto, c0, c1]) = pkt.load(at) else { return false };
        let [c0, c1] = csum::apply([c0, c1], csum::word_difference([from, 0, 0, 0], [to, 0, 0, 0]));
        pkt.store(at, &[to, proto, c0, c1])
    }

    #[inline(always)]
    fn end<P: Pkt>(pkt: &P, at: u32) -> Option<u32> {
        let total = u16::from_be_bytes(pkt.load(at + offset_of!(Ipv4Hdr, tot_len) as u32)?);
        Some(at + u32::from(total))
    }

    #[inline(always)]
    fn store_header<P: Pkt>(
        pkt: &mut P,
        at: u32,
        tuple: &Tuple<Self>,
        proto: u8,
        length: u32,
    ) -> Option<u32> {
        let [l0, l1] = u16::try_from(Self::HEADER + length).ok()?.to_be_bytes();
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (tuple.src.0, tuple.dst.0);
        let fixed = csum::add(u32::from_ne_bytes([0x45, 0, l0, l1]), u32::from_ne_bytes([0, 0, 0x40, 0]));
        let fixed = csum::add(fixed, u32::from_ne_bytes([HOPS, proto, 0, 0]));
        let sum = csum::add(csum::add(tuple.src.sum(), tuple.dst.sum()), fixed);
        let [c0, c1] = (!csum::fold(sum)).to_ne_bytes();
        let header = [0x45, 0, l0, l1, 0, 0, 0x40, 0, HOPS, proto, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3];
        pkt.store(at, &header).then_some(0)
    }
}

impl Family for Addr6 {
    const HEADER: u32 = Ipv6Hdr::LEN as u32;
    const ICMP: u8 = IpProto::Ipv6Icmp as u8;
    const PORT_UNREACHABLE: (u8, u8) = (1, 4);
    const TOO_BIG: (u8, u8) = (2, 0);
    const HOPS_EXCEEDED: (u8, u8) = (3, 0);
    const ECHO_REPLY: u8 = 129;

    #[inline(always)]
    fn message(kind: u8) -> Message {
        match kind {
            // Destination unreachable, packet too big, time exceeded, parameter problem.
            1..=4 => Message::Error,
            // Errors yet unknown, redirect.
            0 | 5..128 | 137 => Message::Mute,
            128 => Message::EchoRequest,
            _ => Message::Other,
        }
    }

    #[inline(always)]
    fn parse<P: Pkt>(pkt: &P, at: u32) -> Result<Network<Self>, Reason> {
        parse::ipv6(pkt, at)
    }

    #[inline(always)]
    fn store_addresses<P: Pkt>(pkt: &mut P, at: u32, _: &Tuple<Self>, to: &Tuple<Self>) -> bool {
        pkt.store(at + offset_of!(Ipv6Hdr, src_addr) as u32, &to.src.0)
            && pkt.store(at + offset_of!(Ipv6Hdr, dst_addr) as u32, &to.dst.0)
    }

    #[inline(always)]
    fn hops<P: Pkt>(pkt: &P, at: u32) -> Option<u8> {
        pkt.load(at + offset_of!(Ipv6Hdr, hop_limit) as u32).map(|[hops]| hops)
    }

    #[inline(always)]
    fn store_hops<P: Pkt>(pkt: &mut P, at: u32, _: u8, to: u8) -> bool {
        pkt.store_alone(at + offset_of!(Ipv6Hdr, hop_limit) as u32, &[to])
    }

    #[inline(always)]
    fn end<P: Pkt>(pkt: &P, at: u32) -> Option<u32> {
        let payload = u16::from_be_bytes(pkt.load(at + offset_of!(Ipv6Hdr, payload_len) as u32)?);
        Some(at + Self::HEADER + u32::from(payload))
    }

    #[inline(always)]
    fn store_header<P: Pkt>(
        pkt: &mut P,
        at: u32,
        tuple: &Tuple<Self>,
        proto: u8,
        length: u32,
    ) -> Option<u32> {
        let [l0, l1] = u16::try_from(length).ok()?.to_be_bytes();
        let pseudo = csum::add(u32::from_ne_bytes([0, 0, l0, l1]), u32::from_ne_bytes([0, 0, 0, proto]));
        let pseudo = csum::add(csum::add(tuple.src.sum(), tuple.dst.sum()), pseudo);
        let stored = pkt.store(at, &[0x60, 0, 0, 0, l0, l1, proto, HOPS])
            && pkt.store(at + offset_of!(Ipv6Hdr, src_addr) as u32, &tuple.src.0)
            && pkt.store(at + offset_of!(Ipv6Hdr, dst_addr) as u32, &tuple.dst.0);
        stored.then_some(pseudo)
    }
}
