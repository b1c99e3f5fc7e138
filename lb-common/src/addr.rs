//! Addresses, ports and protocols, in the byte order of the wire.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::Pod;

use crate::abi::shared;
use crate::config::{Config, Settings};
use crate::sock::SockStorage;

/// An IPv4 address: 4 bytes in network order, aligned so that it is loaded as one word.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Addr4(pub [u8; 4]);

/// An IPv6 address: 16 bytes in network order, aligned so that it is loaded as four words.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Addr6(pub [u8; 16]);

/// A transport port: 2 bytes in network order, aligned so that it is loaded as one word.
#[repr(C, align(2))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Port(pub [u8; 2]);

shared! {
    Addr4: size 4, align 4, fields [[u8; 4]];
    Addr6: size 16, align 4, fields [[u8; 16]];
    Port: size 2, align 2, fields [[u8; 2]];
    Endpoint<Addr4>: size 8, align 4, fields [Addr4, Port, [u8; 2]];
    Endpoint<Addr6>: size 20, align 4, fields [Addr6, Port, [u8; 2]];
}

/// The two address families; all map types and the whole datapath are generic over it.
pub trait Address:
    Pod + Eq + Ord + core::hash::Hash + fmt::Debug + Default + Send + Sync + Into<IpAddr>
{
    /// 4 or 6, as in the version field of the IP header.
    const FAMILY: u8;
    /// Mixes the address into a running hash, word by word.
    fn mix(&self, hash: u32) -> u32;
    /// Whether the first `bits` bits of both addresses are the same; more bits than there are mean all.
    fn shares(&self, other: &Self, bits: u8) -> bool;
    /// One's complement sum of the address's 32-bit words as they lie in memory: its part of an Internet checksum.
    fn sum(&self) -> u32;
    /// The address as 16 bytes: itself, or IPv4-mapped (RFC 4291, 2.5.5.2).
    fn to_mapped(&self) -> Addr6;
    /// The opposite of [`Address::to_mapped`]; `None` if `addr` is not of this family.
    fn from_mapped(addr: &Addr6) -> Option<Self>;
    /// The same for an address that is known to be of this family: no other is told apart.
    fn unmapped(addr: &Addr6) -> Self;
    /// Whether it is one of the addresses by which a node talks to itself.
    fn is_loopback(&self) -> bool;
    /// The bits of the address in the map `marks`. Set, and never cleared, before a table has the address: of most packets
    /// it tells that they are nobody's, at the price of a load. One that it does not tell of is looked up as ever.
    #[inline(always)]
    fn mark(&self) -> Mark {
        let hash = self.mix(u32::from(Self::FAMILY));
        let word = (hash ^ (hash >> 15)) & (crate::maps::MARKS / 64 - 1);
        Mark { word, bits: 1 << ((hash >> 16) & 63) | 1 << ((hash >> 22) & 63) }
    }
    /// What `config` has for this family.
    fn settings(config: &Config) -> Settings<'_, Self>;
    /// Head of the chain of a UDP socket's `ToBackend` entries of this family; port 0 if there are none.
    fn head(storage: &mut SockStorage) -> &mut Endpoint<Self>;
}

/// The bits of an address in the map `marks`, all in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mark {
    /// Index of its word.
    pub word: u32,
    /// The word with these bits alone.
    pub bits: u64,
}

impl Mark {
    /// Whether all of them are set in `word`, as it stands in the map.
    #[must_use]
    #[inline(always)]
    pub const fn is_in(&self, word: u64) -> bool {
        word & self.bits == self.bits
    }
}

/// One round of a multiply-rotate hash: cheap in eBPF, no table, good enough to tell keys apart and to spread flows.
#[inline(always)]
pub(crate) const fn mix_word(hash: u32, word: u32) -> u32 {
    (hash ^ word.wrapping_mul(0xcc9e_2d51)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

impl Address for Addr4 {
    const FAMILY: u8 = 4;

    #[inline(always)]
    fn mix(&self, hash: u32) -> u32 {
        mix_word(hash, u32::from_ne_bytes(self.0))
    }

    #[inline(always)]
    fn shares(&self, other: &Self, bits: u8) -> bool {
        let differ = u32::from_be_bytes(self.0) ^ u32::from_be_bytes(other.0);
        // In 64 bits, where a shift by 32 is one.
        u64::from(differ) >> 32_u8.saturating_sub(bits) == 0
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        u32::from_ne_bytes(self.0)
    }

    #[inline(always)]
    fn to_mapped(&self) -> Addr6 {
        let [a, b, c, d] = self.0;
        Addr6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    #[inline(always)]
    fn from_mapped(addr: &Addr6) -> Option<Self> {
        match addr.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some(Self([a, b, c, d])),
            _ => None,
        }
    }

    #[inline(always)]
    fn unmapped(addr: &Addr6) -> Self {
        let [.., a, b, c, d] = addr.0;
        Self([a, b, c, d])
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self.0[0] == 127
    }

    #[inline(always)]
    fn settings(config: &Config) -> Settings<'_, Self> {
        Settings { node: &config.node4, local: &config.local4, service_ranges: &config.service_ranges4 }
    }

    #[inline(always)]
    fn head(storage: &mut SockStorage) -> &mut Endpoint<Self> {
        &mut storage.udp4
    }
}

impl Addr6 {
    /// The address of these four words as they lie in memory.
    #[must_use]
    #[inline(always)]
    pub const fn of_words(words: [u32; 4]) -> Self {
        let [a, b, c, d] = words;
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.to_ne_bytes(), b.to_ne_bytes());
        let ([c0, c1, c2, c3], [d0, d1, d2, d3]) = (c.to_ne_bytes(), d.to_ne_bytes());
        Self([a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3])
    }

    /// Whether it is `::`.
    #[must_use]
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        // By words: what is compared byte by byte takes a stack slot for each byte in eBPF.
        let [a, b, c, d] = self.words();
        a | b | c | d == 0
    }

    /// Both halves as numbers.
    #[inline(always)]
    const fn halves(&self) -> [u64; 2] {
        let [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7] = self.0;
        let high = u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        [high, u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7])]
    }

    /// The four words as they lie in memory.
    #[inline(always)]
    const fn words(&self) -> [u32; 4] {
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = self.0;
        [
            u32::from_ne_bytes([a0, a1, a2, a3]),
            u32::from_ne_bytes([b0, b1, b2, b3]),
            u32::from_ne_bytes([c0, c1, c2, c3]),
            u32::from_ne_bytes([d0, d1, d2, d3]),
        ]
    }
}

impl Address for Addr6 {
    const FAMILY: u8 = 6;

    #[inline(always)]
    fn mix(&self, hash: u32) -> u32 {
        let [a, b, c, d] = self.words();
        mix_word(mix_word(mix_word(mix_word(hash, a), b), c), d)
    }

    #[inline(always)]
    fn shares(&self, other: &Self, bits: u8) -> bool {
        // By halves, not by words: each comparison doubles what the verifier has to walk through.
        let ([high, low], [other_high, other_low]) = (self.halves(), other.halves());
        match bits {
            0 => true,
            1..=64 => (high ^ other_high) >> (64 - bits) == 0,
            65..=127 => high == other_high && (low ^ other_low) >> (128 - bits) == 0,
            _ => self == other,
        }
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        let [a, b, c, d] = self.words();
        let sum = u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d);
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        ((sum & 0xffff_ffff) + (sum >> 32)) as u32
    }

    #[inline(always)]
    fn to_mapped(&self) -> Addr6 {
        *self
    }

    #[inline(always)]
    fn from_mapped(addr: &Addr6) -> Option<Self> {
        match Addr4::from_mapped(addr) {
            Some(_) => None,
            None => Some(*addr),
        }
    }

    #[inline(always)]
    fn unmapped(addr: &Addr6) -> Self {
        *addr
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self.halves() == [0, 1]
    }

    #[inline(always)]
    fn settings(config: &Config) -> Settings<'_, Self> {
        Settings { node: &config.node6, local: &config.local6, service_ranges: &config.service_ranges6 }
    }

    #[inline(always)]
    fn head(storage: &mut SockStorage) -> &mut Endpoint<Self> {
        &mut storage.udp6
    }
}

impl From<Ipv4Addr> for Addr4 {
    fn from(addr: Ipv4Addr) -> Self {
        Self(addr.octets())
    }
}

impl From<Ipv6Addr> for Addr6 {
    fn from(addr: Ipv6Addr) -> Self {
        Self(addr.octets())
    }
}

impl From<Addr4> for IpAddr {
    fn from(addr: Addr4) -> Self {
        Self::V4(addr.0.into())
    }
}

impl From<Addr6> for IpAddr {
    fn from(addr: Addr6) -> Self {
        Self::V6(addr.0.into())
    }
}

impl Port {
    /// The port whose number is `port`.
    #[must_use]
    #[inline(always)]
    pub const fn new(port: u16) -> Self {
        Self(port.to_be_bytes())
    }

    /// The port's number.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be_bytes(self.0)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// An address and a port: 8 bytes for IPv4, 20 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Endpoint<A> {
    /// The address, network order.
    pub addr: A,
    /// The port, network order.
    pub port: Port,
    /// Zero.
    pub pad: [u8; 2],
}

impl<A: Address> Endpoint<A> {
    /// Port `port` of `addr`.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr: A, port: Port) -> Self {
        Self { addr, port, pad: [0; 2] }
    }
}

/// Transport protocols that Sluice balances; the value is the IANA protocol number.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Proto {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
    /// RFC 9260.
    Sctp = 132,
}

impl Proto {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol with this IANA number, if Sluice balances it.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The protocol's name as Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
