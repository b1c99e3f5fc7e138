//! A flow table in shared memory with the hazards of the kernel's preallocated hash: a fixed number of elements, each
//! recycled the moment it is freed, values copied word by word while readers look on.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::boxed::Box;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use bytemuck::Pod;
use lb_common::{Addr4, Addr6, Address, FlowKey, FlowValue, FlowWord};

use super::schedule::Schedule;
use crate::env::{FlowRef, Inserted, Traffic};

/// Words of the larger value, IPv6's.
const VALUE_WORDS: usize = 11;
/// Words of the larger key, IPv6's.
const KEY_WORDS: usize = 5;
/// Index of `seen`, `packets` and `bytes` among the words of a value.
const SEEN: usize = 1;
const PACKETS: usize = 2;
const BYTES: usize = 3;

/// One element: memory that belongs to one key after another.
#[derive(Debug, Default)]
struct Element {
    key: [AtomicU64; KEY_WORDS],
    value: [AtomicU64; VALUE_WORDS],
}

/// Keys and values as the words they consist of; IPv4's leave the last ones unused.
pub trait Words: Address {
    /// Index of the last word of a value: the one with the check.
    const LAST: usize = size_of::<FlowValue<Self>>() / 8 - 1;
    /// A key's words.
    fn key_words(key: &FlowKey<Self>) -> [u64; KEY_WORDS];
    /// The key of these words.
    fn key(words: [u64; KEY_WORDS]) -> FlowKey<Self>;
    /// A value's words.
    fn value_words(value: &FlowValue<Self>) -> [u64; VALUE_WORDS];
    /// The value of these words.
    fn value(words: [u64; VALUE_WORDS]) -> FlowValue<Self>;
}

macro_rules! words {
    ($($addr:ty),+) => { $(
        impl Words for $addr {
            fn key_words(key: &FlowKey<Self>) -> [u64; KEY_WORDS] {
                to_words(key)
            }

            fn key(words: [u64; KEY_WORDS]) -> FlowKey<Self> {
                from_words(words)
            }

            fn value_words(value: &FlowValue<Self>) -> [u64; VALUE_WORDS] {
                to_words(value)
            }

            fn value(words: [u64; VALUE_WORDS]) -> FlowValue<Self> {
                from_words(words)
            }
        }
    )+ };
}

words!(Addr4, Addr6);

fn to_words<T: Pod, const N: usize>(value: &T) -> [u64; N] {
    let mut words = [0; N];
    bytemuck::cast_slice_mut(&mut words)[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(value));
    words
}

fn from_words<T: Pod, const N: usize>(words: [u64; N]) -> T {
    bytemuck::pod_read_unaligned(&bytemuck::cast_slice(&words)[..size_of::<T>()])
}

fn fill<const N: usize>(cells: &[AtomicU64; N], words: [u64; N], schedule: &Schedule) {
    for (cell, word) in cells.iter().zip(words) {
        schedule.access();
        cell.store(word, SeqCst);
    }
}

fn copy<const N: usize>(cells: &[AtomicU64; N], schedule: &Schedule) -> [u64; N] {
    cells.each_ref().map(|cell| {
        schedule.access();
        cell.load(SeqCst)
    })
}

/// Where a key's entry is.
#[derive(Clone, Copy, Debug)]
struct Place {
    element: usize,
    /// False while the inserter, who holds the bucket's lock, fills the element: lookups do not see it yet.
    linked: bool,
    /// When it was last looked up, in lookups.
    used: u64,
}

#[derive(Debug)]
struct Index<A: Address> {
    places: HashMap<FlowKey<A>, Place>,
    free: Vec<usize>,
    lookups: u64,
}

/// A flow table of one family.
#[derive(Debug)]
pub struct Table<A: Address> {
    elements: Box<[Element]>,
    index: Mutex<Index<A>>,
    evicts: bool,
    schedule: Schedule,
}

impl<A: Words> Table<A> {
    /// A table of `capacity` entries that makes room for a new one by evicting the least recently used, or not.
    #[must_use]
    pub fn new(capacity: usize, evicts: bool, schedule: Schedule) -> Self {
        Self {
            elements: (0..capacity).map(|_| Element::default()).collect(),
            index: Mutex::new(Index { places: HashMap::new(), free: (0..capacity).collect(), lookups: 0 }),
            evicts,
            schedule,
        }
    }

    fn index(&self) -> MutexGuard<'_, Index<A>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of `key`, in place.
    pub fn get(&self, key: &FlowKey<A>) -> Option<Flow<'_, A>> {
        self.schedule.access();
        let mut index = self.index();
        index.lookups += 1;
        let lookups = index.lookups;
        let place = index.places.get_mut(key).filter(|place| place.linked)?;
        place.used = lookups;
        Some(self.flow(place.element))
    }

    fn flow(&self, element: usize) -> Flow<'_, A> {
        Flow { element: &self.elements[element], schedule: &self.schedule, family: PhantomData }
    }

    /// Inserts an entry unless there is one of this key.
    pub fn insert(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> Inserted {
        let element = loop {
            self.schedule.access();
            let mut index = self.index();
            match index.places.get(key).map(|place| place.linked) {
                Some(true) => return Inserted::Exists,
                Some(false) => {
                    drop(index);
                    self.schedule.wait();
                    continue;
                }
                None => {}
            }
            let Some(element) = index.free.pop().or_else(|| self.evict(&mut index)) else {
                return Inserted::Full;
            };
            let used = index.lookups;
            let place = Place { element, linked: false, used };
            index.places.insert(*key, place);
            break element;
        };
        fill(&self.elements[element].key, A::key_words(key), &self.schedule);
        fill(&self.elements[element].value, A::value_words(value), &self.schedule);
        if let Some(place) = self.index().places.get_mut(key) {
            place.linked = true;
        }
        Inserted::Done
    }

    fn evict(&self, index: &mut Index<A>) -> Option<usize> {
        let linked = index.places.iter().filter(|(_, place)| self.evicts && place.linked);
        let (key, place) = linked.min_by_key(|(_, place)| place.used).map(|(key, place)| (*key, *place))?;
        index.places.remove(&key);
        Some(place.element)
    }

    /// Removes the entry of `key`; its element is the next to be recycled.
    pub fn delete(&self, key: &FlowKey<A>) {
        loop {
            self.schedule.access();
            let mut index = self.index();
            match index.places.get(key).copied() {
                Some(place) if place.linked => {
                    index.places.remove(key);
                    index.free.push(place.element);
                    return;
                }
                Some(_) => {
                    drop(index);
                    self.schedule.wait();
                }
                None => return,
            }
        }
    }

    /// Calls `visit` for each element in use, as `bpf_for_each_map_elem` does: with key and value in place, while others
    /// go on using the table.
    pub fn for_each<'t>(&'t self, mut visit: impl FnMut(FlowKey<A>, Flow<'t, A>)) {
        for element in 0..self.elements.len() {
            self.schedule.access();
            let used = (self.index().places.values()).any(|place| place.linked && place.element == element);
            if used {
                let key = A::key(copy(&self.elements[element].key, &self.schedule));
                visit(key, self.flow(element));
            }
        }
    }

    /// All entries.
    #[must_use]
    pub fn entries(&self) -> HashMap<FlowKey<A>, FlowValue<A>> {
        let value = |place: &Place| A::value(copy(&self.elements[place.element].value, &Schedule::default()));
        let index = self.index();
        index.places.iter().map(|(key, place)| (*key, value(place))).collect()
    }
}

/// An entry in place: its element may have been recycled for another key.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'t, A> {
    element: &'t Element,
    schedule: &'t Schedule,
    family: PhantomData<A>,
}

impl<A: Words> FlowRef<A> for Flow<'_, A> {
    fn read(self, value: &mut FlowValue<A>) -> bool {
        let (first, last) = (&self.element.value[0], &self.element.value[A::LAST]);
        let load = |cell: &AtomicU64| {
            self.schedule.access();
            cell.load(SeqCst)
        };
        let before = (load(first), load(last));
        *value = A::value(copy(&self.element.value, self.schedule));
        let after = (load(first), load(last));
        value.word = after.0;
        (FlowWord(before.0).id(), before.1) == (FlowWord(after.0).id(), after.1)
    }

    fn peek(self) -> (FlowWord, u64) {
        let [word, seen, ..] = &self.element.value;
        self.schedule.access();
        let word = FlowWord(word.load(SeqCst));
        self.schedule.access();
        (word, seen.load(SeqCst))
    }

    fn traffic(self) -> Traffic {
        let [_, _, packets, bytes, ..] = &self.element.value;
        self.schedule.access();
        let packets = packets.load(SeqCst);
        self.schedule.access();
        Traffic { packets, bytes: bytes.load(SeqCst) }
    }

    fn exchange(self, old: FlowWord, new: FlowWord) -> bool {
        self.schedule.access();
        let [word, ..] = &self.element.value;
        word.compare_exchange(old.0, new.0, SeqCst, SeqCst).is_ok()
    }

    fn touch(self, now: u64, bytes: u64) {
        let value = &self.element.value;
        self.schedule.access();
        value[SEEN].store(now, SeqCst);
        self.schedule.access();
        value[PACKETS].fetch_add(1, SeqCst);
        self.schedule.access();
        value[BYTES].fetch_add(bytes, SeqCst);
    }
}
