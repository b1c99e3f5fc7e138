//! IPv6, with a bounded walk over extension headers (RFC 8200).

use core::mem::offset_of;

use lb_common::{Addr6, Reason};
use network_types::ip::{IpProto, Ipv6Hdr};

use super::Network;
use crate::pkt::Pkt;

/// Extension headers that are followed. RFC 8200 allows each kind once, destination options twice.
const EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
const ROUTING: u8 = IpProto::Ipv6Route as u8;
const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
const AUTHENTICATION: u8 = IpProto::Ah as u8;
const DESTINATION: u8 = IpProto::Ipv6Opts as u8;

#[inline(always)]
pub(crate) fn parse<P: Pkt>(pkt: &P, at: u32) -> Result<Network<Addr6>, Reason> {
    let version: [u8; 1] = pkt.load(at).ok_or(Reason::Malformed)?;
    if version[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let src = pkt.load(at + offset_of!(Ipv6Hdr, src_addr) as u32).ok_or(Reason::Malformed)?;
    let dst = pkt.load(at + offset_of!(Ipv6Hdr, dst_addr) as u32).ok_or(Reason::Malformed)?;
    let [mut next] = pkt.load(at + offset_of!(Ipv6Hdr, next_hdr) as u32).ok_or(Reason::Malformed)?;
    let mut offset = at + Ipv6Hdr::LEN as u32;
    let mut fragment = false;
    for _ in 0..EXTENSIONS {
        let units = match next {
            HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION | FRAGMENT => {
                let [following, length] = pkt.load(offset).ok_or(Reason::Malformed)?;
                let header = next;
                next = following;
                match header {
                    FRAGMENT => {
                        let [high, low] = pkt.load(offset + 2).ok_or(Reason::Malformed)?;
                        // An "atomic" fragment (offset 0, nothing more to come) is a whole packet, RFC 6946.
                        fragment |= u16::from_be_bytes([high, low]) & 0xfff9 != 0;
                        if fragment {
                            break;
                        }
                        8
                    }
                    AUTHENTICATION => (u32::from(length) + 2) * 4,
                    _ => (u32::from(length) + 1) * 8,
                }
            }
            _ => break,
        };
        offset += units;
    }
    Ok(Network { src: Addr6(src), dst: Addr6(dst), proto: next, transport: offset, fragment })
}
