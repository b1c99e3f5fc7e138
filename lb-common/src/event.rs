//! Records of packets that were dropped or refused, and of refused socket calls.

use crate::abi::shared;
use crate::addr::{Addr6, Port};

/// Socket calls that are recorded, as numbers that no [`crate::Point`] has: together they say where something happened.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SockCall {
    /// `connect`.
    Connect = 128,
    /// `sendto` or `sendmsg`.
    Sendmsg = 129,
    /// `bind`.
    Bind = 130,
}

impl SockCall {
    /// Stable name, for the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Sendmsg => "sendmsg",
            Self::Bind => "bind",
        }
    }

    /// The call with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            128 => Some(Self::Connect),
            129 => Some(Self::Sendmsg),
            130 => Some(Self::Bind),
            _ => None,
        }
    }
}

/// Value of the map `events`, 96 bytes: an array that is written round and round, so that any number of readers see
/// the same history, with or without an agent.
///
/// Number n, as [`crate::StateRecord::events`] gives them out, stands at n modulo the size of the array. Whoever wants
/// to write there exchanges `sequence` for [`EventRecord::WRITING`] and at the end for n + 1; if another CPU is
/// writing there, or has written a later number, this record is not written at all. A reader has number n if
/// `sequence` is n + 1 before and after it copied the rest.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventRecord {
    /// Number of the record plus one; 0 in one that was never written.
    pub sequence: u64,
    /// When: `CLOCK_MONOTONIC_COARSE`, nanoseconds.
    pub time: u64,
    /// Cookie of the socket that called; 0 for a packet.
    pub cookie: u64,
    /// Events of this CPU since the one before that were not recorded, for there were too many.
    pub suppressed: u32,
    /// Interface by which the packet came or was to leave; 0 for a socket call.
    pub ifindex: u32,
    /// Bytes of the packet from its network header on; 0 for a socket call.
    pub length: u32,
    /// Process that called (thread group id). For a packet 0, but for one that found no source port the id of the backend
    /// that it was for.
    pub party: u32,
    /// Source address (IPv4: mapped); zero for a socket call.
    pub src: Addr6,
    /// Destination address, or the one that the socket asked for, or was to have (IPv4: mapped).
    pub dst: Addr6,
    /// Name of the calling thread, zero-padded.
    pub comm: [u8; 16],
    /// Source port; 0 for a socket call, and where the protocol has none.
    pub sport: Port,
    /// Destination port; 0 where the protocol has none.
    pub dport: Port,
    /// The [`crate::Reason`].
    pub reason: u8,
    /// Where: a [`crate::Point`] or a [`SockCall`].
    pub point: u8,
    /// IANA protocol number.
    pub proto: u8,
    /// TCP flags; 0 of other protocols.
    pub flags: u8,
}

impl EventRecord {
    /// [`EventRecord::sequence`] of a record that is being written.
    pub const WRITING: u64 = u64::MAX;
}

shared! {
    EventRecord: size 96, align 8, fields [u64, u64, u64, u32, u32, u32, u32, Addr6, Addr6, [u8; 16], Port, Port, u8, u8, u8, u8];
}
