//! IPv4, with options (RFC 791).

use core::mem::offset_of;

use lb_common::{Addr4, Reason};
use network_types::ip::Ipv4Hdr;

use super::{Network, Part};
use crate::pkt::Pkt;

const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(crate) fn parse<P: Pkt>(pkt: &P, at: u32) -> Result<Network<Addr4>, Reason> {
    let header: [u8; Ipv4Hdr::LEN] = pkt.load(at).ok_or(Reason::Malformed)?;
    let [vihl, .., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let length = u32::from(vihl & 0xf) * 4;
    if vihl >> 4 != 4 || length < Ipv4Hdr::LEN as u32 {
        return Err(Reason::Malformed);
    }
    let word =
        u16::from_be_bytes([header[offset_of!(Ipv4Hdr, frags)], header[offset_of!(Ipv4Hdr, frags) + 1]]);
    let part = if word & FRAGMENT_OFFSET != 0 {
        Part::Later
    } else if word & MORE_FRAGMENTS != 0 {
        Part::First
    } else {
        Part::Whole
    };
    let [i0, i1] = [header[offset_of!(Ipv4Hdr, id)], header[offset_of!(Ipv4Hdr, id) + 1]];
    Ok(Network {
        src: Addr4([s0, s1, s2, s3]),
        dst: Addr4([d0, d1, d2, d3]),
        proto: header[offset_of!(Ipv4Hdr, proto)],
        transport: at + length,
        part,
        identification: u32::from_ne_bytes([i0, i1, 0, 0]),
    })
}
