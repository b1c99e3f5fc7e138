//! A packet in a byte vector that behaves as a socket buffer does under the tc helpers.

mod bare;
mod summed;

use std::vec::Vec;

use summed::Summed;

use super::packet::{Checksum, Packet, SCTP, Tag};
use super::routes;
use super::wire::{ETHERNET, checksum_field, sum};
use crate::pkt::{Covered, Pkt};

/// A packet and its checksum state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bytes {
    data: Vec<u8>,
    summed: Summed,
    read_only: bool,
    fixed_size: bool,
    segment: u32,
    arrival: u32,
    came_by: u32,
    /// Length of the link-layer header without tags.
    link: usize,
}

impl Bytes {
    /// A packet whose checksum field is complete (`CHECKSUM_NONE`, `CHECKSUM_UNNECESSARY`).
    #[must_use]
    pub const fn new(data: Vec<u8>) -> Self {
        Self {
            data,
            summed: Summed::None,
            read_only: false,
            fixed_size: false,
            segment: 0,
            arrival: routes::POD,
            came_by: 0,
            link: ETHERNET,
        }
    }

    /// A packet whose transport header, at `transport`, has a checksum field that the hardware is to complete
    /// (`CHECKSUM_PARTIAL`).
    #[must_use]
    fn partial(data: Vec<u8>, transport: usize, proto: u8) -> Self {
        let field = transport + checksum_field(proto).unwrap_or(0);
        let internet = proto != SCTP;
        Self { summed: Summed::Partial { start: transport, field, internet }, ..Self::new(data) }
    }

    /// `packet`, in the state that its [`Packet::checksum`] asks for.
    #[must_use]
    pub fn of(packet: &Packet) -> Self {
        match packet.checksum {
            Checksum::Partial => Self::partial(packet.build(), packet.transport_offset(), packet.proto()),
            Checksum::Complete | Checksum::Absent | Checksum::Wrong(_) => Self::new(packet.build()),
        }
    }

    /// A packet that an interface has summed (`CHECKSUM_COMPLETE`).
    #[must_use]
    pub fn summed_by_device(data: Vec<u8>) -> Self {
        let total = sum(data.get(ETHERNET..).unwrap_or_default());
        Self { summed: Summed::Device(total), ..Self::new(data) }
    }

    /// The same behind `tags`.
    #[must_use]
    pub fn tagged(&self, tags: &[Tag]) -> Self {
        let mut tagged = self.clone();
        Tag::insert(tags, &mut tagged.data);
        tagged.summed.push_back(4 * tags.len());
        tagged
    }

    /// Its first `len` bytes, if it has more.
    #[must_use]
    pub fn cut(&self, len: usize) -> Self {
        let mut cut = self.clone();
        cut.data.truncate(len);
        if let Summed::Device(_) = cut.summed {
            return Self::summed_by_device(cut.data);
        }
        cut
    }

    /// The same, but the kernel refuses every write.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The same by another interface than that of the pods.
    #[must_use]
    pub const fn by(mut self, interface: u32) -> Self {
        self.arrival = interface;
        self
    }

    /// The same, which came to this node by this interface before it leaves.
    #[must_use]
    pub const fn via(mut self, interface: u32) -> Self {
        self.came_by = interface;
        self
    }

    /// The same, as an aggregate that is to be cut into packets with so many bytes of payload (GSO).
    #[must_use]
    pub const fn aggregate(mut self, segment: u32) -> Self {
        self.segment = segment;
        self
    }

    /// The same, but the kernel refuses to change its length.
    #[must_use]
    pub const fn fixed_size(mut self) -> Self {
        self.fixed_size = true;
        self
    }

    /// Whether the hardware is to complete its checksum.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        matches!(self.summed, Summed::Partial { .. })
    }

    /// Whether a driver can have it: whole, and with all of its checksums.
    #[must_use]
    pub const fn is_frame(&self) -> bool {
        !self.is_partial() && self.segment == 0
    }

    /// The packet.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The packet as it leaves a device that completes no Internet checksums: the kernel has done so.
    #[must_use]
    pub fn completed(&self) -> Vec<u8> {
        let mut data = self.data.clone();
        if let Summed::Partial { start, field, internet: true } = self.summed {
            let value = match !sum(&data[start..]) {
                0 => 0xffff,
                value => value,
            };
            if let Some(field) = data.get_mut(field..field + 2) {
                field.copy_from_slice(&value.to_be_bytes());
            }
        }
        data
    }

    /// Whether the sum that the interface took, as kept up to date by the writes, is still that of the bytes. True if
    /// none was taken.
    #[must_use]
    pub fn device_sum_holds(&self) -> bool {
        match self.summed {
            Summed::Device(total) => {
                canonical(total) == canonical(sum(self.data.get(self.link..).unwrap_or_default()))
            }
            Summed::None | Summed::Partial { .. } => true,
        }
    }

    /// Changes the bytes, and the sum that the interface took by as much.
    fn alone(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let link = self.link;
        let behind = |data: &[u8]| sum(data.get(link..).unwrap_or_default());
        let before = behind(&self.data);
        change(&mut self.data);
        if let Summed::Device(total) = &mut self.summed {
            *total = add(*total, add(behind(&self.data), !before));
        }
    }

    /// Puts these bytes in front of the packet, if its length can change.
    fn put_before(&mut self, bytes: &[u8]) -> bool {
        if self.fixed_size {
            return false;
        }
        self.summed.push_back(bytes.len());
        self.data.splice(0..0, bytes.iter().copied());
        true
    }

    fn range(&self, offset: u32, len: usize) -> Option<core::ops::Range<usize>> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.data.len()).then_some(start..end)
    }
}

/// One's complement has two zeros.
const fn canonical(sum: u16) -> u16 {
    if sum == 0xffff { 0 } else { sum }
}

fn add(left: u16, right: u16) -> u16 {
    let [a, b] = left.to_be_bytes();
    let [c, d] = right.to_be_bytes();
    sum(&[a, b, c, d])
}

/// A one's complement sum as the kernel's helpers give it, in the byte order of the machine, as a sum of big-endian
/// words.
fn wire_order(difference: u32) -> u16 {
    let [a, b, c, d] = difference.to_ne_bytes();
    sum(&[a, b, c, d])
}

impl Pkt for Bytes {
    fn length(&self) -> u32 {
        u32::try_from(self.data.len()).unwrap_or(u32::MAX)
    }

    fn ifindex(&self) -> u32 {
        self.arrival
    }

    fn came_by(&self) -> u32 {
        self.came_by
    }

    fn is_for_us(&self) -> bool {
        self.data.starts_with(&routes::address_of(self.arrival))
    }

    fn segment(&self) -> u32 {
        self.segment
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let range = self.range(offset, N)?;
        self.data.get(range)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> bool {
        match self.range(offset, N) {
            Some(range) if !self.read_only => {
                self.data[range].copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }

    fn store_alone<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> bool {
        match self.range(offset, N) {
            Some(range) if !self.read_only => {
                self.alone(|data| data[range].copy_from_slice(bytes));
                true
            }
            _ => false,
        }
    }

    fn adjust_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covered: Covered,
        keep_zero: bool,
        v6: bool,
    ) -> bool {
        // The kernel refuses odd offsets and those beyond 64 KiB.
        if offset > 0xffff || !offset.is_multiple_of(2) || self.read_only {
            return false;
        }
        let Some(range) = self.range(offset, 2) else {
            return false;
        };
        let field = u16::from_be_bytes([self.data[range.start], self.data[range.start + 1]]);
        if keep_zero && field == 0 {
            return true;
        }
        let difference = wire_order(difference);
        let mut result = match (self.summed, covered) {
            (Summed::Partial { .. }, Covered::Segment) => field,
            (Summed::Partial { .. }, Covered::Pseudo) => add(field, difference),
            (Summed::None | Summed::Device(_), _) => !add(!field, difference),
        };
        if let Summed::Device(total) = &mut self.summed
            && covered == Covered::Pseudo
            && !v6
        {
            *total = add(*total, !difference);
        }
        if keep_zero && result == 0 {
            result = 0xffff;
        }
        self.data[range].copy_from_slice(&result.to_be_bytes());
        true
    }

    fn resum(&mut self, difference: u32) {
        if let Summed::Device(total) = &mut self.summed {
            *total = add(*total, wire_order(difference));
        }
    }

    fn truncate(&mut self, len: u32) -> bool {
        let refused = match self.summed {
            Summed::Partial { field, .. } => usize::try_from(len).is_ok_and(|len| len < field + 2),
            Summed::None | Summed::Device(_) => false,
        };
        if refused || self.fixed_size {
            return false;
        }
        self.data.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        true
    }

    fn grow_head(&mut self, bytes: u32) -> bool {
        // Undefined content: whoever forgets a byte meets it in the comparison.
        usize::try_from(bytes).is_ok_and(|bytes| self.put_before(&std::vec![0xee; bytes]))
    }

    fn plain(&mut self, network: u32) -> bool {
        if network == 0 {
            return self.put_before(&[0; ETHERNET]);
        }
        let end = usize::try_from(network).unwrap_or(usize::MAX) - 2;
        if let Summed::Partial { start, field, .. } = &mut self.summed {
            let tags = end + 2 - ETHERNET;
            (*start, *field) = (*start - tags, *field - tags);
        }
        self.alone(|data| {
            data.drain(ETHERNET - 2..end);
        });
        true
    }
}
