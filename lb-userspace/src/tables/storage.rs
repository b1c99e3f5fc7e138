//! What tables are made of: hashes and arrays.

use std::hash::Hash;

use bytemuck::Pod;

use super::Grace;
use crate::bpf::map::MapError;

/// A hash of plain old data.
pub trait HashTable<K, V> {
    /// Entries that fit.
    fn capacity(&self) -> u32;

    /// Inserts or replaces an entry. A concurrent reader finds the old value or the new one.
    ///
    /// # Errors
    /// [`MapError::Full`], or the kernel refused.
    fn insert(&mut self, key: &K, value: &V) -> Result<(), MapError>;

    /// Removes an entry, if it is there.
    ///
    /// # Errors
    /// The kernel refused.
    fn delete(&mut self, key: &K) -> Result<(), MapError>;

    /// All entries, in no order.
    ///
    /// # Errors
    /// The kernel refused.
    fn entries(&self) -> Result<Vec<(K, V)>, MapError>;
}

/// An array of plain old data that programs read while it is written.
pub trait ArrayTable<T> {
    /// Number of records.
    fn records(&self) -> u32;

    /// The record at `index`; zero beyond the end.
    ///
    /// # Errors
    /// It could not be read.
    fn get(&self, index: u32) -> Result<T, MapError>;

    /// Writes a record, each 8-byte word of it with one store.
    ///
    /// # Errors
    /// [`MapError::Index`] beyond the end.
    fn set(&mut self, index: u32, record: &T) -> Result<(), MapError>;

    /// Writes one word, `offset` bytes into a record: whoever sees it also sees everything written before.
    ///
    /// # Errors
    /// [`MapError::Index`] beyond the end.
    fn store(&mut self, index: u32, offset: usize, word: u64) -> Result<(), MapError>;

    /// Sets bits in the first word of a record, whose other bits programs set meanwhile.
    ///
    /// # Errors
    /// [`MapError::Index`] beyond the end.
    fn set_bits(&mut self, index: u32, bits: u64) -> Result<(), MapError>;
}

/// A kind of hashes and arrays.
pub trait Storage {
    /// Its hashes.
    type Hash<K: Pod + Eq + Hash, V: Pod>: HashTable<K, V>;
    /// Its arrays.
    type Array<T: Pod>: ArrayTable<T>;

    /// A wait for all readers that run now; see [`super::Tables::grace`].
    fn grace() -> Grace;
}
