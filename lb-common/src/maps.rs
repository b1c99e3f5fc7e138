//! The table of maps: one line each, used by the programs, the loader, the CLI and the tests.

use core::mem::size_of;

use crate::{
    Addr4, Addr6, AddressValue, AffinityKey, AffinityWord, BackendRecord, BackendStats, Config, CpuRecord,
    EventRecord, FlowKey, FlowValue, FragmentKey, FragmentValue, FrontendKey, FrontendValue, InterfaceValue,
    Reason, Scratch, ServiceMeta, ServiceRecord, ServiceStats, Slot, SockStorage, SockUdpKey, SockUdpValue,
    SourceRangeKey, StateRecord, SweepReport, WayRecord,
};

/// Kinds of maps in use, with the kernel's number of each (`enum bpf_map_type`).
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_SK_STORAGE`.
    SkStorage = 24,
}

/// What decides how many entries a map gets when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sizing {
    /// The default, always.
    Fixed,
    /// `--max-flows`, or from the machine's memory.
    Flows,
    /// `--max-services`: Service ports, counted per family.
    Services,
    /// `--max-backends`: endpoints of all Service ports.
    Backends,
}

/// `BPF_F_NO_PREALLOC`.
pub const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`.
pub const MMAPABLE: u32 = 1 << 10;

/// One map.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Name in the object, in the kernel (at most 15 characters) and of the pin.
    pub name: &'static str,
    /// Kind.
    pub kind: MapKind,
    /// Size of the key, bytes.
    pub key_size: usize,
    /// Size of the value, bytes.
    pub value_size: usize,
    /// Entries by default.
    pub entries: u32,
    /// What may change that number.
    pub sizing: Sizing,
    /// Creation flags.
    pub flags: u32,
    /// What it is for.
    pub purpose: &'static str,
}

/// Entries of the flow tables by default; the LRU tables get [`LRU_SHARE`] of it.
pub const FLOWS: u32 = 131_072;
/// One LRU entry for so many entries of the flow table.
pub const LRU_SHARE: u32 = 8;
/// Service ports by default.
pub const SERVICES: u32 = 65_536;
/// Backends by default. The slot arrays get [`SLOTS_PER_BACKEND`] times as many slots.
pub const BACKENDS: u32 = 262_144;
/// Slots per backend: two scopes, and a fresh block beside each old one while an update is under way.
pub const SLOTS_PER_BACKEND: u32 = 2;
/// Clients whose backend is remembered, each once per Service port with session affinity: as many as there may be
/// connections in a flow table.
pub const AFFINITIES: u32 = FLOWS / 2;
/// Drops and refusals whose records are kept.
pub const EVENT_RECORDS: u32 = 4_096;
/// Fragmented packets under way.
pub const FRAGMENTED: u32 = 8_192;
/// Interfaces of which the programs must know something.
pub const INTERFACE_COUNT: u32 = 16_384;
/// Bits of the map `marks`, of which an address has two: with 200 000 addresses, one of a hundred others has both.
pub const MARKS: u32 = 1 << 22;
/// Ways that each CPU keeps, of a direction of a flow each; a power of two.
pub const WAYS: u32 = 8_192;
/// Sockets' UDP translations that are remembered.
pub const SOCK_UDP: u32 = 65_536;

macro_rules! maps {
    ($($constant:ident, $name:literal: $kind:ident, $key:ty => $value:ty, $entries:expr, $sizing:ident, $flags:expr, $purpose:literal;)+) => {
        $(#[doc = $purpose] pub const $constant: &str = $name;)+

        /// All maps.
        pub const ALL: &[MapSpec] = &[$(MapSpec {
            name: $name,
            kind: MapKind::$kind,
            key_size: size_of::<$key>(),
            value_size: size_of::<$value>(),
            entries: $entries,
            sizing: Sizing::$sizing,
            flags: $flags,
            purpose: $purpose,
        },)+];
    };
}

maps! {
    FLOWS4, "flows4": Hash, FlowKey<Addr4> => FlowValue<Addr4>, FLOWS, Flows, 0, "IPv4 flow table.";
    FLOWS6, "flows6": Hash, FlowKey<Addr6> => FlowValue<Addr6>, FLOWS, Flows, 0, "IPv6 flow table.";
    FLOWS_LRU4, "flows_lru4": LruHash, FlowKey<Addr4> => FlowValue<Addr4>, FLOWS / LRU_SHARE, Flows, 0, "IPv4 flows that may be evicted.";
    FLOWS_LRU6, "flows_lru6": LruHash, FlowKey<Addr6> => FlowValue<Addr6>, FLOWS / LRU_SHARE, Flows, 0, "IPv6 flows that may be evicted.";
    ADDRESSES4, "addresses4": Hash, Addr4 => AddressValue, SERVICES, Services, NO_PREALLOC, "IPv4 addresses that matter at all.";
    ADDRESSES6, "addresses6": Hash, Addr6 => AddressValue, SERVICES, Services, NO_PREALLOC, "IPv6 addresses that matter at all.";
    MARKED, "marks": Array, u32 => u64, MARKS / 64, Fixed, MMAPABLE, "Bits of the addresses that matter, or have ever.";
    FRONTENDS4, "frontends4": Hash, FrontendKey<Addr4> => FrontendValue, SERVICES, Services, NO_PREALLOC, "IPv4 address, port and protocol to service.";
    FRONTENDS6, "frontends6": Hash, FrontendKey<Addr6> => FrontendValue, SERVICES, Services, NO_PREALLOC, "IPv6 address, port and protocol to service.";
    SOURCE_RANGES4, "source_ranges4": LpmTrie, SourceRangeKey<Addr4> => u32, SERVICES, Services, NO_PREALLOC, "IPv4 clients that may use a LoadBalancer frontend.";
    SOURCE_RANGES6, "source_ranges6": LpmTrie, SourceRangeKey<Addr6> => u32, SERVICES, Services, NO_PREALLOC, "IPv6 clients that may use a LoadBalancer frontend.";
    SERVICES_MAP, "services": Array, u32 => ServiceRecord, SERVICES, Services, MMAPABLE, "Service ports: scopes, flags, round-robin cursor.";
    SERVICE_META, "service_meta": Hash, u32 => ServiceMeta, SERVICES, Services, NO_PREALLOC, "Names of Service ports.";
    SERVICE_STATS, "service_stats": Array, u32 => ServiceStats, SERVICES, Services, MMAPABLE, "Counters of Service ports.";
    SLOTS4, "slots4": Array, u32 => Slot<Addr4>, BACKENDS * SLOTS_PER_BACKEND, Backends, MMAPABLE, "IPv4 endpoints in blocks, one block per scope.";
    SLOTS6, "slots6": Array, u32 => Slot<Addr6>, BACKENDS * SLOTS_PER_BACKEND, Backends, MMAPABLE, "IPv6 endpoints in blocks, one block per scope.";
    BACKENDS_MAP, "backends": Array, u32 => BackendRecord, BACKENDS, Backends, MMAPABLE, "Endpoints of Service ports by id.";
    BACKEND_STATS, "backend_stats": Array, u32 => BackendStats, BACKENDS, Backends, MMAPABLE, "Counters of backends.";
    AFFINITY, "affinity": LruHash, AffinityKey => AffinityWord, AFFINITIES, Flows, 0, "Which backend a client had last.";
    FRAGMENTS, "fragments": LruHash, FragmentKey => FragmentValue, FRAGMENTED, Fixed, 0, "Ports of fragmented packets.";
    INTERFACES, "interfaces": Hash, u32 => InterfaceValue, INTERFACE_COUNT, Fixed, NO_PREALLOC, "What is behind interfaces.";
    REASONS, "reasons": PerCpuArray, u32 => u64, Reason::ALL.len() as u32, Fixed, 0, "How often each reason ended a packet or call.";
    EVENTS, "events": Array, u32 => EventRecord, EVENT_RECORDS, Fixed, MMAPABLE, "The latest drops and refusals.";
    CONFIG, "config": Array, u32 => Config, 1, Fixed, MMAPABLE, "Settings.";
    STATE, "state": Array, u32 => StateRecord, 1, Fixed, MMAPABLE, "What the programs tell each other.";
    CPU, "cpu": PerCpuArray, u32 => CpuRecord, 1, Fixed, 0, "What each CPU keeps for itself.";
    WAYS_MAP, "ways": PerCpuArray, u32 => WayRecord, WAYS, Fixed, 0, "Where packets of flows left the node lately.";
    SCRATCH4, "scratch4": PerCpuArray, u32 => Scratch<Addr4>, 2, Fixed, 0, "Memory of an IPv4 packet under way, and of the sweep.";
    SCRATCH6, "scratch6": PerCpuArray, u32 => Scratch<Addr6>, 2, Fixed, 0, "Memory of an IPv6 packet under way, and of the sweep.";
    SWEEP, "sweep": Array, u32 => SweepReport, 1, Fixed, MMAPABLE, "What the last sweep found.";
    SOCK_UDP4, "sock_udp4": LruHash, SockUdpKey<Addr4> => SockUdpValue<Addr4>, SOCK_UDP, Fixed, 0, "IPv4 translations of the host's UDP sockets.";
    SOCK_UDP6, "sock_udp6": LruHash, SockUdpKey<Addr6> => SockUdpValue<Addr6>, SOCK_UDP, Fixed, 0, "IPv6 translations of the host's UDP sockets.";
    SOCKS, "socks": SkStorage, u32 => SockStorage, 0, Fixed, NO_PREALLOC, "What a translated socket was asked for.";
}
