//! The same packet on a link without link-layer headers.

use std::vec::Vec;

use super::{Bytes, Summed};
use crate::parse;
use crate::testing::wire::{ETHERNET, sum};

impl Bytes {
    /// Takes off the link-layer header, up to the network header where a frame has one that is known. The header, and what the
    /// kernel has for the type of the packet.
    pub(in crate::testing) fn strip(&mut self) -> Option<(Vec<u8>, u16)> {
        let link = parse::link(self);
        let end = if link.family == 0 { ETHERNET } else { usize::try_from(link.network).ok()? };
        let kind = self.data.get(end - 2..end)?.try_into().ok()?;
        let header: Vec<u8> = self.data.drain(..end).collect();
        self.summed.pull(end);
        if let Summed::Device(_) = self.summed {
            self.summed = Summed::Device(sum(&self.data));
        }
        self.link = 0;
        Some((header, u16::from_ne_bytes(kind)))
    }

    /// Puts back what [`Bytes::strip`] took off.
    pub(in crate::testing) fn restore(&mut self, header: &[u8]) {
        let held = self.device_sum_holds();
        self.data.splice(0..0, header.iter().copied());
        self.summed.push_back(header.len());
        self.link = ETHERNET;
        if let Summed::Device(total) = &mut self.summed {
            let right = sum(self.data.get(ETHERNET..).unwrap_or_default());
            *total = if held { right } else { !right };
        }
    }

    /// Takes off the empty Ethernet header that a packet without one has got. Whether it has.
    pub(in crate::testing) fn take_plain(&mut self) -> bool {
        let is = self.data.starts_with(&[0; ETHERNET]);
        if is {
            self.data.drain(..ETHERNET);
            self.summed.pull(ETHERNET);
        }
        is
    }
}
