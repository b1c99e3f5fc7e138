//! Packets on the wire, written independently of the datapath: building, parsing, checksums from scratch.

mod parse;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::format;
use std::string::String;
use std::vec::Vec;

pub use parse::parse;

use super::packet::{Checksum, Fragment, ICMP4, ICMP6, Packet, SCTP, TCP, Tag, Transport, UDP};

/// Length of the Ethernet header.
pub const ETHERNET: usize = 14;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// The one's complement sum of `bytes` as big-endian 16-bit words, the last one padded with zero, folded to 16 bits.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut total = 0_u64;
    for pair in bytes.chunks(2) {
        total += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    u16::try_from(total).unwrap_or(u16::MAX)
}

/// CRC32c of `bytes`, bit by bit (RFC 9260, appendix A).
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 };
        }
    }
    !crc
}

fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for addr in [src, dst] {
        match addr {
            IpAddr::V4(addr) => bytes.extend(addr.octets()),
            IpAddr::V6(addr) => bytes.extend(addr.octets()),
        }
    }
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    bytes.extend(len.to_be_bytes());
    bytes.extend([0, 0, 0, proto]);
    bytes
}

/// What the checksum covers beside the segment: nothing for ICMP over IPv4.
fn covered(packet: &Packet, segment: &[u8]) -> Vec<u8> {
    let proto = packet.proto();
    let mut bytes =
        if proto == ICMP4 { Vec::new() } else { pseudo(packet.src, packet.dst, proto, segment.len()) };
    bytes.extend(segment);
    bytes
}

fn pseudo_sum(packet: &Packet, len: usize) -> u16 {
    sum(&pseudo(packet.src, packet.dst, packet.proto(), len))
}

/// Offset of the checksum field in the transport header of `proto`, if it has one.
#[must_use]
pub const fn checksum_field(proto: u8) -> Option<usize> {
    match proto {
        TCP => Some(16),
        UDP => Some(6),
        SCTP => Some(8),
        ICMP4 | ICMP6 => Some(2),
        _ => None,
    }
}

fn segment(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    match &packet.transport {
        Transport::Tcp { ports: [sport, dport], seq, ack, flags, window, options } => {
            bytes.extend(sport.to_be_bytes());
            bytes.extend(dport.to_be_bytes());
            bytes.extend(seq.to_be_bytes());
            bytes.extend(ack.to_be_bytes());
            let words = u8::try_from(5 + options.len() / 4).unwrap_or(15);
            bytes.extend([words << 4, *flags]);
            bytes.extend(window.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(options);
        }
        Transport::Udp { ports: [sport, dport] } => {
            bytes.extend(sport.to_be_bytes());
            bytes.extend(dport.to_be_bytes());
            bytes.extend(u16::try_from(8 + packet.data.len()).unwrap_or(0).to_be_bytes());
            bytes.extend([0; 2]);
        }
        Transport::Sctp { ports: [sport, dport], tag, chunk } => {
            bytes.extend(sport.to_be_bytes());
            bytes.extend(dport.to_be_bytes());
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 0, 0, 0, *chunk, 0]);
            bytes.extend(u16::try_from(4 + packet.data.len()).unwrap_or(0).to_be_bytes());
        }
        Transport::Icmp { kind, word } => {
            bytes.extend(kind);
            bytes.extend([0; 2]);
            bytes.extend(word);
        }
        Transport::Other(_) => {}
    }
    bytes.extend(&packet.data);
    if matches!(packet.transport, Transport::Sctp { .. }) {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let value = match packet.checksum {
            Checksum::Partial | Checksum::Absent => 0,
            Checksum::Wrong(value) => value.into(),
            Checksum::Complete => crc32c(&bytes),
        };
        bytes[8..12].copy_from_slice(&value.to_le_bytes());
    } else if let Some(field) = checksum_field(packet.proto())
        && !matches!(packet.transport, Transport::Other(_))
    {
        let value = match packet.checksum {
            Checksum::Partial => pseudo_sum(packet, bytes.len()),
            Checksum::Absent => 0,
            Checksum::Wrong(value) => value,
            Checksum::Complete => match !sum(&covered(packet, &bytes)) {
                0 if packet.proto() == UDP => 0xffff,
                value => value,
            },
        };
        bytes[field..field + 2].copy_from_slice(&value.to_be_bytes());
    }
    bytes
}

/// Bytes of `packet`.
pub(super) fn build(packet: &Packet) -> Vec<u8> {
    let segment = segment(packet);
    let mut bytes = Vec::new();
    bytes.extend(packet.macs.dst);
    bytes.extend(packet.macs.src);
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4(&mut bytes, packet, src, dst, segment.len()),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6(&mut bytes, packet, src, dst, segment.len()),
        _ => panic!("source and destination are of two families"),
    }
    bytes.extend(segment);
    Tag::insert(&packet.tags, &mut bytes);
    bytes
}

fn ipv4(bytes: &mut Vec<u8>, packet: &Packet, src: Ipv4Addr, dst: Ipv4Addr, len: usize) {
    bytes.extend([0x08, 0x00]);
    let header = 20 + packet.options.len();
    let start = bytes.len();
    bytes.extend([0x40 | u8::try_from(header / 4).unwrap_or(15), packet.class]);
    bytes.extend(u16::try_from(header + len).unwrap_or(0).to_be_bytes());
    bytes.extend(packet.label.to_be_bytes());
    let mut word = u16::from(packet.dont_fragment) << 14;
    if let Some(Fragment { offset, more }) = packet.fragment {
        word |= u16::from(more) << 13 | offset;
    }
    bytes.extend(word.to_be_bytes());
    bytes.extend([packet.hop_limit, packet.proto(), 0, 0]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(&packet.options);
    let checksum = !sum(&bytes[start..]);
    bytes[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
}

fn ipv6(bytes: &mut Vec<u8>, packet: &Packet, src: Ipv6Addr, dst: Ipv6Addr, len: usize) {
    bytes.extend([0x86, 0xdd]);
    let first = 0x6000_0000 | u32::from(packet.class) << 20 | u32::from(packet.label);
    bytes.extend(first.to_be_bytes());
    let mut headers = Vec::new();
    let mut next: Vec<u8> = packet.extensions.iter().map(|extension| extension.number).collect();
    next.extend(packet.fragment.map(|_| FRAGMENT));
    next.push(packet.proto());
    for (extension, next) in packet.extensions.iter().zip(&next[1..]) {
        let units = u8::try_from((extension.body.len() + 2) / 8 - 1).unwrap_or(0);
        headers.extend([*next, units]);
        headers.extend(&extension.body);
    }
    if let Some(Fragment { offset, more }) = packet.fragment {
        headers.extend([packet.proto(), 0]);
        headers.extend((offset << 3 | u16::from(more)).to_be_bytes());
        headers.extend(u32::from(packet.label).to_be_bytes());
    }
    bytes.extend(u16::try_from(headers.len() + len).unwrap_or(0).to_be_bytes());
    bytes.extend([next[0], packet.hop_limit]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(headers);
}

/// What two packets differ in: the fields, one a line, and the first byte. `None` if they are the same.
#[must_use]
pub fn difference(expected: &[u8], got: &[u8]) -> Option<String> {
    if expected == got {
        return None;
    }
    let [expected_text, got_text] = [expected, got].map(|bytes| match parse(bytes) {
        Ok(packet) => format!("{packet:#?}"),
        Err(fault) => format!("{fault}\n{bytes:02x?}"),
    });
    let (mut left, mut right) = (expected_text.lines(), got_text.lines());
    let at = expected.iter().zip(got).take_while(|(left, right)| left == right).count();
    let mut text = format!("lengths {} and {}, differ from byte {at} on\n", expected.len(), got.len());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Some(text),
            (left, right) if left == right => {}
            (left, right) => {
                let [left, right] = [left, right].map(|line| line.unwrap_or_default().trim());
                text.push_str(&format!("  expected {left}\n  got      {right}\n"));
            }
        }
    }
}
