//! Settings that user space hands to the programs; array of one record, may change while they run.

use crate::abi::shared;
use crate::addr::{Addr4, Addr6, Address};

/// Bits of [`Config::flags`].
pub mod config_flags {
    /// `--socket-lb host`: the socket hooks leave the sockets of pods to the packet path.
    pub const SOCKET_LB_HOST: u32 = 1;
    /// The kernel takes `BPF_F_IPV6` in `bpf_l4_csum_replace` (6.16 and later) and needs it there.
    pub const CSUM_IPV6_FLAG: u32 = 2;
    /// `--masquerade-all`: the source of every new flow is masqueraded (B78).
    pub const MASQUERADE_ALL: u32 = 4;
    /// Clients are local by the interface that they come by: [`crate::interface_flags::LOCAL`] (B80).
    pub const DETECT_INTERFACE: u32 = 8;
}

/// An inclusive range of port numbers, in the byte order of the machine.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl PortRange {
    /// Number of ports; 0 if the range is empty.
    #[must_use]
    #[inline(always)]
    pub const fn len(self) -> u32 {
        if self.last < self.first { 0 } else { self.last as u32 - self.first as u32 + 1 }
    }

    /// Whether no port is in the range.
    #[must_use]
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A range of addresses: 8 bytes for IPv4, 20 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Prefix<A> {
    /// The first address, network order; bits beyond the length are zero.
    pub addr: A,
    /// Length in bits; a prefix of length 0 holds no address, not all of them.
    pub bits: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl<A: Address> Prefix<A> {
    /// Whether it holds no address.
    #[must_use]
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.bits == 0
    }

    /// Whether `addr` is in it.
    #[must_use]
    #[inline(always)]
    pub fn contains(&self, addr: &A) -> bool {
        self.bits != 0 && self.addr.shares(addr, self.bits)
    }

    /// Whether `addr` is in one of `ranges`.
    #[inline(always)]
    fn any(ranges: &[Self; SERVICE_RANGES], addr: &A) -> bool {
        // By index: the verifier does not see where an iterator's pointer ends.
        let mut index = 0;
        while index < SERVICE_RANGES && !ranges[index].contains(addr) {
            index += 1;
        }
        index < SERVICE_RANGES
    }
}

/// Ranges of ClusterIPs that the programs know, per family.
pub const SERVICE_RANGES: usize = 8;

/// How long an idle flow lives, in seconds. The defaults are those of conntrack as kube-proxy sets it (B103).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// TCP: SYN sent, no answer. These hold for the like of it in SCTP, too.
    pub tcp_syn_sent: u32,
    /// TCP: SYN answered, handshake not complete.
    pub tcp_syn_recv: u32,
    /// TCP: both sides have sent data or an ACK.
    pub tcp_established: u32,
    /// TCP: one side has sent FIN.
    pub tcp_half_closed: u32,
    /// TCP: both sides have sent FIN.
    pub tcp_time_wait: u32,
    /// TCP: one side has sent RST.
    pub tcp_close: u32,
    /// Datagrams in one direction only.
    pub udp_unreplied: u32,
    /// Datagrams in both directions.
    pub udp_replied: u32,
    /// SCTP: as for an established TCP connection; both sides send a heartbeat each 30 s.
    pub sctp_established: u32,
    /// A closed TCP pair may be taken over by a new connection after so long.
    pub reuse_closed: u32,
    /// A reverse entry whose forward entry is missing is removed after so long.
    pub orphan: u32,
}

impl Lifetimes {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        tcp_syn_sent: 120,
        tcp_syn_recv: 60,
        tcp_established: 86_400,
        tcp_half_closed: 3_600,
        tcp_time_wait: 120,
        tcp_close: 10,
        udp_unreplied: 30,
        udp_replied: 120,
        sctp_established: 210,
        reuse_closed: 3,
        orphan: 5,
    };
}

/// Value of the map `config`, 360 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Cookie of the agent's network namespace: a socket with this cookie is the host's.
    pub netns_cookie: u64,
    /// [`config_flags`].
    pub flags: u32,
    /// Rejects per second and CPU; also the burst.
    pub reject_rate: u32,
    /// The node's IPv4 address, source of masqueraded hairpins; zero if it has none.
    pub node4: Addr4,
    /// The node's IPv6 address; zero if it has none.
    pub node6: Addr6,
    /// Source ports for masquerading and for resolving collisions.
    pub snat_ports: [PortRange; 2],
    /// Lifetimes of flows.
    pub lifetimes: Lifetimes,
    /// Records of drops and rejects per second and CPU; also the burst.
    pub event_rate: u32,
    /// Where IPv4 ClusterIPs are allocated (B73); unused ones are empty, at the end.
    pub service_ranges4: [Prefix<Addr4>; SERVICE_RANGES],
    /// Where IPv6 ClusterIPs are allocated.
    pub service_ranges6: [Prefix<Addr6>; SERVICE_RANGES],
    /// IPv4 clients in it are local, others are not and are masqueraded (B80); empty: this does not tell.
    pub local4: Prefix<Addr4>,
    /// The same for IPv6 clients.
    pub local6: Prefix<Addr6>,
    /// Pairs of one family that may be embryonic in the flow table; more go to the LRU table.
    pub embryonic: u32,
    /// Seconds after a sweep from which on nobody is believed to sweep any more: new pairs then go to the LRU table.
    pub patience: u32,
    /// Flows that a CPU may make per second, of all Services together; also the burst; 0: any number.
    pub new_flow_rate: u32,
    /// Nanoseconds from one tick of the kernel's clock to the next; 0: not known, the kernel is asked what time it is.
    pub tick: u32,
}

impl Config {
    /// The settings that hold before the agent has written its own: no node address, no host namespace.
    pub const DEFAULT: Self = Self {
        netns_cookie: 0,
        flags: 0,
        reject_rate: 1000,
        node4: Addr4([0; 4]),
        node6: Addr6([0; 16]),
        snat_ports: [PortRange { first: 1024, last: 29_999 }, PortRange { first: 61_000, last: 65_535 }],
        lifetimes: Lifetimes::DEFAULT,
        event_rate: 100,
        service_ranges4: [Prefix { addr: Addr4([0; 4]), bits: 0, pad: [0; 3] }; SERVICE_RANGES],
        service_ranges6: [Prefix { addr: Addr6([0; 16]), bits: 0, pad: [0; 3] }; SERVICE_RANGES],
        local4: Prefix { addr: Addr4([0; 4]), bits: 0, pad: [0; 3] },
        local6: Prefix { addr: Addr6([0; 16]), bits: 0, pad: [0; 3] },
        embryonic: u32::MAX,
        patience: 60,
        new_flow_rate: 0,
        tick: 0,
    };

    /// The node's address of family `A`; `None` if it has none.
    #[must_use]
    #[inline(always)]
    pub fn node<A: Address>(&self) -> Option<A> {
        let node = A::settings(self).node;
        if *node == A::default() { None } else { Some(*node) }
    }

    /// Whether ClusterIPs are allocated from where `addr` is (B73).
    #[must_use]
    #[inline(always)]
    pub fn allocates<A: Address>(&self, addr: &A) -> bool {
        Prefix::any(A::settings(self).service_ranges, addr)
    }

    /// The range of local clients of family `A`; empty if there is none.
    #[must_use]
    #[inline(always)]
    pub fn local_range<A: Address>(&self) -> &Prefix<A> {
        A::settings(self).local
    }
}

/// What a [`Config`] has for one family, in place.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'c, A> {
    /// The node's address; zero if it has none.
    pub node: &'c A,
    /// Clients in it are local; empty: this does not tell.
    pub local: &'c Prefix<A>,
    /// Where ClusterIPs are allocated.
    pub service_ranges: &'c [Prefix<A>; SERVICE_RANGES],
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

shared! {
    PortRange: size 4, align 2, fields [u16, u16];
    Lifetimes: size 44, align 4, fields [u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32];
    Prefix<Addr4>: size 8, align 4, fields [Addr4, u8, [u8; 3]];
    Prefix<Addr6>: size 20, align 4, fields [Addr6, u8, [u8; 3]];
    Config: size 360, align 8, fields [u64, u32, u32, Addr4, Addr6, [PortRange; 2], Lifetimes, u32, [Prefix<Addr4>; SERVICE_RANGES], [Prefix<Addr6>; SERVICE_RANGES], Prefix<Addr4>, Prefix<Addr6>, u32, u32, u32, u32];
}
