//! Which ports the first fragment of a packet had: later fragments carry none.

use crate::abi::shared;
use crate::addr::{Addr6, Address, Port, mix_word};

/// Key of the map `fragments`, 40 bytes: what all fragments of one packet have in common (RFC 791, RFC 8200), and where
/// they come by. One table for both families.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct FragmentKey {
    /// Source address before translation; IPv4 as an IPv4-mapped address.
    pub src: Addr6,
    /// Destination address before translation.
    pub dst: Addr6,
    /// Identification as it lies in the packet; of IPv4 the upper or lower half is zero.
    pub id: u32,
    /// IANA protocol number; 0 for IPv6, whose fragments need not agree on it.
    pub proto: u8,
    /// A [`crate::Point`].
    pub point: u8,
    /// Zero.
    pub pad: [u8; 2],
}

impl FragmentKey {
    /// The key of the fragments from `src` to `dst` with this identification, protocol and point.
    #[must_use]
    #[inline(always)]
    pub fn new<A: Address>(src: &A, dst: &A, id: u32, proto: u8, point: u8) -> Self {
        let proto = if A::FAMILY == 4 { proto } else { 0 };
        Self { src: src.to_mapped(), dst: dst.to_mapped(), id, proto, point, pad: [0; 2] }
    }
}

/// Value of the map `fragments`, 16 bytes: a first fragment that was translated.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FragmentValue {
    /// Source port before translation, network order.
    pub sport: Port,
    /// Destination port before translation.
    pub dport: Port,
    /// IANA protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// When it came: `CLOCK_MONOTONIC_COARSE`, seconds.
    pub seen: u32,
    /// A hash of the key and of all that is above: an element of the map can be refilled while it is read.
    pub check: u32,
}

impl FragmentValue {
    /// What a first fragment leaves behind under `key`.
    #[must_use]
    #[inline(always)]
    pub fn new(key: &FragmentKey, ports: [Port; 2], proto: u8, seen: u32) -> Self {
        let [sport, dport] = ports;
        let value = Self { sport, dport, proto, pad: [0; 3], seen, check: 0 };
        Self { check: value.hash(key), ..value }
    }

    /// Whether all of the value was written at once, for `key`.
    #[must_use]
    #[inline(always)]
    pub fn belongs_to(&self, key: &FragmentKey) -> bool {
        self.check == self.hash(key)
    }

    #[inline(always)]
    fn hash(&self, key: &FragmentKey) -> u32 {
        let ([s0, s1], [d0, d1]) = (self.sport.0, self.dport.0);
        let hash = key.dst.mix(key.src.mix(key.id));
        let hash = mix_word(hash, u32::from_ne_bytes([key.proto, key.point, self.proto, 0]));
        let hash = mix_word(hash, u32::from_ne_bytes([s0, s1, d0, d1]));
        mix_word(hash, self.seen)
    }
}

shared! {
    FragmentKey: size 40, align 4, fields [Addr6, Addr6, u32, u8, u8, [u8; 2]];
    FragmentValue: size 16, align 4, fields [Port, Port, u8, [u8; 3], u32, u32];
}
