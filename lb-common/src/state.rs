//! What the programs themselves keep beside the tables.

use crate::abi::shared;
use crate::interface::InterfaceValue;
use crate::way::WayRecord;

/// Value of the map `state`, 104 bytes; array of one record. Index 0 is IPv4, 1 is IPv6.
///
/// What many packets read and hardly anybody writes has a cache line to itself.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateRecord {
    /// Not zero while the LRU flow table may hold entries: 1 by whoever inserts, 2 by the sweep that walks it, 0 by the
    /// same if it was empty and is 2 still.
    pub lru_used: [u64; 2],
    /// Not zero once the flow table had no room, until a pair is removed from it or a sweep has run.
    pub full: [u64; 2],
    /// When the last sweep began, `CLOCK_MONOTONIC`, nanoseconds; 0: there was none.
    pub swept: [u64; 2],
    /// `CLOCK_MONOTONIC_COARSE` when the kernel had counted no tick: both go on alike, and ticks can be read without a
    /// call. 0: not known yet.
    pub clock: u64,
    /// Zero.
    pub pad: u64,
    /// Pairs that were made in the flow table. All begin embryonic: not [`crate::FlowState::ASSURED`].
    pub begun: [u64; 2],
    /// Pairs of the flow table that have ceased to be embryonic: confirmed, or removed unconfirmed. Wraps, as `begun`
    /// does; the difference, which may be negative for a moment, is how many are embryonic now.
    pub settled: [u64; 2],
    /// How many events have been given a number, see [`crate::EventRecord`].
    pub events: u64,
}

impl StateRecord {
    /// How many pairs of a family are embryonic, from its `begun` and `settled`.
    #[must_use]
    #[inline(always)]
    pub const fn embryonic(begun: u64, settled: u64) -> u64 {
        let difference = begun.wrapping_sub(settled);
        if difference.cast_signed() < 0 { 0 } else { difference }
    }
}

/// Value of the map `cpu`, 72 bytes; per-CPU array of one record.
///
/// What is spent of a rate of n a second is a time, in nanoseconds: each thing that is done moves it on by an n-th of a
/// second. It stays behind the clock, and lags a second at most: so many may be done at once as in a second.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuRecord {
    /// Pairs made on this CPU: the counter in a [`crate::FlowWord`].
    pub pairs: u64,
    /// What is spent of the rate of rejects.
    pub rejects: u64,
    /// The same of records of events.
    pub events: u64,
    /// The same of new flows.
    pub flows: u64,
    /// Events that were not recorded since the last one that was.
    pub suppressed: u64,
    /// Ports and hash of the packet that was sent on last, past the host stack, as it is met where it leaves; 0: none.
    pub sent_on: u64,
    /// Index of the uplink that XDP looked at last; 0: none.
    pub uplink: u32,
    /// When it did, as [`WayRecord::asked`] has it.
    pub looked: u32,
    /// What it was told.
    pub told: InterfaceValue,
    /// Zero.
    pub pad: u32,
}

impl CpuRecord {
    /// Whether what it was told is of the uplink with this index, and holds at `now`.
    #[must_use]
    #[inline(always)]
    pub const fn knows(&self, index: u32, now: u64) -> bool {
        self.uplink == index && WayRecord::holds(self.looked, now)
    }

    /// What is known at `now` of the uplink with this index; of one that was looked at longer ago than a way lasts, or never,
    /// what `look` says.
    #[inline(always)]
    pub fn uplink(
        &mut self,
        index: u32,
        now: u64,
        look: impl FnOnce(u32) -> InterfaceValue,
    ) -> InterfaceValue {
        if !self.knows(index, now) {
            self.told = look(index);
            (self.uplink, self.looked) = (index, WayRecord::stamp(now));
        }
        self.told
    }
}

/// Value of the map `sweep`, 64 bytes; array of one record: what the last run of the sweep found.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SweepReport {
    /// Entries looked at.
    pub scanned: u64,
    /// Pairs that live on.
    pub pairs: u64,
    /// Pairs removed.
    pub expired: u64,
    /// Reverse entries without a forward entry that were removed.
    pub orphans: u64,
    /// When the run began, nanoseconds.
    pub began: u64,
    /// Entries that the run met in the LRU table, those that it removed among them; 0: the table was empty or not in use.
    pub lru_left: u64,
    /// Embryonic pairs in the flow table that live on.
    pub embryonic: u64,
    /// Pairs that went from the LRU table to the flow table.
    pub moved: u64,
}

shared! {
    StateRecord: size 104, align 8, fields [[u64; 2], [u64; 2], [u64; 2], u64, u64, [u64; 2], [u64; 2], u64];
    CpuRecord: size 72, align 8, fields [u64, u64, u64, u64, u64, u64, u32, u32, InterfaceValue, u32];
    SweepReport: size 64, align 8, fields [u64, u64, u64, u64, u64, u64, u64, u64];
}
