//! Services, slots and backends: what is behind a frontend.

use crate::abi::shared;
use crate::addr::{Addr4, Addr6, Port};

/// A run of slots, as one word: bits 63..32 the number of slots, 31..0 the index of the first.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Span(pub u64);

impl Span {
    /// `len` slots from index `offset` on.
    #[must_use]
    #[inline(always)]
    pub const fn new(offset: u32, len: u32) -> Self {
        Self(((len as u64) << 32) | offset as u64)
    }

    /// Index of the first slot.
    #[must_use]
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Number of slots; 0 means that no endpoint is usable.
    #[must_use]
    #[inline(always)]
    pub const fn len(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Whether no endpoint is usable.
    #[must_use]
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Bits of [`ServiceRecord::flags`].
pub mod service_flags {
    /// `internalTrafficPolicy: Local`: the ClusterIP uses the local scope only (B53).
    pub const INTERNAL_LOCAL: u64 = 1;
    /// `externalTrafficPolicy: Local`: what comes from outside by any other frontend uses the local scope only; the pods
    /// and the host of this node use the cluster scope (B54, B55).
    pub const EXTERNAL_LOCAL: u64 = 2;
    /// `loadBalancerSourceRanges`: by a LoadBalancer frontend only clients in one of the Service port's ranges are served
    /// (B43). The ranges are there before the flag, and go after it.
    pub const SOURCE_RANGES: u64 = 4;
    /// Where the rate of new flows begins.
    const RATE_SHIFT: u32 = 8;
    /// Where the timeout of session affinity begins.
    const AFFINITY_SHIFT: u32 = 32;
    /// The highest rate of new flows that can be said.
    pub const MAX_NEW_FLOW_RATE: u32 = (1 << (AFFINITY_SHIFT - RATE_SHIFT)) - 1;

    /// Bits 31..8: so many flows may be made a second; 0: any number.
    #[must_use]
    #[inline(always)]
    pub const fn new_flow_rate(flags: u64) -> u32 {
        (flags >> RATE_SHIFT) as u32 & MAX_NEW_FLOW_RATE
    }

    /// The bits `flags` together with a rate of new flows, [`MAX_NEW_FLOW_RATE`] at most.
    #[must_use]
    pub const fn with_new_flow_rate(flags: u64, rate: u32) -> u64 {
        flags | (rate as u64) << RATE_SHIFT
    }

    /// Bits 63..32: for so many seconds after its last new connection a client keeps its backend (B62, B64); 0: no
    /// session affinity.
    #[must_use]
    #[inline(always)]
    pub const fn affinity(flags: u64) -> u32 {
        (flags >> AFFINITY_SHIFT) as u32
    }

    /// The bits `flags` together with session affinity that lasts for so many seconds; 0: none.
    #[must_use]
    pub const fn with_affinity(flags: u64, seconds: u32) -> u64 {
        flags | (seconds as u64) << AFFINITY_SHIFT
    }
}

/// A Service port of one family, 40 bytes; array, index = service id.
///
/// User space writes each of the first three words with one store; the datapath alone writes the others while the Service
/// lives.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceRecord {
    /// [`Span`] of the endpoints usable from anywhere (B50).
    pub cluster: u64,
    /// [`Span`] of those on this node (B51).
    pub local: u64,
    /// [`service_flags`].
    pub flags: u64,
    /// Round-robin: how many connections have been placed, plus where the rotation began.
    pub cursor: u64,
    /// What is spent of the rate of new flows, see [`crate::CpuRecord`].
    pub spent: u64,
}

/// One endpoint in a scope of a Service: 16 bytes for IPv4, 28 for IPv6 (stride in the array: 32).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Slot<A> {
    /// The endpoint's address, network order.
    pub addr: A,
    /// The endpoint's port, network order.
    pub port: Port,
    /// Zero.
    pub pad: [u8; 2],
    /// Backend id: index into `backends` and `backend_stats`.
    pub backend: u32,
    /// The backend's generation.
    pub generation: u32,
}

/// Bits 31..0 of a [`BackendWord`].
pub mod backend_flags {
    /// Some endpoint of the Service still serves here, selected for new connections or not (B96, B97).
    pub const SERVING: u32 = 1;
    /// New connections from anywhere may choose it: it is in [`super::ServiceRecord::cluster`] (B50).
    pub const CLUSTER: u32 = 2;
    /// New connections under a Local policy may choose it: it is in [`super::ServiceRecord::local`] (B51).
    pub const LOCAL: u32 = 4;
}

/// Generation and flags of a backend, as one word: bits 63..32 generation, 31..0 [`backend_flags`].
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendWord(pub u64);

impl BackendWord {
    /// A backend of `generation` with these [`backend_flags`].
    #[must_use]
    #[inline(always)]
    pub const fn new(generation: u32, flags: u32) -> Self {
        Self(((generation as u64) << 32) | flags as u64)
    }

    /// How often this id has been given out.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Whether some endpoint of the Service still serves here, selected for new connections or not (B96, B97).
    #[must_use]
    #[inline(always)]
    pub const fn serving(self) -> bool {
        self.has(backend_flags::SERVING)
    }

    /// The [`backend_flags`].
    #[must_use]
    #[inline(always)]
    pub const fn flags(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Whether all of these [`backend_flags`] are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, flags: u32) -> bool {
        self.flags() & flags == flags
    }
}

/// An endpoint of a Service port, 32 bytes; array, index = backend id. Id 0 is never given out.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendRecord {
    /// A [`BackendWord`]. The other fields hold still for as long as a program runs that has seen one of its flags set.
    pub word: u64,
    /// Id of the Service port it belongs to.
    pub service: u32,
    /// 4 or 6; 0 in a record that was never used.
    pub family: u8,
    /// Zero.
    pub pad: u8,
    /// The endpoint's port, network order.
    pub port: Port,
    /// The endpoint's address; IPv4 as an IPv4-mapped address.
    pub addr: Addr6,
}

/// Names of a Service port, 200 bytes; hash, key = service id (u32). Strings are padded with zeros.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceMeta {
    /// `metadata.namespace`.
    pub namespace: [u8; 64],
    /// `metadata.name`.
    pub name: [u8; 64],
    /// `spec.ports[].name`, empty for an unnamed port.
    pub port_name: [u8; 64],
    /// `spec.ports[].port`, network order.
    pub port: Port,
    /// IANA protocol number.
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub pad: [u8; 4],
}

/// Counters of a Service port, 40 bytes; array, index = service id. The datapath adds atomically; packets and bytes
/// are added when a flow ends, those of living flows stand in the flow tables.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceStats {
    /// Connections opened, on the packet path and at the socket hooks.
    pub connections: u64,
    /// Packets towards backends.
    pub packets_in: u64,
    /// Bytes of those.
    pub bytes_in: u64,
    /// Packets from backends.
    pub packets_out: u64,
    /// Bytes of those.
    pub bytes_out: u64,
}

/// Counters of a backend, 48 bytes; array, index = backend id.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendStats {
    /// As for the Service.
    pub traffic: ServiceStats,
    /// Where the search for a free source port goes on.
    pub port_cursor: u64,
}

shared! {
    ServiceRecord: size 40, align 8, fields [u64, u64, u64, u64, u64];
    Slot<Addr4>: size 16, align 4, fields [Addr4, Port, [u8; 2], u32, u32];
    Slot<Addr6>: size 28, align 4, fields [Addr6, Port, [u8; 2], u32, u32];
    BackendRecord: size 32, align 8, fields [u64, u32, u8, u8, Port, Addr6];
    ServiceMeta: size 200, align 2, fields [[u8; 64], [u8; 64], [u8; 64], Port, u8, u8, [u8; 4]];
    ServiceStats: size 40, align 8, fields [u64, u64, u64, u64, u64];
    BackendStats: size 48, align 8, fields [ServiceStats, u64];
}
