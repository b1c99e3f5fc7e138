//! What the programs themselves keep beside the tables.

use crate::abi::shared;

/// Value of the map `state`, 56 bytes; array of one record. Index 0 is IPv4, 1 is IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateRecord {
    /// Not zero while the IPv4 and the IPv6 LRU flow table may hold entries (index 0 and 1): set by whoever inserts,
    /// cleared by the sweep that finds the table empty.
    pub lru_used: [u64; 2],
    /// Pairs in the flow table that are not [`crate::FlowState::ASSURED`].
    pub embryonic: [u64; 2],
    /// Not zero once the flow table had no room, until the sweep finds that it has.
    pub full: [u64; 2],
    /// When the last sweep began, `CLOCK_MONOTONIC`, nanoseconds; 0: there was none.
    pub swept: u64,
}

/// Value of the map `cpu`, 32 bytes; per-CPU array of one record.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuRecord {
    /// Pairs made on this CPU: the counter in a [`crate::FlowWord`].
    pub pairs: u64,
    /// Rejects that may still be sent, in billionths.
    pub reject_tokens: u64,
    /// When `reject_tokens` was last filled, nanoseconds.
    pub reject_filled: u64,
    /// Zero.
    pub pad: u64,
}

/// Value of the map `sweep`, 48 bytes; array of one record: what the last run of the sweep found.
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
}

shared! {
    StateRecord: size 56, align 8, fields [[u64; 2], [u64; 2], [u64; 2], u64];
    CpuRecord: size 32, align 8, fields [u64, u64, u64, u64];
    SweepReport: size 48, align 8, fields [u64, u64, u64, u64, u64, u64];
}
