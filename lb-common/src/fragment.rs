//! Which ports the first fragment of a packet had: later fragments carry none.

use crate::abi::shared;
use crate::addr::{Addr6, Port};

/// Key of the map `fragments`, 40 bytes: what all fragments of one packet have in common (RFC 791, RFC 8200), and where
/// they come by. One table for both families.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct FragmentKey {
    /// Source address; IPv4 as an IPv4-mapped address.
    pub src: Addr6,
    /// Destination address.
    pub dst: Addr6,
    /// Identification as it lies in the packet; of IPv4 the upper or lower half is zero.
    pub id: u32,
    /// IANA protocol number.
    pub proto: u8,
    /// A [`crate::Point`].
    pub point: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// Value of the map `fragments`, 4 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FragmentValue {
    /// Source port before translation, network order.
    pub sport: Port,
    /// Destination port before translation.
    pub dport: Port,
}

shared! {
    FragmentKey: size 40, align 4, fields [Addr6, Addr6, u32, u8, u8, [u8; 2]];
    FragmentValue: size 4, align 1, fields [Port, Port];
}
