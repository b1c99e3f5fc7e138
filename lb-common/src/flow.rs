//! The flow table: the only truth about a connection.
//!
//! A connection is two entries, forward `K → T` and reverse `reverse(T) → reverse(K)`, in the table of its family.
//! Each holds enough to derive the other's key. See ARCHITECTURE.md, "The pair protocol".

use crate::abi::{shared, write_last_word};
use crate::addr::{Addr4, Addr6, Address, Port, mix_word};

/// Source and destination of a packet: 12 bytes for IPv4, 36 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Tuple<A> {
    /// Source address, network order.
    pub src: A,
    /// Destination address, network order.
    pub dst: A,
    /// Source port, network order.
    pub sport: Port,
    /// Destination port, network order.
    pub dport: Port,
}

impl<A: Address> Tuple<A> {
    /// The tuple of a packet that answers one with this tuple.
    #[must_use]
    #[inline(always)]
    pub const fn reverse(&self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport }
    }

    /// Of a packet of a flow that is met at the [`Point`] with this number: the address that is none of whoever else the
    /// node's pods or the world speak with. At ingress a Service's or the node's, at egress the endpoint's.
    #[must_use]
    #[inline(always)]
    pub const fn known(&self, point: u8) -> &A {
        if point == Point::PodIngress as u8 || point == Point::OutwardIngress as u8 {
            &self.dst
        } else {
            &self.src
        }
    }

    /// Both ports, as the first four bytes of a transport header.
    #[must_use]
    #[inline(always)]
    pub const fn ports(&self) -> [u8; 4] {
        let ports = core::ptr::from_ref(self).cast::<u32>();
        // SAFETY: the last word of the tuple is both ports, as `shared!` has proved of either family. Of four bytes, or of two
        // words, the compiler makes as many loads.
        unsafe { ports.add(size_of::<Self>() / 4 - 1).read() }.to_ne_bytes()
    }

    /// Sets both ports to what [`Tuple::ports`] is to give.
    #[inline(always)]
    pub const fn set_ports(&mut self, ports: [u8; 4]) {
        // SAFETY: as above.
        unsafe { write_last_word(self, u32::from_ne_bytes(ports)) };
    }

    /// A 32-bit hash of it and of the protocol; the same on every node and in every program.
    #[must_use]
    #[inline(always)]
    pub fn hash(&self, proto: u8) -> u32 {
        let hash = self.src.mix(u32::from(proto));
        let hash = self.dst.mix(hash);
        let hash = mix_word(hash, u32::from_ne_bytes(self.ports()));
        let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35)
    }
}

/// Key of the flow tables: the 5-tuple as seen at the hook. 16 bytes for IPv4, 40 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct FlowKey<A> {
    /// Addresses and ports.
    pub tuple: Tuple<A>,
    /// IANA protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl<A: Address> FlowKey<A> {
    /// The key of `tuple` under `proto`.
    #[must_use]
    #[inline(always)]
    pub const fn new(tuple: Tuple<A>, proto: u8) -> Self {
        Self { tuple, proto, pad: [0; 3] }
    }

    /// Sets the protocol, and what follows it, by one word: see [`Tuple::set_ports`].
    #[inline(always)]
    pub const fn set_proto(&mut self, proto: u8) {
        // SAFETY: the last word of the key is these four bytes, as `shared!` has proved of either family.
        unsafe { write_last_word(self, u32::from_ne_bytes([proto, 0, 0, 0])) };
    }

    /// [`Tuple::hash`] of the key.
    #[must_use]
    #[inline(always)]
    pub fn hash(&self) -> u32 {
        self.tuple.hash(self.proto)
    }
}

/// Where in a node's packet path an entry applies. An entry met anywhere else means: pass the packet untouched.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// What a pod sends, at tcx ingress of the interface that faces it.
    PodIngress = 0,
    /// What a pod is sent, at tcx egress of the interface that faces it.
    PodEgress = 1,
    /// What comes from outside the node, at tcx ingress of its uplinks and overlays.
    OutwardIngress = 2,
    /// What leaves the node, at tcx egress of its uplinks and overlays.
    OutwardEgress = 3,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PodIngress, Self::PodEgress, Self::OutwardIngress, Self::OutwardEgress];

    /// Name of the program there.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::PodIngress => "pod_ingress",
            Self::PodEgress => "pod_egress",
            Self::OutwardIngress => "outward_ingress",
            Self::OutwardEgress => "outward_egress",
        }
    }

    /// The same where packets have no link-layer header; pods have no such interfaces.
    #[must_use]
    pub const fn bare_program(self) -> &'static str {
        match self {
            Self::OutwardIngress => "bare_ingress",
            Self::OutwardEgress => "bare_egress",
            point => point.program(),
        }
    }

    /// Stable name, for the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PodIngress => "pod-ingress",
            Self::PodEgress => "pod-egress",
            Self::OutwardIngress => "outward-ingress",
            Self::OutwardEgress => "outward-egress",
        }
    }

    /// The point with this number; `None` for a number that no version has used.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::PodIngress),
            1 => Some(Self::PodEgress),
            2 => Some(Self::OutwardIngress),
            3 => Some(Self::OutwardEgress),
            _ => None,
        }
    }
}

/// Whether the source of a flow is an address of the node, and what follows from that: where the reverse entry applies,
/// and how packets go on.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masquerade {
    /// It is the client's: packets go through the host stack, and answers are met on the same side of it. The client may be
    /// the host itself, from a port that a masqueraded flow has already.
    None = 0,
    /// A hairpin: packets go back out of the interface that they came by.
    Hairpin = 1,
    /// Towards another pod of this node: packets leave by the node's routes, past the host stack.
    Here = 2,
    /// Towards a pod of another node: the same, and answers come in by an uplink or overlay.
    Away = 3,
}

impl Masquerade {
    /// Stable name, for the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hairpin => "hairpin",
            Self::Here => "here",
            Self::Away => "away",
        }
    }

    /// The one with this number; `None` for a number that no version has used.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Hairpin),
            2 => Some(Self::Here),
            3 => Some(Self::Away),
            _ => None,
        }
    }
}

/// Which half of a pair an entry is, if it is one.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowKind {
    /// Client to backend.
    Forward = 0,
    /// Backend to client.
    Reverse = 1,
    /// Neither: a connection that the host itself has from a port which is a node port too. What comes in for it passes
    /// untouched; its tuple is that of its key.
    Host = 2,
}

impl FlowKind {
    /// The kind with this number; `None` for a number that no version has used.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Forward),
            1 => Some(Self::Reverse),
            2 => Some(Self::Host),
            _ => None,
        }
    }
}

/// What one direction of a flow has shown so far: the low byte of a [`FlowWord`].
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowState(pub u8);

impl FlowState {
    /// A TCP SYN was sent in this direction.
    pub const SYN: u8 = 1;
    /// A TCP segment other than the SYN, or a datagram, was sent in this direction.
    pub const DATA: u8 = 2;
    /// A TCP FIN was sent in this direction.
    pub const FIN: u8 = 4;
    /// A TCP RST was sent in this direction.
    pub const RST: u8 = 8;
    /// Both directions have confirmed the connection; in the word of the forward entry only.
    pub const ASSURED: u8 = 0x10;
    /// Beside [`FlowState::DEAD`]: the pair is locked to be moved to the other table, and lives on there.
    pub const MOVING: u8 = 0x20;
    /// In the word of the forward entry: it was evicted, and put back beside the other half, so it begins nothing even if no
    /// packet is counted in it.
    pub const PUT_BACK: u8 = 0x40;
    /// The pair is locked for removal: nobody may lock it again, and it will be gone soon.
    pub const DEAD: u8 = 0x80;

    /// Whether all bits of `bits` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Whether the pair is being removed, rather than moved.
    #[must_use]
    #[inline(always)]
    pub const fn ends(self) -> bool {
        self.0 & (Self::DEAD | Self::MOVING) == Self::DEAD
    }
}

/// Creation id and state in one word, changed by compare-and-exchange only. The forward entry's word is the lock of
/// its pair.
///
/// Bits 63..48: CPU that made the pair; 47..8: that CPU's counter; 7..0: [`FlowState`]. Both entries of a pair carry
/// the same id, and no id is used twice before 2^40 pairs were made on one CPU.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowWord(pub u64);

impl FlowWord {
    /// The word of pair number `count` made on `cpu`, in `state`.
    #[must_use]
    #[inline(always)]
    pub const fn new(cpu: u16, count: u64, state: u8) -> Self {
        Self(((cpu as u64) << 48) | ((count & 0xff_ffff_ffff) << 8) | state as u64)
    }

    /// The creation id: the word without its state.
    #[must_use]
    #[inline(always)]
    pub const fn id(self) -> u64 {
        self.0 >> 8
    }

    /// The state.
    #[must_use]
    #[inline(always)]
    pub const fn state(self) -> FlowState {
        FlowState(self.0.to_le_bytes()[0])
    }

    /// The same pair with `bits` set.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, bits: u8) -> Self {
        Self(self.0 | bits as u64)
    }

    /// The same pair without `bits`.
    #[must_use]
    #[inline(always)]
    pub const fn without(self, bits: u8) -> Self {
        Self(self.0 & !(bits as u64))
    }
}

/// The id of no Service port, in [`FlowValue::service`]: what the host itself has begun is none's. In entries of the kind
/// [`FlowKind::Host`] the id of no backend either.
pub const NOBODYS: u32 = u32::MAX;

/// Value of the flow tables: 64 bytes for IPv4, 88 for IPv6.
///
/// `word` comes first and `check` last of what a reader needs: a preallocated hash recycles elements at once, so a
/// reader can be handed an element that is being refilled for another key. See [`FlowValue::check_of`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowValue<A> {
    /// A [`FlowWord`]: creation id and state.
    pub word: u64,
    /// When a packet last used this entry: `CLOCK_MONOTONIC_COARSE`, nanoseconds.
    pub seen: u64,
    /// Packets that used this entry.
    pub packets: u64,
    /// Bytes of those packets, from the network header on.
    pub bytes: u64,
    /// What the packet's addresses and ports become.
    pub tuple: Tuple<A>,
    /// Id of the Service port that the flow belongs to, or [`NOBODYS`].
    pub service: u32,
    /// Id of the chosen backend.
    pub backend: u32,
    /// Generation of that backend when it was chosen.
    pub generation: u32,
    /// A [`Point`].
    pub point: u8,
    /// A [`FlowKind`].
    pub kind: u8,
    /// A [`Masquerade`].
    pub masquerade: u8,
    /// The [`Point`] where the other half applies.
    pub other_point: u8,
    /// [`FlowValue::check_of`] of this entry's key and id.
    pub check: u32,
}

impl<A: Address> FlowValue<A> {
    /// What [`FlowValue::check`] must be in an entry of `key` with the creation id `id`.
    #[must_use]
    #[inline(always)]
    pub fn check_of(key: &FlowKey<A>, id: u64) -> u32 {
        let [a, b, c, d, e, f, g, h] = id.to_ne_bytes();
        key.hash() ^ mix_word(u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
    }

    /// The key of the other entry of the pair, if this entry belongs to protocol `proto`.
    #[must_use]
    #[inline(always)]
    pub const fn other_key(&self, proto: u8) -> FlowKey<A> {
        FlowKey::new(self.tuple.reverse(), proto)
    }
}

shared! {
    Tuple<Addr4>: size 12, align 4, fields [Addr4, Addr4, Port, Port];
    Tuple<Addr6>: size 36, align 4, fields [Addr6, Addr6, Port, Port];
    FlowKey<Addr4>: size 16, align 4, fields [Tuple<Addr4>, u8, [u8; 3]];
    FlowKey<Addr6>: size 40, align 4, fields [Tuple<Addr6>, u8, [u8; 3]];
    FlowValue<Addr4>: size 64, align 8, fields [u64, u64, u64, u64, Tuple<Addr4>, u32, u32, u32, u8, u8, u8, u8, u32];
    FlowValue<Addr6>: size 88, align 8, fields [u64, u64, u64, u64, Tuple<Addr6>, u32, u32, u32, u8, u8, u8, u8, u32];
}
