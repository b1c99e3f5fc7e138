//! The tables in memory, for tests.

use std::collections::HashMap;
use std::hash::Hash;

use bytemuck::Pod;
use lb_common::maps;

use super::Grace;
use super::set::{Half, TableSet};
use super::storage::{ArrayTable, HashTable, Storage};
use crate::bpf::map::MapError;
use crate::plan::Capacity;

/// Plain memory.
#[derive(Debug)]
pub enum Memory {}

/// The tables without a kernel.
pub type Fake = TableSet<Memory>;

impl Fake {
    /// Empty tables.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        let Capacity { services, backends, slots, frontends, addresses, ranges } = capacity;
        Self {
            meta: MemoryHash::new(maps::SERVICE_META, services),
            services: MemoryArray::new(maps::SERVICES_MAP, services),
            service_stats: MemoryArray::new(maps::SERVICE_STATS, services),
            backends: MemoryArray::new(maps::BACKENDS_MAP, backends),
            backend_stats: MemoryArray::new(maps::BACKEND_STATS, backends),
            marks: MemoryArray::new(maps::MARKED, maps::MARKS / 64),
            v4: Half {
                addresses: MemoryHash::new(maps::ADDRESSES4, addresses[0]),
                frontends: MemoryHash::new(maps::FRONTENDS4, frontends[0]),
                ranges: MemoryHash::new(maps::SOURCE_RANGES4, ranges[0]),
                slots: MemoryArray::new(maps::SLOTS4, slots[0]),
            },
            v6: Half {
                addresses: MemoryHash::new(maps::ADDRESSES6, addresses[1]),
                frontends: MemoryHash::new(maps::FRONTENDS6, frontends[1]),
                ranges: MemoryHash::new(maps::SOURCE_RANGES6, ranges[1]),
                slots: MemoryArray::new(maps::SLOTS6, slots[1]),
            },
        }
    }
}

impl Storage for Memory {
    type Hash<K: Pod + Eq + Hash, V: Pod> = MemoryHash<K, V>;
    type Array<T: Pod> = MemoryArray<T>;

    fn grace() -> Grace {
        Box::new(|| ())
    }
}

/// A hash in memory.
#[derive(Clone, Debug)]
pub struct MemoryHash<K, V> {
    map: &'static str,
    capacity: u32,
    /// What is in it.
    pub entries: HashMap<K, V>,
}

impl<K, V> MemoryHash<K, V> {
    fn new(map: &'static str, capacity: u32) -> Self {
        Self { map, capacity, entries: HashMap::new() }
    }
}

impl<K: Pod + Eq + Hash, V: Pod> HashTable<K, V> for MemoryHash<K, V> {
    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn insert(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        if self.entries.len() >= self.capacity as usize && !self.entries.contains_key(key) {
            return Err(MapError::Full { map: self.map });
        }
        self.entries.insert(*key, *value);
        Ok(())
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        self.entries.remove(key);
        Ok(())
    }

    fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        Ok(self.entries.iter().map(|(key, value)| (*key, *value)).collect())
    }
}

/// An array in memory.
#[derive(Clone, Debug)]
pub struct MemoryArray<T> {
    map: &'static str,
    /// What is in it.
    pub records: Vec<T>,
}

impl<T: Pod> MemoryArray<T> {
    fn new(map: &'static str, len: u32) -> Self {
        Self { map, records: vec![T::zeroed(); len as usize] }
    }

    fn at(&mut self, index: u32) -> Result<&mut T, MapError> {
        self.records.get_mut(index as usize).ok_or(MapError::Index { map: self.map, index })
    }
}

impl<T: Pod> ArrayTable<T> for MemoryArray<T> {
    fn records(&self) -> u32 {
        self.records.len().try_into().unwrap_or(u32::MAX)
    }

    fn get(&self, index: u32) -> Result<T, MapError> {
        Ok(self.records.get(index as usize).copied().unwrap_or_else(T::zeroed))
    }

    fn set(&mut self, index: u32, record: &T) -> Result<(), MapError> {
        *self.at(index)? = *record;
        Ok(())
    }

    fn store(&mut self, index: u32, offset: usize, word: u64) -> Result<(), MapError> {
        let map = self.map;
        let bytes = bytemuck::bytes_of_mut(self.at(index)?);
        let target = bytes.get_mut(offset..offset + 8).ok_or(MapError::Index { map, index })?;
        target.copy_from_slice(&word.to_ne_bytes());
        Ok(())
    }

    fn set_bits(&mut self, index: u32, bits: u64) -> Result<(), MapError> {
        let word =
            bytemuck::bytes_of(&self.get(index)?).first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        self.store(index, 0, word | bits)
    }
}
