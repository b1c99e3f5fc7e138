//! The interfaces and routes of the node that fixtures play on. The same for all fixtures; through the real programs
//! they are those of a network namespace.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::interface_flags::{BARE, FRAMES, LOCAL, OUTWARD, PEER, PODS};
use lb_common::{Address, InterfaceValue, Point};

use super::tables::mapped;
use crate::route::{Ask, Route, Way};

/// Where the pods of this node are; clients that come by it are local.
pub const POD: u32 = 10;
/// The uplink, behind which the gateway to other nodes is.
pub const UPLINK: u32 = 11;
/// An interface of which the programs know nothing.
pub const OTHER: u32 = 12;
/// An interface with pods; clients that come by it are not local.
pub const GUEST: u32 = 13;

/// Another uplink.
pub const ACROSS: u32 = 14;
/// An uplink that takes no frames of XDP.
pub const BESIDE: u32 = 15;
/// A tunnel where packets have no link-layer header.
pub const TUNNEL: u32 = 16;

/// All interfaces.
pub const ALL: [u32; 7] = [POD, UPLINK, OTHER, GUEST, ACROSS, BESIDE, TUNNEL];

/// What the programs are told of interfaces.
pub const INTERFACES: [(u32, u32); 6] = [
    (POD, PODS | LOCAL | PEER),
    (UPLINK, OUTWARD | FRAMES),
    (GUEST, PODS),
    (ACROSS, OUTWARD | FRAMES),
    (BESIDE, OUTWARD),
    (TUNNEL, OUTWARD | BARE),
];

/// The longest packet on the way to pods that say so, from its network header on.
pub const NARROW: u32 = 1300;

/// A route of the node: an IPv4 /24 and an IPv6 /64.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// Its first three bytes, and its first two words.
    pub prefix: ([u8; 3], [u16; 2]),
    /// The interface that it leads to.
    pub interface: u32,
    /// The host number of the node's own address in it, if it has one.
    pub own: Option<u8>,
    /// Else that of the gateway, among the addresses that are each link's own.
    pub gateway: u8,
    /// The longest packet, if it is less than the interface's.
    pub mtu: Option<u32>,
}

/// Network of this node's pods.
pub const PODS_HERE: Net = net(([10, 244, 1], [0xfd00, 0x244]), POD, Some(1), None);
/// Network of another node's pods.
pub const PODS_AWAY: Net = net(([10, 244, 2], [0xfd00, 0x245]), UPLINK, None, None);
/// Network behind [`OTHER`].
pub const BEYOND: Net = net(([10, 244, 3], [0xfd00, 0x246]), OTHER, Some(1), None);
/// Network of another node's pods to which only short packets pass.
pub const PODS_NARROW: Net = net(([10, 244, 4], [0xfd00, 0x247]), UPLINK, None, Some(NARROW));
/// Network of nodes.
pub const NODES: Net = net(([192, 0, 2], [0x2001, 0xdb8]), UPLINK, Some(1), None);
/// Network of clients outside the cluster.
pub const OUTSIDE: Net = net(([198, 51, 100], [0x2001, 0xdb9]), UPLINK, None, None);
/// Network of another node's pods, by another uplink.
pub const PODS_ACROSS: Net = net(([10, 244, 5], [0xfd00, 0x248]), ACROSS, None, None);
/// Network of another node's pods, by an uplink that takes no frames.
pub const PODS_BESIDE: Net = net(([10, 244, 6], [0xfd00, 0x249]), BESIDE, None, None);
/// Network of another node's pods, by a gateway that nobody has resolved.
pub const PODS_SILENT: Net =
    Net { gateway: SILENT, ..net(([10, 244, 7], [0xfd00, 0x24a]), UPLINK, None, None) };
/// Network of another node's pods, through the tunnel.
pub const PODS_BEHIND: Net =
    Net { gateway: SILENT, ..net(([10, 244, 8], [0xfd00, 0x24b]), TUNNEL, None, None) };
/// All.
pub const NETS: [Net; 10] = [
    PODS_HERE,
    PODS_AWAY,
    BEYOND,
    PODS_NARROW,
    NODES,
    OUTSIDE,
    PODS_ACROSS,
    PODS_BESIDE,
    PODS_SILENT,
    PODS_BEHIND,
];

/// Host number of the gateway whose link-layer address is known on every link.
pub const GATEWAY: u8 = 254;
/// Host number of one whose is not.
pub const SILENT: u8 = 253;

/// The link-layer address of an interface.
#[must_use]
pub const fn address_of(interface: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, interface as u8]
}

/// The interface by which packets come to a point, or leave from it, unless something else is said.
#[must_use]
pub const fn at(point: Point) -> u32 {
    match point {
        Point::PodIngress | Point::PodEgress => POD,
        Point::OutwardIngress | Point::OutwardEgress => UPLINK,
    }
}

/// What the programs are told of an interface.
#[must_use]
pub fn interface(index: u32) -> InterfaceValue {
    let known = INTERFACES.into_iter().find(|(known, _)| *known == index);
    known.map_or_else(InterfaceValue::default, |(_, flags)| InterfaceValue {
        flags,
        mac: address_of(index),
        ..InterfaceValue::default()
    })
}

/// Destination and source of frames to the gateway by an interface.
#[must_use]
pub const fn link(interface: u32) -> [u8; 12] {
    let ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]) =
        (address_of(GATEWAY as u32), address_of(interface));
    [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]
}

const fn net(prefix: ([u8; 3], [u16; 2]), interface: u32, own: Option<u8>, mtu: Option<u32>) -> Net {
    Net { prefix, interface, own, gateway: GATEWAY, mtu }
}

impl Net {
    /// Address number `host`.
    #[must_use]
    pub const fn host(&self, v6: bool, host: u8) -> IpAddr {
        let ([a, b, c], [p, q]) = self.prefix;
        if v6 {
            IpAddr::V6(Ipv6Addr::new(p, q, 0, 0, 0, 0, 0, host as u16))
        } else {
            IpAddr::V4(Ipv4Addr::new(a, b, c, host))
        }
    }

    /// Address of the gateway.
    #[must_use]
    pub const fn gateway(&self, v6: bool) -> IpAddr {
        net(([169, 254, 0], [0xfe80, 0]), self.interface, None, None).host(v6, self.gateway)
    }

    /// The network that `addr` is in.
    #[must_use]
    pub fn of(addr: IpAddr) -> Option<Self> {
        NETS.into_iter().find(|net| match (addr, net.host(addr.is_ipv6(), 0)) {
            (IpAddr::V4(addr), IpAddr::V4(first)) => addr.octets()[..3] == first.octets()[..3],
            (IpAddr::V6(addr), IpAddr::V6(first)) => addr.segments()[..4] == first.segments()[..4],
            _ => false,
        })
    }
}

/// What the node's routes say.
pub(crate) fn route<A: Address>(to: &A, ask: Ask) -> Route<A> {
    let unset = A::default();
    let none = Route {
        way: Way::None,
        interface: 0,
        mtu: 0,
        source: unset,
        next: unset.to_mapped(),
        bare: false,
        link: [0; 3],
    };
    let to: IpAddr = (*to).into();
    let Some(net) = Net::of(to) else { return none };
    let own = |net: Net| net.own.map(|host| net.host(to.is_ipv6(), host));
    if own(net) == Some(to) {
        return none;
    }
    if let (Ask::Way(length), Some(mtu)) = (ask, net.mtu)
        && u32::from(length) > mtu
    {
        return Route { way: Way::TooBig, mtu, ..none };
    }
    let next = if net.own.is_some() { to } else { net.gateway(to.is_ipv6()) };
    // Of a neighbour behind a tunnel that has an address the kernel tells that; a device of TUN, with which the programs are
    // tried in the kernel, has none.
    let link = match net {
        Net { interface: TUNNEL, .. } => bytemuck::cast([192_u8, 0, 2, 1, 0, 0, 192, 0, 2, 1, 0, 0]),
        Net { gateway: GATEWAY, interface, .. } => bytemuck::cast(link(interface)),
        _ => [0; 3],
    };
    let source = if ask == Ask::Source { own(net).or(own(NODES)) } else { None };
    let source = source.and_then(|source| A::from_mapped(&mapped(source))).unwrap_or_default();
    let mtu = net.mtu.unwrap_or(u32::from(u16::MAX));
    Route { way: Way::Out, interface: net.interface, mtu, source, next: mapped(next), link, ..none }
}

/// The same way by the other uplink.
pub(crate) fn across<A: Address>(route: Route<A>) -> Route<A> {
    Route { interface: ACROSS, link: bytemuck::cast(link(ACROSS)), ..route }
}
