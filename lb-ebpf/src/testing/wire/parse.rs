//! Packets read back.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::format;
use std::string::String;
use std::vec::Vec;

use super::{DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING, checksum_field, covered, crc32c, pseudo_sum, sum};
use crate::testing::packet::{
    C_TAG, Checksum, Extension, Fragment, ICMP4, ICMP6, Macs, Packet, S_TAG, SCTP, TCP, Tag, Transport, UDP,
};

/// Reads a packet back. Every length and every checksum is judged from scratch; what the transport checksum turned out
/// to be is in [`Packet::checksum`].
///
/// # Errors
/// What is wrong with the packet, in words: too short, a length that contradicts another, a wrong IPv4 header checksum.
pub fn parse(bytes: &[u8]) -> Result<Packet, String> {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = take(bytes, 0)?;
    let macs = Macs { dst: [d0, d1, d2, d3, d4, d5], src: [s0, s1, s2, s3, s4, s5] };
    let (mut tags, mut at) = (Vec::new(), 12);
    let mut packet = loop {
        let kind = u16::from_be_bytes(take(bytes, at)?);
        at += 2;
        match kind {
            0x0800 => break parse_ipv4(&bytes[at..])?,
            0x86dd => break parse_ipv6(&bytes[at..])?,
            C_TAG | S_TAG => {
                tags.push(Tag { kind, control: u16::from_be_bytes(take(bytes, at)?) });
                at += 2;
            }
            other => return Err(format!("ether type {other:#06x}")),
        }
    };
    (packet.macs, packet.tags) = (macs, tags);
    Ok(packet)
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    bytes
        .get(at..at + N)
        .and_then(|part| part.try_into().ok())
        .ok_or_else(|| format!("{N} bytes at {at} are not in {}", bytes.len()))
}

fn parse_ipv4(bytes: &[u8]) -> Result<Packet, String> {
    let fixed: [u8; 20] = take(bytes, 0)?;
    let header = usize::from(fixed[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if fixed[0] >> 4 != 4 || header < 20 || total != bytes.len() || header > total {
        return Err(format!("IPv4 header {header}, total {total}, there are {}", bytes.len()));
    }
    if sum(&bytes[..header]) != 0xffff {
        return Err(format!("IPv4 header checksum {:02x?}", &fixed[10..12]));
    }
    let word = u16::from_be_bytes([fixed[6], fixed[7]]);
    let (offset, more) = (word & 0x1fff, word & 0x2000 != 0);
    let src = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    let dst = Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]);
    let mut packet = Packet::new(src.into(), dst.into(), Transport::Other(fixed[9]));
    packet.hop_limit = fixed[8];
    packet.class = fixed[1];
    packet.label = u16::from_be_bytes([fixed[4], fixed[5]]);
    packet.dont_fragment = word & 0x4000 != 0;
    packet.options = bytes[20..header].to_vec();
    packet.fragment = (offset != 0 || more).then_some(Fragment { offset, more });
    parse_segment(packet, &bytes[header..])
}

fn parse_ipv6(bytes: &[u8]) -> Result<Packet, String> {
    let fixed: [u8; 40] = take(bytes, 0)?;
    let payload = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    if fixed[0] >> 4 != 6 || payload + 40 != bytes.len() {
        return Err(format!("IPv6 payload {payload}, there are {}", bytes.len()));
    }
    let src: [u8; 16] = take(bytes, 8)?;
    let dst: [u8; 16] = take(bytes, 24)?;
    let mut packet = Packet::new(Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into(), Transport::Other(0));
    packet.hop_limit = fixed[7];
    packet.class = fixed[0] << 4 | fixed[1] >> 4;
    packet.label = u16::from_be_bytes([fixed[2], fixed[3]]);
    let (mut next, mut at) = (fixed[6], 40);
    while let HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT = next {
        let [following, units] = take(bytes, at)?;
        if next == FRAGMENT {
            let word = u16::from_be_bytes(take(bytes, at + 2)?);
            packet.fragment = Some(Fragment { offset: word >> 3, more: word & 1 != 0 });
            packet.dont_fragment = false;
            at += 8;
        } else {
            let len = 8 * (usize::from(units) + 1);
            let body = bytes.get(at + 2..at + len).ok_or("extension header cut")?.to_vec();
            packet.extensions.push(Extension { number: next, body });
            at += len;
        }
        next = following;
    }
    packet.transport = Transport::Other(next);
    parse_segment(packet, &bytes[at..])
}

fn parse_sctp(mut packet: Packet, bytes: &[u8]) -> Result<Packet, String> {
    let fixed: [u8; 16] = take(bytes, 0)?;
    let [s0, s1, d0, d1, tag @ .., c0, c1, c2, c3, chunk, _, l0, l1] = fixed;
    let ports = [u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])];
    packet.transport = Transport::Sctp { ports, tag: u32::from_be_bytes(tag), chunk };
    let len = 12 + usize::from(u16::from_be_bytes([l0, l1]));
    let whole = packet.fragment.is_none_or(|fragment| !fragment.more);
    if whole && (len < 16 || len.next_multiple_of(4) != bytes.len()) {
        return Err(format!("SCTP chunk ends at {len}, the packet at {}", bytes.len()));
    }
    packet.data = bytes.get(16..if whole { len } else { bytes.len() }).ok_or("SCTP chunk cut")?.to_vec();
    let mut covered = bytes.to_vec();
    covered[8..12].fill(0);
    packet.checksum = match u32::from_le_bytes([c0, c1, c2, c3]) {
        0 => Checksum::Partial,
        value if value == crc32c(&covered) => Checksum::Complete,
        _ => Checksum::Wrong(u16::from_le_bytes([c0, c1])),
    };
    Ok(packet)
}

fn parse_segment(mut packet: Packet, bytes: &[u8]) -> Result<Packet, String> {
    let Transport::Other(proto) = packet.transport else {
        return Err("the transport header is parsed already".into());
    };
    if packet.fragment.is_some_and(|fragment| fragment.offset != 0) {
        packet.data = bytes.to_vec();
        return Ok(packet);
    }
    let ports = || -> Result<[u16; 2], String> {
        let [a, b, c, d] = take(bytes, 0)?;
        Ok([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
    };
    let header = match (proto, packet.src) {
        (TCP, _) => {
            let fixed: [u8; 20] = take(bytes, 0)?;
            let header = usize::from(fixed[12] >> 4) * 4;
            packet.transport = Transport::Tcp {
                ports: ports()?,
                seq: u32::from_be_bytes(take(bytes, 4)?),
                ack: u32::from_be_bytes(take(bytes, 8)?),
                flags: fixed[13],
                window: u16::from_be_bytes([fixed[14], fixed[15]]),
                options: bytes.get(20..header).ok_or("TCP header length")?.to_vec(),
            };
            header
        }
        (UDP, _) => {
            let len = usize::from(u16::from_be_bytes(take(bytes, 4)?));
            if len != bytes.len() && packet.fragment.is_none() {
                return Err(format!("UDP length {len}, there are {}", bytes.len()));
            }
            packet.transport = Transport::Udp { ports: ports()? };
            8
        }
        (SCTP, _) => return parse_sctp(packet, bytes),
        (ICMP4, IpAddr::V4(_)) | (ICMP6, IpAddr::V6(_)) => {
            let kind = take(bytes, 0)?;
            let word = take(bytes, 4)?;
            packet.transport = Transport::Icmp { kind, word };
            8
        }
        _ => 0,
    };
    packet.data = bytes.get(header..).ok_or("transport header cut")?.to_vec();
    if let Some(field) = checksum_field(proto).filter(|_| header != 0) {
        let value = u16::from_be_bytes(take(bytes, field)?);
        packet.checksum = match value {
            0 if proto == UDP && packet.src.is_ipv4() => Checksum::Absent,
            // On IPv6 zero is not the other way to write all ones (RFC 8200, 8.1).
            0 if proto == UDP => Checksum::Wrong(0),
            _ if sum(&covered(&packet, bytes)) == 0xffff => Checksum::Complete,
            value if value == pseudo_sum(&packet, bytes.len()) => Checksum::Partial,
            value => Checksum::Wrong(value),
        };
    }
    Ok(packet)
}
