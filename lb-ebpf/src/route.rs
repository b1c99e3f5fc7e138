//! Packets that are sent on by the node's routes, past the host stack: those of masqueraded flows.
//!
//! The host stack would take a packet from one of its own addresses that comes in by an interface for a forgery, and
//! the answer to it for one of its own connections. So such packets never enter it, and what a router owes them is done
//! here.

use core::mem::offset_of;

use lb_common::{
    Addr6, Address, FlowKey, FlowName, Proto, Reason, Scratch, Tuple, WayRecord, interface_flags,
};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::cut::outcome;
use crate::env::Env;
use crate::family::Family;
use crate::parse::Flags;
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
    /// Bytes that a packet may have from its network header on, but for [`Way::None`].
    pub mtu: u32,
    /// If it was asked for: the node's address towards there; unset if it has none.
    pub source: A,
    /// Of [`Way::Out`]: the next hop; an IPv4 one as an IPv4-mapped address.
    pub next: Addr6,
    /// Of [`Way::Out`]: whether packets have no link-layer header there, which [`find`] finds out.
    pub bare: bool,
    /// Of [`Way::Out`]: destination and source of an Ethernet frame that goes there, as they lie in it; zeros where the next
    /// hop is not resolved.
    pub link: [u32; 3],
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
    // What opens a connection may come again because its next hop has moved: the kernel is to ask for that.
    let opens = Flags(scratch.flags).opens();
    if !opens && known(pkt, env, scratch, false).is_some() {
        leaves(env, scratch);
        return Ok(Found::Way);
    }
    let mut route = way(pkt, env, scratch)?;
    // Such devices have no addresses of neighbours: the kernel tells none, or the device's own for both ends.
    let [d, m, s] = route.link;
    let ([d0, d1, d2, d3], [d4, d5, s0, s1], [s2, s3, s4, s5]) =
        (d.to_ne_bytes(), m.to_ne_bytes(), s.to_ne_bytes());
    let alike = [d0, d1, d2, d3, d4, d5] == [s0, s1, s2, s3, s4, s5];
    // A way is kept where frames are Ethernet's for certain: other devices have link-layer addresses of their own kind.
    let flags = if alike || scratch.flow != 0 { env.interface(route.interface).flags } else { 0 };
    let bare = flags & interface_flags::BARE != 0;
    let ethernet = flags & (interface_flags::PODS | interface_flags::OUTWARD) != 0 && !bare;
    route.bare = alike && bare;
    if !env.send(&route) {
        return Err(Reason::NoRoute);
    }
    leaves(env, scratch);
    if !alike && ethernet {
        keep(env, scratch, &route, false);
    }
    Ok(Found::Way)
}

/// The same before the host stack, of a way that is not [`known`]: there is nothing to resolve a neighbour with, and of
/// other interfaces there are only those that take frames.
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
    if route.link == [0; 3] || !takes || !env.send(&route) {
        return Err(Reason::NoRoute);
    }
    keep(env, scratch, &route, !back);
    Ok(if back { Found::Back } else { Found::Way })
}

/// The way that a packet of the same flow was sent by lately, `early` one that XDP can send by; it is noted.
///
/// The kernel's choice among several ways is each flow's own, so they are kept by flow, and for so short a time that
/// nothing need be told of changes. A packet that the kernel would answer is left to it.
#[inline(always)]
pub(crate) fn known<A: Family, P: Pkt, E: Env<A>>(
    pkt: &P,
    env: &E,
    scratch: &Scratch<A>,
    early: bool,
) -> Option<Found> {
    let Scratch { key, network, transport, interface, now, flow, .. } = scratch;
    // Without a link-layer header there is no room yet for these addresses.
    if *flow == 0 || *network == 0 || A::hops(pkt, *network)? <= 1 {
        return None;
    }
    let length = longest(pkt, key, *network, *transport);
    let way = env.way(FlowName(*flow).place())?;
    let back = way.interface == *interface;
    let goes = way.serves(FlowName(*flow), *now) && (back || !early || way.frames != 0) && length <= way.mtu;
    if !goes || !env.forward(way.interface, way.link) {
        return None;
    }
    Some(if back { Found::Back } else { Found::Way })
}

/// Keeps the way of the packet's flow, which leads to a neighbour that is resolved.
#[inline(always)]
fn keep<A: Family, E: Env<A>>(env: &E, scratch: &Scratch<A>, route: &Route<A>, frames: bool) {
    let Scratch { flow, now, .. } = *scratch;
    if flow != 0
        && let Some(mut way) = env.way(FlowName(flow).place())
    {
        way.flow = flow;
        way.interface = route.interface;
        way.asked = WayRecord::stamp(now);
        way.link = route.link;
        way.mtu = u16::try_from(route.mtu).unwrap_or(u16::MAX);
        way.frames = u8::from(frames);
    }
}

/// The packet that becomes `scratch.to` is sent on: it is met once more where it leaves.
#[inline(always)]
fn leaves<A: Address, E: Env<A>>(env: &E, scratch: &Scratch<A>) {
    let sent = trace(&scratch.to, scratch.key.proto);
    env.with_cpu(|cpu| cpu.sent_on = sent);
}

/// Whether the packet of this key, which leaves and came by an interface, is the one that was sent on just now. What else
/// has these ports and this hash passes as well, as what is sent on does; it is no packet of the host's own.
#[inline(always)]
pub(crate) fn was_sent_on<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>) -> bool {
    let sent = env.with_cpu(|cpu| cpu.sent_on).unwrap_or(0);
    let met = sent != 0 && sent == trace(&key.tuple, key.proto);
    if met {
        env.with_cpu(|cpu| cpu.sent_on = 0);
    }
    met
}

/// Ports and hash of a packet.
#[inline(always)]
fn trace<A: Address>(tuple: &Tuple<A>, proto: u8) -> u64 {
    u64::from(u32::from_ne_bytes(tuple.ports())) << 32 | u64::from(tuple.hash(proto))
}

/// The way of the packet, which is [`Way::Out`].
#[inline(always)]
pub(crate) fn way<A: Family, P: Pkt, E: Env<A>>(
    pkt: &P,
    env: &E,
    scratch: &mut Scratch<A>,
) -> Result<Route<A>, Reason> {
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

/// Writes destination and source of the frame. They come in words: twelve bytes would take the stack's room twelve times.
#[inline(always)]
pub fn put_link<P: Pkt>(pkt: &mut P, [d, m, s]: [u32; 3]) -> bool {
    pkt.store(0, &d.to_ne_bytes()) && pkt.store(4, &m.to_ne_bytes()) && pkt.store(8, &s.to_ne_bytes())
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
