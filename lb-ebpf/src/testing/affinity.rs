//! The memory of clients' backends in shared memory, with the hazards of the kernel's LRU hash: a fixed number of
//! elements, each recycled for another client the moment it is evicted.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lb_common::{AffinityKey, AffinityWord};

use super::schedule::Schedule;
use crate::env::{AffinityRef, Inserted};

/// Clients and their elements, those that were made first in front.
type Index = VecDeque<(AffinityKey, usize)>;

/// The map `affinity`.
#[derive(Debug)]
pub struct Affinity {
    elements: Box<[AtomicU64]>,
    index: Mutex<Index>,
    schedule: Schedule,
}

impl Affinity {
    /// Memory of so many clients.
    #[must_use]
    pub fn new(capacity: usize, schedule: Schedule) -> Self {
        let elements = (0..capacity).map(|_| AtomicU64::new(0)).collect();
        Self { elements, index: Mutex::default(), schedule }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, element: usize) -> Remembered<'_> {
        Remembered { word: &self.elements[element], schedule: &self.schedule }
    }

    /// What is remembered of a client, in place.
    pub fn get(&self, key: &AffinityKey) -> Option<Remembered<'_>> {
        self.schedule.access();
        let index = self.index();
        let (_, element) = index.iter().find(|(other, _)| other == key)?;
        Some(self.at(*element))
    }

    /// Remembers a client of whom nothing is remembered; the one who came first is forgotten where there is no room.
    pub fn insert(&self, key: &AffinityKey, word: AffinityWord) -> Inserted {
        self.schedule.access();
        let mut index = self.index();
        if index.iter().any(|(other, _)| other == key) {
            return Inserted::Exists;
        }
        let used = index.len();
        let element = if used < self.elements.len() {
            used
        } else {
            let Some((_, evicted)) = index.pop_front() else { return Inserted::Full };
            evicted
        };
        self.elements[element].store(word.0, SeqCst);
        index.push_back((*key, element));
        Inserted::Done
    }

    /// All that is remembered.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<AffinityKey, AffinityWord> {
        let word = |element: &usize| AffinityWord(self.elements[*element].load(SeqCst));
        self.index().iter().map(|(key, element)| (*key, word(element))).collect()
    }
}

/// A client's memory in place.
#[derive(Clone, Copy, Debug)]
pub struct Remembered<'t> {
    word: &'t AtomicU64,
    schedule: &'t Schedule,
}

impl AffinityRef for Remembered<'_> {
    fn load(self) -> AffinityWord {
        self.schedule.access();
        AffinityWord(self.word.load(SeqCst))
    }

    fn exchange(self, old: AffinityWord, new: AffinityWord) -> bool {
        self.schedule.access();
        self.word.compare_exchange(old.0, new.0, SeqCst, SeqCst).is_ok()
    }
}
