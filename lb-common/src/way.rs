//! Ways out of the node that flows have taken lately.

use crate::abi::shared;
use crate::flow::{FlowKind, FlowWord};

/// What a direction of a flow is called in the map `ways`: its creation id, which no other flow ever has, and its kind.
/// Zero is nobody's.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowName(pub u64);

impl FlowName {
    /// That of the half of `kind` ([`FlowKind`]) whose word is `word`.
    #[must_use]
    #[inline(always)]
    pub const fn new(word: FlowWord, kind: u8) -> Self {
        Self(word.without(u8::MAX).0 | kind as u64 | 0x80)
    }

    /// Its place among [`crate::maps::WAYS`]. Flows that one CPU has made one after the other have places side by side,
    /// their halves far apart.
    #[must_use]
    #[inline(always)]
    pub const fn place(self) -> u32 {
        let [kind, a, b, .., low, _] = self.0.to_le_bytes();
        let (count, cpu) = (u32::from_le_bytes([a, b, 0, 0]), low as u32);
        let half = (kind & FlowKind::Reverse as u8) as u32 * (crate::maps::WAYS / 2);
        count.wrapping_add(half).wrapping_add(cpu.wrapping_mul(0x9e37)) % crate::maps::WAYS
    }
}

/// Value of the map `ways`, 32 bytes; per-CPU array: where the node's routes have led a packet of a flow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WayRecord {
    /// A [`FlowName`].
    pub flow: u64,
    /// Index of the interface that packets leave by.
    pub interface: u32,
    /// When the kernel was asked, in units of [`WayRecord::UNIT`]; wraps in 52 days.
    pub asked: u32,
    /// Destination and source of the frames, as they lie there.
    pub link: [u32; 3],
    /// Bytes that a packet may have there from its network header on.
    pub mtu: u16,
    /// 1 if the interface is known to take frames that XDP sends.
    pub frames: u8,
    /// Zero.
    pub pad: u8,
}

impl WayRecord {
    /// Nanoseconds, about a millisecond: a shift.
    pub const UNIT: u64 = 1 << 20;
    /// So long the kernel is not asked again: routes, neighbours and links that have changed are followed after that.
    pub const LASTS: u32 = 48;

    /// A time in units.
    #[must_use]
    #[inline(always)]
    pub const fn stamp(now: u64) -> u32 {
        (now / Self::UNIT) as u32
    }

    /// Whether what was `asked` then still holds at `now`.
    #[must_use]
    #[inline(always)]
    pub const fn holds(asked: u32, now: u64) -> bool {
        Self::stamp(now).wrapping_sub(asked) < Self::LASTS
    }

    /// Whether it is what `flow` may go by at `now`.
    #[must_use]
    #[inline(always)]
    pub const fn serves(&self, flow: FlowName, now: u64) -> bool {
        self.flow == flow.0 && Self::holds(self.asked, now)
    }
}

shared! {
    WayRecord: size 32, align 8, fields [u64, u32, u32, [u32; 3], u16, u8, u8];
}
