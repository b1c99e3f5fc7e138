//! Tables, clock, counters and routes.

use core::ops::DerefMut;

use lb_common::{
    Address, AddressValue, AffinityKey, AffinityWord, BackendWord, Config, CpuRecord, EventRecord, FlowKey,
    FlowValue, FlowWord, FragmentKey, FragmentValue, FrontendKey, FrontendValue, InterfaceValue, Port,
    Reason, Scratch, Slot, Span, WayRecord,
};

use crate::route::{Ask, Route};

/// Which sockets of the host are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sockets {
    /// Those that are connected, or connect, to who has sent the packet. One that listens is not.
    Connected,
    /// Of UDP those as well that take datagrams of anybody.
    Receiving,
}

/// The two flow tables of a family. They are one name space: a key is in one of them at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowTable {
    /// The table that never evicts.
    Main = 0,
    /// The small table beside it whose entries may be evicted.
    Lru = 1,
}

impl FlowTable {
    /// The one with this number.
    #[must_use]
    #[inline(always)]
    pub const fn of(number: u8) -> Self {
        if number == Self::Main as u8 { Self::Main } else { Self::Lru }
    }

    /// The other one.
    #[must_use]
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Main => Self::Lru,
            Self::Lru => Self::Main,
        }
    }
}

/// What [`Note::LruUsed`] says beside zero.
pub mod note {
    /// The table may hold entries.
    pub const USED: u64 = 1;
    /// The same, unless the sweep that is walking it finds none.
    pub const ASKED: u64 = 2;
}

/// A word of the state that the programs share about the flow tables of one family; see [`lb_common::StateRecord`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// Whether the LRU table may hold entries.
    LruUsed,
    /// Whether the main table had no room.
    Full,
    /// When the last sweep began.
    Swept,
    /// Pairs made in the main table.
    Begun,
    /// Pairs of the main table that have ceased to be embryonic.
    Settled,
}

/// Outcome of an insertion that must not replace anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// The entry is there.
    Done,
    /// An entry of this key was there already (`EEXIST`).
    Exists,
    /// No room (`E2BIG`; of an LRU table `ENOMEM`).
    Full,
    /// Anything else; says nothing about the key.
    Failed,
}

/// Packets that used a flow table entry, and their bytes from the network header on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A flow table entry in place. The element may be recycled for another key at any moment, so a reader copies it out
/// and lets `flow::lookup` judge the copy.
pub trait FlowRef<A: Address>: Copy {
    /// Copies the entry to `value`: word and check first, then the rest, then word and check once more. False if they
    /// name different pairs. The kernel refills an element from its first byte to its last, or the other way round:
    /// only who saw both ends of the new entry before can take what is in between for it.
    fn read(self, value: &mut FlowValue<A>) -> bool;
    /// The entry's word and when it was last seen.
    fn peek(self) -> (FlowWord, u64);
    /// Compare-and-exchange of the entry's word; true if it was `old` and is now `new`.
    fn exchange(self, old: FlowWord, new: FlowWord) -> bool;
    /// Notes a packet of `bytes` at `now`: writes last seen, adds to the two counters.
    fn touch(self, now: u64, bytes: u64);
    /// The two counters.
    fn traffic(self) -> Traffic;
}

/// A backend in place. While a flag of its word is set the rest holds still, and for as long as a program runs that has
/// seen one.
pub trait BackendRef: Copy {
    /// Generation and flags.
    fn word(self) -> BackendWord;
    /// Id of the Service port that it belongs to.
    fn service(self) -> u32;
    /// Its address, of the family of that Service port.
    fn addr<A: Address>(self) -> A;
    /// Its port.
    fn port(self) -> Port;
}

/// A client's memory in place. It may be evicted at any moment, and its element recycled for another client.
pub trait AffinityRef: Copy {
    /// The memory.
    fn load(self) -> AffinityWord;
    /// Compare-and-exchange; true if it was `old` and is now `new`.
    fn exchange(self, old: AffinityWord, new: AffinityWord) -> bool;
}

/// A Service port in place; each method is one aligned load, or one atomic operation.
pub trait ServiceRef: Copy {
    /// Endpoints usable from anywhere.
    fn cluster(self) -> Span;
    /// Endpoints on this node.
    fn local(self) -> Span;
    /// [`lb_common::service_flags`].
    fn flags(self) -> u64;
    /// The round-robin cursor, which then moves on by one.
    fn advance(self) -> u64;
    /// What is spent of the rate of new flows, see [`CpuRecord`].
    fn spent(self) -> u64;
    /// Compare-and-exchange of it; true if it was `old` and is now `new`.
    fn spend(self, old: u64, new: u64) -> bool;
}

/// Tables, clock and counters, as one family of addresses sees them.
///
/// Hash accesses, which have a budget per path: `flow`, `insert_flow`, `delete_flow`, `address`,
/// `frontend`, `admits`, `interface`, the two of affinity and the three of fragments. Everything else is an array access or
/// cheaper.
pub trait Tables<A: Address> {
    /// A flow table entry in place.
    type Flow: FlowRef<A>;
    /// A Service port in place.
    type Service: ServiceRef;
    /// A backend in place.
    type Backend: BackendRef;
    /// A client's memory in place.
    type Affinity: AffinityRef;
    /// Memory for one packet.
    type Scratch: DerefMut<Target = Scratch<A>>;
    /// A way that this CPU keeps.
    type Way: DerefMut<Target = WayRecord>;
    /// A record of an event that nobody else sees yet, with what the one before it left there.
    type Event: DerefMut<Target = EventRecord>;

    /// `CLOCK_MONOTONIC_COARSE`, nanoseconds.
    fn now(&self) -> u64;
    /// Number of this CPU.
    fn cpu(&self) -> u16;
    /// Runs `f` on this CPU's record; `None` if there is none.
    fn with_cpu<R>(&self, f: impl FnOnce(&mut CpuRecord) -> R) -> Option<R>;
    /// This CPU's memory for a packet; `None` if there is none. Taken once per packet.
    fn scratch(&self) -> Option<Self::Scratch>;
    /// The settings.
    fn config(&self) -> Option<&Config>;
    /// Adds one to the counter of `reason`.
    fn count(&self, reason: Reason);
    /// Takes the place of the next record of an event; `None` if another CPU is writing there.
    fn next_event(&self) -> Option<Self::Event>;
    /// Makes a record whole and seen.
    fn publish_event(&self, event: Self::Event);

    /// The entry of `key` in `table`.
    fn flow(&self, table: FlowTable, key: &FlowKey<A>) -> Option<Self::Flow>;
    /// Inserts an entry, never replacing one (`BPF_NOEXIST`).
    fn insert_flow(&self, table: FlowTable, key: &FlowKey<A>, value: &FlowValue<A>) -> Inserted;
    /// Removes the entry of `key`, whoever made it: only the holder of the pair's lock may call this, or who has just
    /// inserted it and must give way.
    fn delete_flow(&self, table: FlowTable, key: &FlowKey<A>);
    /// A word of what the programs share.
    fn note(&self, note: Note) -> u64;
    /// Replaces it.
    fn set_note(&self, note: Note, value: u64);
    /// Compare-and-exchange of it; true if it was `old` and is now `new`.
    fn exchange_note(&self, note: Note, old: u64, new: u64) -> bool;
    /// Adds to it, which wraps.
    fn add_note(&self, note: Note, value: u64);
    /// Whether the LRU table may hold entries.
    #[inline(always)]
    fn lru_used(&self) -> bool {
        self.note(Note::LruUsed) != 0
    }

    /// What the first fragment with this key has left.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue>;
    /// Notes a first fragment.
    fn remember_fragment(&self, key: &FragmentKey, value: &FragmentValue);
    /// Forgets the first fragment with this key.
    fn forget_fragment(&self, key: &FragmentKey);

    /// Whether the bit of [`Address::mark`] is set.
    fn is_marked(&self, addr: &A) -> bool;
    /// Sets it.
    fn mark(&self, addr: &A);
    /// What `addr` is to the node, if anything.
    fn address(&self, addr: &A) -> Option<AddressValue>;
    /// The Service port behind an address, port and protocol.
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue>;
    /// Whether `client` is in a source range of the Service port `service`.
    fn admits(&self, service: u32, client: &A) -> bool;
    /// The Service port with this id.
    fn service(&self, id: u32) -> Option<Self::Service>;
    /// Slot number `index`.
    fn slot(&self, index: u32) -> Option<Slot<A>>;
    /// Generation and flags of a backend; zero for an id out of range.
    fn backend(&self, id: u32) -> BackendWord;
    /// The backend with this id.
    fn backend_record(&self, id: u32) -> Option<Self::Backend>;
    /// What is remembered of a client.
    fn affinity(&self, key: &AffinityKey) -> Option<Self::Affinity>;
    /// Remembers a client of whom nothing is remembered (`BPF_NOEXIST`). Evicts another one where there is no room.
    fn insert_affinity(&self, key: &AffinityKey, word: AffinityWord) -> Inserted;
    /// Counts a connection opened to `backend` of `service`.
    fn opened(&self, service: u32, backend: u32);
    /// Adds the traffic of a pair that ends to the counters of `service` and `backend`: `inward` went to the backend,
    /// `outward` came from it.
    fn ended(&self, service: u32, backend: u32, inward: Traffic, outward: Traffic);
    /// Whether the host has one of these `sockets`, of TCP or UDP, at the destination of a packet of `key`.
    fn has_socket(&self, key: &FlowKey<A>, sockets: Sockets) -> bool;
    /// What is known of an interface; unset if nothing is.
    fn interface(&self, index: u32) -> InterfaceValue;
    /// The route of a packet of `key` that is to go to `to` instead.
    fn route(&self, key: &FlowKey<A>, to: &A, ask: Ask) -> Route<A>;
    /// Notes that [`Verdict::Route`] sends the packet out by `route`; in tc the next hop is then resolved if need be, before
    /// the host stack the frame has its addresses after this, and must not go up any more. False if the kernel refuses.
    fn send(&self, route: &Route<A>) -> bool;
    /// Notes that [`Verdict::Route`] sends the packet out by `interface` in a frame with these addresses, destination and
    /// source, which it has after this. Nobody is asked whether they still hold. False if the kernel refuses.
    fn forward(&self, interface: u32, link: [u32; 3]) -> bool;
    /// What this CPU keeps at `place` of its ways; `None` if there is no such place.
    fn way(&self, place: u32) -> Option<Self::Way>;
    /// Notes that [`Verdict::Route`] sends the packet out by the interface that it came by.
    fn send_back(&self, interface: u32);
    /// Notes that [`Verdict::Route`] hands the packet to the other end of the pair that this interface is one end of, as if it
    /// came in there. False if the kernel refuses.
    fn deliver(&self, interface: u32) -> bool;
    /// Where the search for a free source port towards `backend` goes on; moves on by `step`.
    fn port_cursor(&self, backend: u32, step: u64) -> u64;
}
