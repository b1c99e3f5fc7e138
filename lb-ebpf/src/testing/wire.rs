//! Packets on the wire, written independently of the datapath: building, parsing, checksums from scratch.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::format;
use std::string::String;
use std::vec::Vec;

use super::packet::{Checksum, Extension, Fragment, ICMP4, ICMP6, Macs, Packet, TCP, Transport, UDP};

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
    let mut bytes = if proto == ICMP4 {
        Vec::new()
    } else {
        pseudo(packet.src, packet.dst, proto, segment.len())
    };
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
        ICMP4 | ICMP6 => Some(2),
        _ => None,
    }
}

fn segment(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    match &packet.transport {
        Transport::Tcp {
            ports: [sport, dport],
            seq,
            ack,
            flags,
            window,
            options,
        } => {
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
        Transport::Udp {
            ports: [sport, dport],
        } => {
            bytes.extend(sport.to_be_bytes());
            bytes.extend(dport.to_be_bytes());
            bytes.extend(u16::try_from(8 + packet.data.len()).unwrap_or(0).to_be_bytes());
            bytes.extend([0; 2]);
        }
        Transport::Icmp { kind, word } => {
            bytes.extend(kind);
            bytes.extend([0; 2]);
            bytes.extend(word);
        }
        Transport::Other(_) => {}
    }
    bytes.extend(&packet.data);
    if let Some(field) = checksum_field(packet.proto())
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
    let mut next: Vec<u8> = packet
        .extensions
        .iter()
        .map(|extension| extension.number)
        .collect();
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

/// Reads a packet back. Every length and every checksum is judged from scratch; what the transport checksum turned out
/// to be is in [`Packet::checksum`].
///
/// # Errors
/// What is wrong with the packet, in words: too short, a length that contradicts another, a wrong IPv4 header checksum.
pub fn parse(bytes: &[u8]) -> Result<Packet, String> {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = take(bytes, 0)?;
    let macs = Macs {
        dst: [d0, d1, d2, d3, d4, d5],
        src: [s0, s1, s2, s3, s4, s5],
    };
    let mut packet = match [t0, t1] {
        [0x08, 0x00] => parse_ipv4(&bytes[ETHERNET..])?,
        [0x86, 0xdd] => parse_ipv6(&bytes[ETHERNET..])?,
        other => return Err(format!("ether type {other:02x?}")),
    };
    packet.macs = macs;
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
        return Err(format!(
            "IPv4 header {header}, total {total}, there are {}",
            bytes.len()
        ));
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
    let mut packet = Packet::new(
        Ipv6Addr::from(src).into(),
        Ipv6Addr::from(dst).into(),
        Transport::Other(0),
    );
    packet.hop_limit = fixed[7];
    packet.class = fixed[0] << 4 | fixed[1] >> 4;
    packet.label = u16::from_be_bytes([fixed[2], fixed[3]]);
    let (mut next, mut at) = (fixed[6], 40);
    while let HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT = next {
        let [following, units] = take(bytes, at)?;
        if next == FRAGMENT {
            let word = u16::from_be_bytes(take(bytes, at + 2)?);
            packet.fragment = Some(Fragment {
                offset: word >> 3,
                more: word & 1 != 0,
            });
            packet.dont_fragment = false;
            at += 8;
        } else {
            let len = 8 * (usize::from(units) + 1);
            let body = bytes
                .get(at + 2..at + len)
                .ok_or("extension header cut")?
                .to_vec();
            packet.extensions.push(Extension { number: next, body });
            at += len;
        }
        next = following;
    }
    packet.transport = Transport::Other(next);
    parse_segment(packet, &bytes[at..])
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
    let at = expected
        .iter()
        .zip(got)
        .take_while(|(left, right)| left == right)
        .count();
    let mut text = format!(
        "lengths {} and {}, differ from byte {at} on\n",
        expected.len(),
        got.len()
    );
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
