//! [`Tables`] over maps and helper calls.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::btf_maps::lpm_trie::Key as LpmKey;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_redirect};
use lb_common::{
    AddressValue, AffinityKey, AffinityWord, BackendWord, ClientOf, Config, CpuRecord, FlowKey, FlowValue,
    FragmentKey, FragmentValue, FrontendKey, FrontendValue, InterfaceValue, Reason, ServiceStats, Slot,
    SourceRangeKey, StateRecord,
};
use lb_ebpf::env::{FlowTable, Inserted, Note, Sockets, Tables, Traffic};
use lb_ebpf::route::{Ask, Route};

use super::around::{Around, Hook};
use super::atomic;
use super::event::Event;
use super::fib;
use super::in_place::{Backend, Entry, Kept, Memory, Remembered, Service};
use super::lookup;
use super::maps::{
    AFFINITY, BACKEND_STATS, BACKENDS_MAP, CONFIG, CPU, FRAGMENTS, INTERFACES, MARKS_MAP, Maps, REASONS,
    SERVICE_STATS, SERVICES_MAP, STATE, WAYS_MAP,
};

const EEXIST: i32 = -17;
const E2BIG: i32 = -7;
/// What an LRU table says that finds nothing to evict.
const ENOMEM: i32 = -12;

#[inline(always)]
fn inserted(result: Result<(), i32>) -> Inserted {
    match result {
        Ok(()) => Inserted::Done,
        Err(EEXIST) => Inserted::Exists,
        Err(E2BIG | ENOMEM) => Inserted::Full,
        Err(_) => Inserted::Failed,
    }
}

#[inline(always)]
fn count_traffic(stats: *mut ServiceStats, inward: Traffic, outward: Traffic) {
    // SAFETY: the caller passes a value of one of the two arrays of counters.
    unsafe {
        atomic::add(addr_of_mut!((*stats).packets_in), inward.packets);
        atomic::add(addr_of_mut!((*stats).bytes_in), inward.bytes);
        atomic::add(addr_of_mut!((*stats).packets_out), outward.packets);
        atomic::add(addr_of_mut!((*stats).bytes_out), outward.bytes);
    }
}

/// The word of family `A` that is called `note`.
///
/// # Safety
/// `state` points to the value of the array `state`.
#[inline(always)]
unsafe fn word_of<A: Maps>(state: *mut StateRecord, note: Note) -> *mut u64 {
    // SAFETY: the caller's promise; nothing is read here.
    unsafe {
        match note {
            Note::LruUsed => addr_of_mut!((*state).lru_used[A::INDEX]),
            Note::Full => addr_of_mut!((*state).full[A::INDEX]),
            Note::Swept => addr_of_mut!((*state).swept[A::INDEX]),
            Note::Begun => addr_of_mut!((*state).begun[A::INDEX]),
            Note::Settled => addr_of_mut!((*state).settled[A::INDEX]),
        }
    }
}

impl<A: Maps, P: Hook> Tables<A> for Around<P> {
    type Flow = Entry<A>;
    type Service = Service;
    type Backend = Backend;
    type Affinity = Remembered;
    type Scratch = Memory<A>;
    type Way = Kept;
    type Event = Event;

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: a helper without arguments (Linux 5.11).
        let asked = || unsafe { bpf_ktime_get_coarse_ns() };
        let (Some(config), Some(state)) = (CONFIG.get(0), STATE.get_ptr_mut(0)) else { return asked() };
        if config.tick == 0 {
            return asked();
        }
        // SAFETY: a helper without arguments (Linux 5.6), which the kernel makes a load of.
        let ticks = unsafe { bpf_jiffies64() }.wrapping_mul(config.tick.into());
        // SAFETY: an aligned word of a value of the array.
        let clock = unsafe { addr_of_mut!((*state).clock) };
        // SAFETY: as above.
        let mut zero = unsafe { clock.read_volatile() };
        if zero == 0 {
            zero = asked().wrapping_sub(ticks);
            // SAFETY: as above; two programs at once write the same, but for a tick.
            unsafe { clock.write_volatile(zero) };
        }
        ticks.wrapping_add(zero)
    }

    #[inline(always)]
    fn cpu(&self) -> u16 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_smp_processor_id() as u16 }
    }

    #[inline(always)]
    fn with_cpu<R>(&self, f: impl FnOnce(&mut CpuRecord) -> R) -> Option<R> {
        let record = CPU.get_ptr_mut(0)?;
        // SAFETY: this CPU's record; packets on one CPU do not interrupt each other. Socket calls, which may be interrupted,
        // ask for nothing here but the right to record an event: at worst one too many is.
        Some(f(unsafe { &mut *record }))
    }

    #[inline(always)]
    fn scratch(&self) -> Option<Memory<A>> {
        A::scratch().get_ptr_mut(0).map(Memory)
    }

    #[inline(always)]
    fn next_event(&self) -> Option<Event> {
        Event::next()
    }

    #[inline(always)]
    fn publish_event(&self, event: Event) {
        event.publish();
    }

    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        CONFIG.get(0)
    }

    #[inline(always)]
    fn count(&self, reason: Reason) {
        if let Some(counter) = REASONS.get_ptr_mut(u32::from(reason as u8)) {
            // SAFETY: this CPU's counter. Packets do not interrupt each other; where two socket calls do, on a kernel that
            // preempts, one of them may go uncounted.
            unsafe { *counter += 1 };
        }
    }

    #[inline(always)]
    fn flow(&self, table: FlowTable, key: &FlowKey<A>) -> Option<Entry<A>> {
        match table {
            FlowTable::Main => A::flows().get_ptr_mut(key),
            FlowTable::Lru => A::flows_lru().get_ptr_mut(key),
        }
        .map(Entry)
    }

    #[inline(always)]
    fn insert_flow(&self, table: FlowTable, key: &FlowKey<A>, value: &FlowValue<A>) -> Inserted {
        let flags = u64::from(BPF_NOEXIST);
        inserted(match table {
            FlowTable::Main => A::flows().insert(key, value, flags),
            FlowTable::Lru => A::flows_lru().insert(key, value, flags),
        })
    }

    #[inline(always)]
    fn delete_flow(&self, table: FlowTable, key: &FlowKey<A>) {
        // Whether it was still there does not matter: an LRU entry may have been evicted.
        let _ = match table {
            FlowTable::Main => A::flows().remove(key),
            FlowTable::Lru => A::flows_lru().remove(key),
        };
    }

    #[inline(always)]
    fn note(&self, note: Note) -> u64 {
        // SAFETY: one aligned load of a value of the array.
        STATE.get_ptr_mut(0).map_or(0, |state| unsafe { word_of::<A>(state, note).read_volatile() })
    }

    #[inline(always)]
    fn set_note(&self, note: Note, value: u64) {
        if let Some(state) = STATE.get_ptr_mut(0) {
            // SAFETY: one aligned store to a value of the array.
            unsafe { word_of::<A>(state, note).write_volatile(value) };
        }
    }

    #[inline(always)]
    fn exchange_note(&self, note: Note, old: u64, new: u64) -> bool {
        // SAFETY: an aligned word of a value of the array.
        STATE
            .get_ptr_mut(0)
            .is_some_and(|state| unsafe { atomic::exchange(word_of::<A>(state, note), old, new) })
    }

    #[inline(always)]
    fn add_note(&self, note: Note, value: u64) {
        if let Some(state) = STATE.get_ptr_mut(0) {
            // SAFETY: an aligned word of a value of the array.
            unsafe { atomic::add(word_of::<A>(state, note), value) };
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        // SAFETY: copied at once; whether the copy is whole and this key's, its check tells.
        FRAGMENTS.get_ptr(key).map(|value| unsafe { *value })
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, value: &FragmentValue) {
        // Without it the later fragments are dropped, which has a counter.
        let _ = FRAGMENTS.insert(key, value, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn forget_fragment(&self, key: &FragmentKey) {
        // Most have never been remembered.
        let _ = FRAGMENTS.remove(key);
    }

    #[inline(always)]
    fn is_marked(&self, addr: &A) -> bool {
        let mark = addr.mark();
        // SAFETY: one aligned load of a value of the array.
        MARKS_MAP.get_ptr(mark.word).is_some_and(|word| mark.is_in(unsafe { word.read_volatile() }))
    }

    #[inline(always)]
    fn mark(&self, addr: &A) {
        let mark = addr.mark();
        if let Some(word) = MARKS_MAP.get_ptr_mut(mark.word) {
            // SAFETY: an aligned word of the array.
            unsafe { atomic::or(word, mark.bits) };
        }
    }

    #[inline(always)]
    fn address(&self, addr: &A) -> Option<AddressValue> {
        // SAFETY: copied at once, as one word; a value is replaced as a whole.
        A::addresses().get_ptr(addr).map(|value| unsafe { *value })
    }

    #[inline(always)]
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        // SAFETY: copied at once; the value never changes while the entry lives.
        A::frontends().get_ptr(key).map(|value| unsafe { *value })
    }

    #[inline(always)]
    fn admits(&self, service: u32, client: &A) -> bool {
        let key = SourceRangeKey::asking(service, *client);
        // SAFETY: the same bytes; but whoever fills a packed struct does it byte by byte, which takes the stack's room twice.
        let key = unsafe { &*addr_of!(key).cast::<LpmKey<ClientOf<A>>>() };
        A::source_ranges().get(key).is_some()
    }

    #[inline(always)]
    fn service(&self, id: u32) -> Option<Service> {
        SERVICES_MAP.get_ptr_mut(id).map(Service)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<Slot<A>> {
        // SAFETY: a block is not reused before a grace period has passed, so the slot does not change.
        A::slots().get_ptr(index).map(|slot| unsafe { *slot })
    }

    #[inline(always)]
    fn backend(&self, id: u32) -> BackendWord {
        // SAFETY: one aligned load of a value of the array.
        BackendWord(
            BACKENDS_MAP.get_ptr(id).map_or(0, |record| unsafe { addr_of!((*record).word).read_volatile() }),
        )
    }

    #[inline(always)]
    fn backend_record(&self, id: u32) -> Option<Backend> {
        BACKENDS_MAP.get_ptr(id).map(Backend)
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Remembered> {
        AFFINITY.get_ptr_mut(key).map(Remembered)
    }

    #[inline(always)]
    fn insert_affinity(&self, key: &AffinityKey, word: AffinityWord) -> Inserted {
        inserted(AFFINITY.insert(key, word, u64::from(BPF_NOEXIST)))
    }

    #[inline(always)]
    fn opened(&self, service: u32, backend: u32) {
        if let Some(stats) = SERVICE_STATS.get_ptr_mut(service) {
            // SAFETY: an aligned word of a value of the array.
            unsafe { atomic::add(addr_of_mut!((*stats).connections), 1) };
        }
        if let Some(stats) = BACKEND_STATS.get_ptr_mut(backend) {
            // SAFETY: as above.
            unsafe { atomic::add(addr_of_mut!((*stats).traffic.connections), 1) };
        }
    }

    #[inline(always)]
    fn ended(&self, service: u32, backend: u32, inward: Traffic, outward: Traffic) {
        if let Some(stats) = SERVICE_STATS.get_ptr_mut(service) {
            count_traffic(stats, inward, outward);
        }
        if let Some(stats) = BACKEND_STATS.get_ptr_mut(backend) {
            // SAFETY: the first field of a value of the array.
            count_traffic(unsafe { addr_of_mut!((*stats).traffic) }, inward, outward);
        }
    }

    #[inline(always)]
    fn has_socket(&self, key: &FlowKey<A>, sockets: Sockets) -> bool {
        lookup::has(self.context, key, sockets)
    }

    #[inline(always)]
    fn interface(&self, index: u32) -> InterfaceValue {
        // SAFETY: a value of the map, which user space replaces as a whole.
        INTERFACES.get_ptr(index).map_or_else(Default::default, |value| unsafe { *value })
    }

    #[inline(always)]
    fn route(&self, key: &FlowKey<A>, to: &A, ask: Ask) -> Route<A> {
        fib::lookup(self.context, P::new(self.context()).ifindex(), key, to, ask)
    }

    #[inline(always)]
    fn send(&self, route: &Route<A>) -> bool {
        P::new(self.context()).send(route)
    }

    #[inline(always)]
    fn forward(&self, interface: u32, link: [u32; 3]) -> bool {
        P::new(self.context()).forward(interface, link)
    }

    #[inline(always)]
    fn way(&self, place: u32) -> Option<Kept> {
        WAYS_MAP.get_ptr_mut(place).map(Kept)
    }

    #[inline(always)]
    fn send_back(&self, interface: u32) {
        // What it says is what the program says next.
        // SAFETY: a helper that takes numbers only.
        unsafe { bpf_redirect(interface, 0) };
    }

    #[inline(always)]
    fn deliver(&self, interface: u32) -> bool {
        fib::deliver(interface)
    }

    #[inline(always)]
    fn port_cursor(&self, backend: u32, step: u64) -> u64 {
        match BACKEND_STATS.get_ptr_mut(backend) {
            // SAFETY: an aligned word of a value of the array.
            Some(stats) => unsafe { atomic::fetch_add(addr_of_mut!((*stats).port_cursor), step) },
            None => 0,
        }
    }
}
