//! What a generator of frames is told; in an object of its own, which the agent never loads.

use crate::abi::shared;

/// Bytes of the longest frame, and 8-byte words of it.
pub const FRAME: usize = 80;
/// Flows whose numbers are sampled beforehand.
pub const SAMPLES: usize = 1 << 16;
/// Source ports of an address: flow number `f` is port `FIRST_PORT + f % PORTS` of client `f / PORTS`.
pub const PORTS: u32 = 60_000;
/// The first of them.
pub const FIRST_PORT: u16 = 2000;
/// Programs that a driver can call.
pub const TARGETS: u32 = 32;

/// Which flow a frame is of.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowPick {
    /// One after the other, over and over.
    InTurn = 0,
    /// Any, all alike.
    Random = 1,
    /// As the samples say.
    Sampled = 2,
}

/// Value of the map `generator`, 128 bytes; array of one record, changes between runs only. Numbers in the byte order of
/// the machine.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generator {
    /// Frames written so far: the next flow in turn.
    pub cursor: u64,
    /// The frame, from its Ethernet header on. What differs from flow to flow is zero, and so are the checksums.
    pub frame: [u64; FRAME / 8],
    /// Its length: 64, or 80 for IPv6.
    pub length: u32,
    /// The last four bytes of the first client's address; IPv4: all of it.
    pub client: u32,
    /// The same of the first server's.
    pub server: u32,
    /// One's complement sum of what the IPv4 header's checksum covers, without what differs.
    pub network_sum: u32,
    /// The same of the transport header's.
    pub transport_sum: u32,
    /// Number of the first flow.
    pub first: u32,
    /// How many there are.
    pub flows: u32,
    /// Over how many servers they are spread.
    pub servers: u32,
    /// Which program a driver calls; of what is sent, the index of the interface by which.
    pub target: u32,
    /// Bytes from the start of the transport header to its checksum.
    pub check: u8,
    /// Whether servers send it to clients.
    pub reversed: u8,
    /// [`FlowPick`].
    pub pick: u8,
    /// Zero.
    pub pad: u8,
}

shared! {
    Generator: size 128, align 8, fields [u64, [u64; FRAME / 8], u32, u32, u32, u32, u32, u32, u32, u32, u32, u8, u8, u8, u8];
}
