//! What the datapath asks of a packet.

use crate::{crc32c, reject};

/// What a change of bytes means to the checksum that covers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Covered {
    /// The bytes belong to the pseudo header: a checksum left to the hardware covers them already.
    Pseudo,
    /// The bytes belong to the segment: a checksum left to the hardware does not cover them yet.
    Segment,
}

/// By how much a translation changes what an Internet checksum covers: 32-bit one's complement sums of new minus old.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Of the addresses.
    pub addresses: u32,
    /// Of the ports.
    pub ports: u32,
    /// The sum of the pseudo header as it was: what stands in the place of a checksum that is left to the hardware.
    pub pseudo: u32,
    /// See [`Pkt::adjust_checksum`].
    pub keep_zero: bool,
    /// See [`Pkt::adjust_checksum`].
    pub v6: bool,
}

/// A packet, addressed by offsets from its link-layer header, or from its network header where it has no other.
///
/// The checksum of the transport header may be complete or left to the hardware (partial: the field holds the sum of
/// the pseudo header, not inverted). Only [`Pkt::adjust_checksum`] knows which, so transport bytes change together
/// with it.
pub trait Pkt {
    /// Length in bytes; of an aggregate that the hardware is to cut (GSO) the whole.
    fn length(&self) -> u32;
    /// Index of the interface by which it came or is to leave.
    fn ifindex(&self) -> u32;
    /// Index of the interface by which it came to this node; 0 if it began here. Says something at egress alone.
    fn came_by(&self) -> u32;
    /// Whether its frame came to this machine alone: not to another, as a switch sends it to everybody that has forgotten who
    /// is where (`PACKET_OTHERHOST`), nor to many. Says something at ingress alone.
    fn is_for_us(&self) -> bool;
    /// Whether the kernel keeps nothing beside it that has a say in where it goes: neither a VLAN tag nor a mark.
    #[inline(always)]
    fn is_unlabelled(&self) -> bool {
        true
    }
    /// Of an aggregate: payload of each packet that it is to be cut into, bytes; else 0.
    fn segment(&self) -> u32;
    /// `N` bytes at `offset`; `None` if they are not all there, or lie where [`Pkt::gather`] has to get them from.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
    /// Overwrites `N` bytes at `offset`; false if they are not all there or cannot be written.
    #[must_use]
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> bool;
    /// As [`Pkt::store`], for bytes for which no other change makes up: a sum over the whole packet that an interface
    /// has taken is kept right.
    #[must_use]
    fn store_alone<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> bool;
    /// Adds `difference`, a 32-bit one's complement sum of new minus old bytes, to the Internet checksum at `offset`
    /// (RFC 1624). `keep_zero`: a field of zero means "no checksum" (UDP over IPv4) and stays; a result of zero is then
    /// written as all ones. `v6`: the pseudo header is IPv6's, whose header has no checksum of its own.
    #[must_use]
    fn adjust_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covered: Covered,
        keep_zero: bool,
        v6: bool,
    ) -> bool;
    /// Has the Internet checksum at `offset` follow a translation. Addresses and ports separately: a checksum left to the
    /// hardware covers the ones but not yet the others.
    #[must_use]
    #[inline(always)]
    fn follow_checksum(&mut self, offset: u32, change: &Change) -> bool {
        let Change { addresses, ports, keep_zero, v6, .. } = *change;
        self.adjust_checksum(offset, addresses, Covered::Pseudo, keep_zero, v6)
            && (ports == 0 || self.adjust_checksum(offset, ports, Covered::Segment, keep_zero, v6))
    }
    /// Has what a header may be in lie where it can be read, if it does not yet; false if nothing has changed.
    #[inline(always)]
    fn gather(&mut self) -> bool {
        false
    }
    /// Tells the kernel that the bytes from the network header on change by `difference`, as above, and nothing in them
    /// makes up for it: it may have the sum of them all (CHECKSUM_COMPLETE).
    fn resum(&mut self, difference: u32);
    /// The one's complement sum of `length` bytes from `at` on, as they lie in memory: at most 160, whole words, as far as
    /// they are there. A seam as well.
    #[inline(always)]
    fn sum(&self, at: u32, length: u32) -> u32
    where
        Self: Sized,
    {
        reject::sum(self, at, length)
    }
    /// [`crc32c::difference`]. A seam where the programs are cut, see [`crate::cut`].
    #[inline(always)]
    fn crc32c(&self, pattern: u32, length: u32) -> u32 {
        crc32c::difference(pattern, length, crc32c::multiply)
    }
    /// Cuts the packet to `len` bytes, if it is longer; false if the kernel refuses.
    #[must_use]
    fn truncate(&mut self, len: u32) -> bool;
    /// Puts `bytes` (28 or 48) of undefined content in front of the packet; false if the kernel refuses.
    #[must_use]
    fn grow_head(&mut self, bytes: u32) -> bool;
    /// Makes what is in front of the network header, at `network`, a plain Ethernet header: takes off all VLAN tags, and the one
    /// beside the packet; where there is nothing, an empty one comes there, since the kernel sends on by neighbour what has
    /// one. False if the kernel refuses.
    #[must_use]
    fn plain(&mut self, network: u32) -> bool;
}
