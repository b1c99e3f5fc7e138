//! The interfaces and routes of the node that fixtures play on. The same for all fixtures; through the real programs
//! they are those of a network namespace.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::interface_flags::{LOCAL, OUTWARD, PODS};

/// Where the pods of this node are; clients that come by it are local.
pub const POD: u32 = 10;
/// The uplink, behind which the gateway to other nodes is.
pub const UPLINK: u32 = 11;
/// An interface of which the programs know nothing.
pub const OTHER: u32 = 12;
/// An interface with pods; clients that come by it are not local.
pub const GUEST: u32 = 13;

/// What the programs are told of interfaces.
pub const INTERFACES: [(u32, u32); 3] = [(POD, PODS | LOCAL), (UPLINK, OUTWARD), (GUEST, PODS)];

/// The longest packet on the way to pods that say so, from its network header on.
pub const NARROW: u32 = 1300;

/// A route of the node: an IPv4 /24 and an IPv6 /64.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// Its first three bytes, and its first two words.
    pub prefix: ([u8; 3], [u16; 2]),
    /// The interface that it leads to.
    pub interface: u32,
    /// The host number of the node's own address in it, if it has one; else the gateway's is [`GATEWAY`].
    pub own: Option<u8>,
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
/// All.
pub const NETS: [Net; 6] = [PODS_HERE, PODS_AWAY, BEYOND, PODS_NARROW, NODES, OUTSIDE];

/// Host number of the gateway in [`NODES`].
pub const GATEWAY: u8 = 254;

const fn net(prefix: ([u8; 3], [u16; 2]), interface: u32, own: Option<u8>, mtu: Option<u32>) -> Net {
    Net { prefix, interface, own, mtu }
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
