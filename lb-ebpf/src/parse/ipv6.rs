//! IPv6, with a bounded walk over extension headers (RFC 8200).

use core::mem::offset_of;

use lb_common::{Addr6, Reason};
use network_types::ip::{IpProto, Ipv6Hdr};

use super::{Network, Part};
use crate::pkt::Pkt;

/// Extension headers that are followed. RFC 8200 allows each kind once, destination options twice.
const EXTENSIONS: usize = 6;

const FRAGMENT_OFFSET: u16 = 0xfff8;
const MORE_FRAGMENTS: u16 = 1;

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
    let (mut part, mut identification) = (Part::Whole, 0);
    for _ in 0..EXTENSIONS {
        let units = match next {
            HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION | FRAGMENT => {
                let [following, length] = pkt.load(offset).ok_or(Reason::Malformed)?;
                let header = next;
                next = following;
                match header {
                    FRAGMENT => {
                        let [high, low, id @ ..]: [u8; 6] = pkt.load(offset + 2).ok_or(Reason::Malformed)?;
                        let word = u16::from_be_bytes([high, low]);
                        identification = u32::from_ne_bytes(id);
                        // An "atomic" fragment (offset 0, nothing more to come) is a whole packet, RFC 6946.
                        if word & FRAGMENT_OFFSET != 0 {
                            part = Part::Later;
                        } else if word & MORE_FRAGMENTS != 0 {
                            part = Part::First;
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
        if matches!(part, Part::Later) {
            break;
        }
    }
    Ok(Network { src: Addr6(src), dst: Addr6(dst), proto: next, transport: offset, part, identification })
}
