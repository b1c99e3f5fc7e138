//! Ethernet, with up to two VLAN tags in the frame (IEEE 802.1Q, 802.1ad), or no link-layer header at all.
//!
//! The kernel takes the outer tag out of a frame that it receives and keeps it beside the packet; such a tag stays there
//! whatever the datapath does with the bytes, so it needs no code.

use core::mem::offset_of;

use network_types::eth::{EthHdr, EtherType};

use crate::pkt::Pkt;

/// Length of the Ethernet header without tags.
pub const LINK: u32 = EthHdr::LEN as u32;
/// Length of a VLAN tag.
pub(crate) const TAG: u32 = 4;
/// Tags that are looked behind.
pub const TAGS: u32 = 2;

const IPV4: u16 = EtherType::Ipv4 as u16;
const IPV6: u16 = EtherType::Ipv6 as u16;
const C_TAG: u16 = EtherType::Ieee8021q as u16;
const S_TAG: u16 = EtherType::Ieee8021ad as u16;

/// What follows the link-layer header.
///
/// Not an `Option`: see `flow::Idle`.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// Family of the packet: 4, 6, or 0 for anything but IP.
    pub(crate) family: u8,
    /// Offset of the network header; 0 where packets have no link-layer header.
    pub(crate) network: u32,
}

/// A packet that begins with its network header: `kind` is the EtherType that the kernel has for it, as it would lie in a
/// frame.
#[inline(always)]
pub(crate) const fn bare(kind: u16) -> Link {
    let family = match kind {
        IPV4 => 4,
        IPV6 => 6,
        _ => 0,
    };
    Link { family, network: 0 }
}

/// Parses the Ethernet header.
#[inline(always)]
pub(crate) fn link<P: Pkt>(pkt: &P) -> Link {
    let mut at = offset_of!(EthHdr, ether_type) as u32;
    for _ in 0..=TAGS {
        let kind = pkt.load(at).map_or(0, u16::from_ne_bytes);
        let network = at + 2;
        match kind {
            IPV4 => return Link { family: 4, network },
            IPV6 => return Link { family: 6, network },
            C_TAG | S_TAG => at += TAG,
            _ => break,
        }
    }
    Link { family: 0, network: 0 }
}

/// Makes room for `bytes` in front of the network header at `network`. False if the kernel refuses.
///
/// The kernel's own helper for that (`bpf_skb_adjust_room`) refuses frames with tags: it knows the offset of the
/// network header of plain ones only. So the frame grows at its front, and the link-layer header moves there.
#[must_use]
#[inline(always)]
pub(crate) fn insert_room<P: Pkt>(pkt: &mut P, network: u32, bytes: u32) -> bool {
    if !pkt.grow_head(bytes) {
        return false;
    }
    if network == 0 {
        return true;
    }
    let Some(plain) = pkt.load::<{ EthHdr::LEN }>(bytes) else { return false };
    if !pkt.store(0, &plain) {
        return false;
    }
    for tag in 0..TAGS {
        let at = LINK + tag * TAG;
        if at >= network {
            break;
        }
        let Some(tag) = pkt.load::<{ TAG as usize }>(bytes + at) else { return false };
        if !pkt.store(at, &tag) {
            return false;
        }
    }
    true
}
