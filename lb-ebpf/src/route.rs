//! Packets that are sent on by the node's routes, past the host stack: those of masqueraded flows.
//!
//! The host stack would take a packet from one of its own addresses that comes in by an interface for a forgery, and
//! the answer to it for one of its own connections. So such packets never enter it, and what a router owes them is done
//! here.

use core::mem::offset_of;

use lb_common::{Addr6, FlowKey, Proto, Reason, Scratch, interface_flags};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::cut::outcome;
use crate::env::Env;
use crate::family::Family;
use crate::pkt::Pkt;

/// What the node does with a packet that it is to route.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// It sends the packet out of an interface.
    Out = 0,
    /// The address is its own, or it has no route to it.
    None = 1,
    /// The packet is too long for the way out.
    TooBig = 2,
}

/// Where the node's routes lead. Plain fields that are always set, for the verifier's sake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route<A> {
    /// What the node does with the packet.
    pub way: Way,
    /// Of [`Way::Out`]: index of the interface.
    pub interface: u32,
    /// Of [`Way::TooBig`]: bytes that a packet may have from its network header on.
    pub mtu: u32,
    /// If it was asked for: the node's address towards there; unset if it has none.
    pub source: A,
    /// Of [`Way::Out`]: the next hop; an IPv4 one as an IPv4-mapped address.
    pub next: Addr6,
    /// Of [`Way::Out`]: whether packets have no link-layer header there, which [`find`] finds out.
    pub bare: bool,
    /// Of [`Way::Out`]: destination and source of an Ethernet frame that goes there; zeros where the next hop is not
    /// resolved.
    pub link: [u8; 12],
}

/// What is asked about a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// The way of packets that have so many bytes from their network header on.
    Way(u16),
    /// The way, and the node's address towards there.
    Source,
}

outcome! {
    /// The way of a packet, which is noted.
    Found {
        /// It has one.
        Way = 0,
        /// It leads back out of the interface that the packet came by.
        Back = 1,
    }
}

/// `GSO_BY_FRAGS`: an aggregate of SCTP, whose packets lie beside it, each as long as its sender made it.
const BY_PACKETS: u32 = 0xffff;

/// Finds the way that the packet goes once it is addressed to `scratch.to`, and notes it.
///
/// # Errors
/// The reason why the packet goes no further.
#[inline(always)]
pub fn find<A: Family, P: Pkt, E: Env<A>>(
    pkt: &P,
    env: &E,
    scratch: &mut Scratch<A>,
) -> Result<Found, Reason> {
    let mut route = way(pkt, env, scratch)?;
    // Such devices have no addresses of neighbours: the kernel tells none, or the device's own for both ends.
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = route.link;
    let alike = [d0, d1, d2, d3, d4, d5] == [s0, s1, s2, s3, s4, s5];
    route.bare = alike && env.interface(route.interface).flags & interface_flags::BARE != 0;
    if env.send(&route) { Ok(Found::Way) } else { Err(Reason::NoRoute) }
}

/// The same before the host stack, which has nothing to resolve a neighbour with there, and of other interfaces only
/// those that take frames.
///
/// # Errors
/// It cannot be sent on from there, for a reason that is not told.
#[inline(always)]
pub fn shortcut<A: Family, P: Pkt, E: Env<A>>(
    pkt: &P,
    env: &E,
    scratch: &mut Scratch<A>,
) -> Result<Found, Reason> {
    let route = way(pkt, env, scratch)?;
    let back = route.interface == scratch.interface;
    let takes = back || env.interface(route.interface).flags & interface_flags::FRAMES != 0;
    if route.link == [0; 12] || !takes || !env.send(&route) {
        return Err(Reason::NoRoute);
    }
    Ok(if back { Found::Back } else { Found::Way })
}

/// The way of the packet, which is [`Way::Out`].
#[inline(always)]
fn way<A: Family, P: Pkt, E: Env<A>>(pkt: &P, env: &E, scratch: &mut Scratch<A>) -> Result<Route<A>, Reason> {
    let Scratch { key, to, network, transport, mtu, .. } = scratch;
    if A::hops(pkt, *network).ok_or(Reason::Malformed)? <= 1 {
        return Err(Reason::HopsExceeded);
    }
    let route = env.route(key, &to.dst, Ask::Way(longest(pkt, key, *network, *transport)));
    match route.way {
        Way::Out => Ok(route),
        Way::None => Err(Reason::NoRoute),
        Way::TooBig => {
            *mtu = route.mtu;
            Err(Reason::PacketTooBig)
        }
    }
}

/// Makes of a packet what a router sends on: one hop less, and no tags of the link that it came by. False if the kernel
/// refused.
#[inline(always)]
pub(crate) fn pass_on<A: Family, P: Pkt>(pkt: &mut P, network: u32) -> bool {
    let Some(hops) = A::hops(pkt, network) else { return false };
    A::store_hops(pkt, network, hops, hops.saturating_sub(1)) && pkt.plain(network)
}

/// Bytes of the packet from its network header on; of an aggregate, those of each packet that it will be cut into.
#[inline(always)]
fn longest<A: Family, P: Pkt>(pkt: &P, key: &FlowKey<A>, network: u32, transport: u32) -> u16 {
    let segment = pkt.segment();
    let end = if segment == 0 {
        pkt.length()
    } else if segment == BY_PACKETS {
        network
    } else {
        const OFFSET: u32 = offset_of!(TcpHdr, ack_seq) as u32 + 4;
        let header = match pkt.load(transport + OFFSET) {
            Some([offset]) if key.proto == Proto::Tcp as u8 => u32::from(offset >> 4) * 4,
            _ => UdpHdr::LEN as u32,
        };
        transport + header + segment
    };
    u16::try_from(end.saturating_sub(network)).unwrap_or(u16::MAX)
}
