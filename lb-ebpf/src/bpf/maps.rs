//! The maps, named, sized and flagged as the table in `lb_common::maps` says; a test compares the object with it.

use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, SkStorage};
use aya_ebpf::macros::btf_map;
use lb_common::maps::{
    AFFINITIES, BACKENDS, EVENT_RECORDS, FLOWS, FRAGMENTED, INTERFACE_COUNT, LRU_SHARE, MARKS, MMAPABLE,
    NO_PREALLOC, SERVICES, SLOTS_PER_BACKEND, SOCK_UDP, WAYS,
};
use lb_common::{
    Addr4, Addr6, Address, AddressValue, AffinityKey, AffinityWord, BackendRecord, BackendStats, ClientOf,
    Config, CpuRecord, EventRecord, FlowKey, FlowValue, FragmentKey, FragmentValue, FrontendKey,
    FrontendValue, InterfaceValue, Reason, Scratch, ServiceMeta, ServiceRecord, ServiceStats, Slot,
    SockStorage, SockUdpKey, SockUdpValue, StateRecord, SweepReport, WayRecord,
};

const MMAP: usize = MMAPABLE as usize;
const SPARSE: usize = NO_PREALLOC as usize;
const SLOT_COUNT: usize = (BACKENDS * SLOTS_PER_BACKEND) as usize;

pub(super) type Flows<A> = HashMap<FlowKey<A>, FlowValue<A>, { FLOWS as usize }>;
pub(super) type FlowsLru<A> = LruHashMap<FlowKey<A>, FlowValue<A>, { (FLOWS / LRU_SHARE) as usize }>;
pub(super) type Addresses<A> = HashMap<A, AddressValue, { SERVICES as usize }, SPARSE>;
pub(super) type Frontends<A> = HashMap<FrontendKey<A>, FrontendValue, { SERVICES as usize }, SPARSE>;
pub(super) type SourceRanges<A> = LpmTrie<ClientOf<A>, u32, { SERVICES as usize }, SPARSE>;
pub(super) type Slots<A> = Array<Slot<A>, SLOT_COUNT, MMAP>;
pub(super) type SockUdp<A> = LruHashMap<SockUdpKey<A>, SockUdpValue<A>, { SOCK_UDP as usize }>;

#[btf_map(name = "flows4")]
static FLOWS4: Flows<Addr4> = Flows::new();
#[btf_map(name = "flows6")]
static FLOWS6: Flows<Addr6> = Flows::new();
#[btf_map(name = "flows_lru4")]
static FLOWS_LRU4: FlowsLru<Addr4> = FlowsLru::new();
#[btf_map(name = "flows_lru6")]
static FLOWS_LRU6: FlowsLru<Addr6> = FlowsLru::new();
#[btf_map(name = "addresses4")]
static ADDRESSES4: Addresses<Addr4> = Addresses::new();
#[btf_map(name = "addresses6")]
static ADDRESSES6: Addresses<Addr6> = Addresses::new();
#[btf_map(name = "frontends4")]
static FRONTENDS4: Frontends<Addr4> = Frontends::new();
#[btf_map(name = "frontends6")]
static FRONTENDS6: Frontends<Addr6> = Frontends::new();
#[btf_map(name = "source_ranges4")]
static SOURCE_RANGES4: SourceRanges<Addr4> = SourceRanges::new();
#[btf_map(name = "source_ranges6")]
static SOURCE_RANGES6: SourceRanges<Addr6> = SourceRanges::new();
#[btf_map(name = "slots4")]
static SLOTS4: Slots<Addr4> = Slots::new();
#[btf_map(name = "slots6")]
static SLOTS6: Slots<Addr6> = Slots::new();
#[btf_map(name = "sock_udp4")]
static SOCK_UDP4: SockUdp<Addr4> = SockUdp::new();
#[btf_map(name = "sock_udp6")]
static SOCK_UDP6: SockUdp<Addr6> = SockUdp::new();

#[btf_map(name = "scratch4")]
static SCRATCH4: PerCpuArray<Scratch<Addr4>, 2> = PerCpuArray::new();
#[btf_map(name = "scratch6")]
static SCRATCH6: PerCpuArray<Scratch<Addr6>, 2> = PerCpuArray::new();

#[btf_map(name = "marks")]
pub(super) static MARKS_MAP: Array<u64, { (MARKS / 64) as usize }, MMAP> = Array::new();
#[btf_map(name = "services")]
pub(super) static SERVICES_MAP: Array<ServiceRecord, { SERVICES as usize }, MMAP> = Array::new();
// Never read here: made with the others, so that one loader makes all maps.
#[btf_map(name = "service_meta")]
static SERVICE_META: HashMap<u32, ServiceMeta, { SERVICES as usize }, SPARSE> = HashMap::new();
#[btf_map(name = "service_stats")]
pub(super) static SERVICE_STATS: Array<ServiceStats, { SERVICES as usize }, MMAP> = Array::new();
#[btf_map(name = "backends")]
pub(super) static BACKENDS_MAP: Array<BackendRecord, { BACKENDS as usize }, MMAP> = Array::new();
#[btf_map(name = "backend_stats")]
pub(super) static BACKEND_STATS: Array<BackendStats, { BACKENDS as usize }, MMAP> = Array::new();
#[btf_map(name = "affinity")]
pub(super) static AFFINITY: LruHashMap<AffinityKey, AffinityWord, { AFFINITIES as usize }> =
    LruHashMap::new();
#[btf_map(name = "fragments")]
pub(super) static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue, { FRAGMENTED as usize }> =
    LruHashMap::new();
#[btf_map(name = "interfaces")]
pub(super) static INTERFACES: HashMap<u32, InterfaceValue, { INTERFACE_COUNT as usize }, SPARSE> =
    HashMap::new();
#[btf_map(name = "reasons")]
pub(super) static REASONS: PerCpuArray<u64, { Reason::ALL.len() }> = PerCpuArray::new();
#[btf_map(name = "events")]
pub(super) static EVENTS: Array<EventRecord, { EVENT_RECORDS as usize }, MMAP> = Array::new();
#[btf_map(name = "config")]
pub(super) static CONFIG: Array<Config, 1, MMAP> = Array::new();
#[btf_map(name = "state")]
pub(super) static STATE: Array<StateRecord, 1, MMAP> = Array::new();
#[btf_map(name = "cpu")]
pub(super) static CPU: PerCpuArray<CpuRecord, 1> = PerCpuArray::new();
#[btf_map(name = "ways")]
pub(super) static WAYS_MAP: PerCpuArray<WayRecord, { WAYS as usize }> = PerCpuArray::new();
#[btf_map(name = "sweep")]
pub(super) static SWEEP: Array<SweepReport, 1, MMAP> = Array::new();
#[btf_map(name = "socks")]
pub(super) static SOCKS: SkStorage<SockStorage> = SkStorage::new();

/// The maps of one family.
pub(crate) trait Maps: Address {
    /// Index into the fields of [`StateRecord`].
    const INDEX: usize;
    fn flows() -> &'static Flows<Self>;
    fn flows_lru() -> &'static FlowsLru<Self>;
    fn addresses() -> &'static Addresses<Self>;
    fn frontends() -> &'static Frontends<Self>;
    fn source_ranges() -> &'static SourceRanges<Self>;
    fn slots() -> &'static Slots<Self>;
    fn sock_udp() -> &'static SockUdp<Self>;
    fn scratch() -> &'static PerCpuArray<Scratch<Self>, 2>;
}

macro_rules! maps {
    ($family:ty, $index:literal, $flows:ident, $lru:ident, $addresses:ident, $frontends:ident, $ranges:ident, $slots:ident, $udp:ident, $scratch:ident) => {
        impl Maps for $family {
            const INDEX: usize = $index;
            #[inline(always)]
            fn flows() -> &'static Flows<Self> {
                &$flows
            }
            #[inline(always)]
            fn flows_lru() -> &'static FlowsLru<Self> {
                &$lru
            }
            #[inline(always)]
            fn addresses() -> &'static Addresses<Self> {
                &$addresses
            }
            #[inline(always)]
            fn frontends() -> &'static Frontends<Self> {
                &$frontends
            }
            #[inline(always)]
            fn source_ranges() -> &'static SourceRanges<Self> {
                &$ranges
            }
            #[inline(always)]
            fn slots() -> &'static Slots<Self> {
                &$slots
            }
            #[inline(always)]
            fn sock_udp() -> &'static SockUdp<Self> {
                &$udp
            }
            #[inline(always)]
            fn scratch() -> &'static PerCpuArray<Scratch<Self>, 2> {
                &$scratch
            }
        }
    };
}

maps!(Addr4, 0, FLOWS4, FLOWS_LRU4, ADDRESSES4, FRONTENDS4, SOURCE_RANGES4, SLOTS4, SOCK_UDP4, SCRATCH4);
maps!(Addr6, 1, FLOWS6, FLOWS_LRU6, ADDRESSES6, FRONTENDS6, SOURCE_RANGES6, SLOTS6, SOCK_UDP6, SCRATCH6);
