//! A packet under way.

use crate::abi::shared;
use crate::addr::{Addr4, Addr6};
use crate::flow::{FlowKey, FlowValue, Tuple};

/// Value of the maps `scratch4` and `scratch6`, 264 and 408 bytes; per-CPU array of two records: a packet under way, and
/// the entry that the sweep looks at. A program has 512 bytes of stack, and parts of it that the kernel verifies by
/// themselves share nothing but memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Scratch<A> {
    /// The entry that was found, or that is being made.
    pub value: FlowValue<A>,
    /// The other half of a pair that is being moved.
    pub held: FlowValue<A>,
    /// The packet's key.
    pub key: FlowKey<A>,
    /// Key of a reverse entry.
    pub reverse: FlowKey<A>,
    /// Key of a forward entry that is not the packet's.
    pub other: FlowKey<A>,
    /// What the packet is to become.
    pub to: Tuple<A>,
    /// Offset of the transport header.
    pub transport: u32,
    /// Now, nanoseconds.
    pub now: u64,
    /// Bytes of the packet from its network header on.
    pub bytes: u64,
    /// Creation id of the pair that is being made.
    pub id: u64,
    /// The [`crate::FlowName`] of the flow that was found, if the packet goes by its way; 0: by none that is known.
    pub flow: u64,
    /// Id of the Service port that was found.
    pub service: u32,
    /// Id of the backend that was chosen.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
    /// Offset of the network header.
    pub network: u32,
    /// Of a packet that is too long for its way: bytes that it may have from its network header on.
    pub mtu: u32,
    /// TCP flags.
    pub flags: u8,
    /// How the flow that was found is to be replaced; the datapath's own numbers.
    pub renewal: u8,
    /// A [`crate::Masquerade`].
    pub masquerade: u8,
    /// How far the search for a source port goes if the next attempt at a pair draws one, else 0.
    pub draw: u8,
    /// 1 if the pair goes to the LRU table.
    pub lru: u8,
    /// Whether it is a fragment; the datapath's own numbers.
    pub part: u8,
    /// The [`crate::Point`] at which the packet is.
    pub point: u8,
    /// The [`crate::Point`] where the forward half of the pair applies that is being made.
    pub forward_point: u8,
    /// The same of its reverse half.
    pub reverse_point: u8,
    /// The flow table in which an entry was found that may have to go; the datapath's own numbers.
    pub found: u8,
    /// On what terms it goes; the same.
    pub terms: u8,
    /// Before the host stack: [`crate::interface_flags`] of the interface by which the packet came, the lower eight.
    pub uplink: u8,
    /// What the fragments of one packet have in common, as it lies in the packet.
    pub identification: u32,
    /// Index of the interface by which the packet came; 0 if it began on this node.
    pub interface: u32,
}

shared! {
    Scratch<Addr4>: size 264, align 8, fields [FlowValue<Addr4>, FlowValue<Addr4>, FlowKey<Addr4>, FlowKey<Addr4>, FlowKey<Addr4>, Tuple<Addr4>, u32, u64, u64, u64, u64, u32, u32, u32, u32, u32, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u32, u32];
    Scratch<Addr6>: size 408, align 8, fields [FlowValue<Addr6>, FlowValue<Addr6>, FlowKey<Addr6>, FlowKey<Addr6>, FlowKey<Addr6>, Tuple<Addr6>, u32, u64, u64, u64, u64, u32, u32, u32, u32, u32, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u32, u32];
}
