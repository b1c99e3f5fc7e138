//! Frontends, the addresses that they are at, and who may use them: what user space programs.
//!
//! A lookup goes address → frontend → service → slot. Writers publish in the opposite order, and every step of a
//! reader is one aligned load, so a half-written update is never seen.

use crate::abi::{shared, write_last_word};
use crate::addr::{Addr4, Addr6, Address, Port};

/// Key of the frontend tables: 8 bytes for IPv4, 20 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct FrontendKey<A> {
    /// The Service's address, network order.
    pub addr: A,
    /// The Service's port, network order.
    pub port: Port,
    /// IANA protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
}

impl<A: Address> FrontendKey<A> {
    /// The key of `proto` port `port` of `addr`.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr: A, port: Port, proto: u8) -> Self {
        let mut key = Self { addr, port, proto, pad: 0 };
        let halves = [u16::from_ne_bytes(port.0), u16::from_ne_bytes([proto, 0])];
        // SAFETY: the last word of the key is these four bytes, as `shared!` has proved of either family, and any bytes are a
        // word.
        unsafe { write_last_word(&mut key, core::mem::transmute::<[u16; 2], u32>(halves)) };
        key
    }
}

/// Where a Service is reached. It says which traffic policy applies, and whether source ranges do.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp = 0,
    /// `spec.externalIPs` (B41).
    ExternalIp = 1,
    /// `status.loadBalancer.ingress[].ip` with the mode VIP (B42).
    LoadBalancer = 2,
    /// `spec.ports[].nodePort`: the key has the unspecified address, and holds for every address with
    /// [`address_flags::NODE_PORTS`].
    NodePort = 3,
}

impl FrontendKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ClusterIp, Self::ExternalIp, Self::LoadBalancer, Self::NodePort];

    /// The kind with this number.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::ClusterIp),
            1 => Some(Self::ExternalIp),
            2 => Some(Self::LoadBalancer),
            3 => Some(Self::NodePort),
            _ => None,
        }
    }

    /// Stable name, for the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "ExternalIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
        }
    }

    /// What the address of such a frontend is.
    #[must_use]
    pub const fn address(self) -> AddressKind {
        match self {
            Self::ClusterIp => AddressKind::ClusterIp,
            Self::ExternalIp | Self::LoadBalancer => AddressKind::External,
            Self::NodePort => AddressKind::Node,
        }
    }
}

/// Value of the frontend tables, 8 bytes. Never changes while the entry lives.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrontendValue {
    /// Id of the Service port: index into `services`, `service_meta` and `service_stats`.
    pub service: u32,
    /// A [`FrontendKind`].
    pub kind: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// What an address is to the node.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum AddressKind {
    /// It belongs to a Service as a whole: unserved ports are rejected, echo requests answered.
    ClusterIp = 0,
    /// Ports that a Service serves at it are taken, all else passes untouched. It may be a node's address besides.
    External = 1,
    /// An address of this node with no frontend of its own: what is taken are node ports.
    Node = 2,
}

/// Bits of [`AddressValue::flags`].
pub mod address_flags {
    /// An interface of this node has the address. A ClusterIP is then left to the host altogether.
    pub const HELD: u8 = 1;
    /// Node ports are served at it: frontends with the unspecified address hold for it, after its own. Loopback
    /// addresses with this flag are served to the host's sockets alone (B39).
    pub const NODE_PORTS: u8 = 2;
}

/// Value of the address tables, 4 bytes; the key is the address. One word, replaced as a whole.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AddressValue {
    /// An [`AddressKind`].
    pub kind: u8,
    /// [`address_flags`].
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 2],
}

impl AddressValue {
    /// Whether it is a ClusterIP that an interface of this node has: left to the host altogether.
    #[must_use]
    #[inline(always)]
    pub const fn is_left(&self) -> bool {
        self.kind == AddressKind::ClusterIp as u8 && self.flags & address_flags::HELD != 0
    }
}

/// A range of clients, or a client: 8 bytes for IPv4, 20 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ClientOf<A> {
    /// Id of the Service port.
    pub service: u32,
    /// The client's address, or the first of the range, network order.
    pub addr: A,
}

/// Key of the source ranges of Service ports: 12 bytes for IPv4, 24 for IPv6; a trie of prefixes, the value is 1 (u32).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct SourceRangeKey<A> {
    /// Bits of what follows that count: 32 of the service id, and the length of the range's prefix.
    pub bits: u32,
    /// The range.
    pub range: ClientOf<A>,
}

impl<A: Address> SourceRangeKey<A> {
    const ID: u32 = u32::BITS;

    /// The range of `bits` bits at `addr`, of the Service port `service`.
    #[must_use]
    pub const fn new(service: u32, addr: A, bits: u8) -> Self {
        Self { bits: Self::ID + bits as u32, range: ClientOf { service, addr } }
    }

    /// Bits of the range's prefix; `None` if there are not even those of a whole service id.
    #[must_use]
    pub fn length(&self) -> Option<u8> {
        self.bits.checked_sub(Self::ID)?.try_into().ok()
    }

    /// What to ask the trie for: whether `addr` is in a range of `service`.
    #[must_use]
    #[inline(always)]
    pub const fn asking(service: u32, addr: A) -> Self {
        Self { bits: Self::ID + size_of::<A>() as u32 * 8, range: ClientOf { service, addr } }
    }
}

shared! {
    FrontendKey<Addr4>: size 8, align 4, fields [Addr4, Port, u8, u8];
    FrontendKey<Addr6>: size 20, align 4, fields [Addr6, Port, u8, u8];
    FrontendValue: size 8, align 4, fields [u32, u8, [u8; 3]];
    AddressValue: size 4, align 4, fields [u8, u8, [u8; 2]];
    ClientOf<Addr4>: size 8, align 4, fields [u32, Addr4];
    ClientOf<Addr6>: size 20, align 4, fields [u32, Addr6];
    SourceRangeKey<Addr4>: size 12, align 4, fields [u32, ClientOf<Addr4>];
    SourceRangeKey<Addr6>: size 24, align 4, fields [u32, ClientOf<Addr6>];
}
