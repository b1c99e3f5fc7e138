//! The tables in the kernel: pinned maps.

use std::hash::Hash as StdHash;
use std::thread;
use std::time::Duration;

use bytemuck::Pod;
use lb_common::maps;

use super::Grace;
use super::set::{Half, TableSet};
use super::storage::{ArrayTable, HashTable, Storage};
use crate::bpf::map::{Array, Hash, Insert, MapError};
use crate::bpf::pin::PinDir;

/// Pinned maps.
#[derive(Debug)]
pub enum Pinned {}

/// The tables that the programs read.
pub type Kernel = TableSet<Pinned>;

/// Longer than a program can run, by far: what is waited where the kernel offers no grace period.
const LONG: Duration = Duration::from_secs(1);

impl Kernel {
    /// Opens the maps pinned in `dir`.
    ///
    /// # Errors
    /// One of them is not pinned, or of another shape than this build knows.
    pub fn open(dir: &PinDir) -> Result<Self, MapError> {
        Ok(Self {
            meta: Hash::open(dir, maps::SERVICE_META)?,
            services: Array::open(dir, maps::SERVICES_MAP)?,
            service_stats: Array::open(dir, maps::SERVICE_STATS)?,
            backends: Array::open(dir, maps::BACKENDS_MAP)?,
            backend_stats: Array::open(dir, maps::BACKEND_STATS)?,
            marks: Array::open(dir, maps::MARKED)?,
            v4: Half {
                addresses: Hash::open(dir, maps::ADDRESSES4)?,
                frontends: Hash::open(dir, maps::FRONTENDS4)?,
                ranges: Hash::open(dir, maps::SOURCE_RANGES4)?,
                slots: Array::open(dir, maps::SLOTS4)?,
            },
            v6: Half {
                addresses: Hash::open(dir, maps::ADDRESSES6)?,
                frontends: Hash::open(dir, maps::FRONTENDS6)?,
                ranges: Hash::open(dir, maps::SOURCE_RANGES6)?,
                slots: Array::open(dir, maps::SLOTS6)?,
            },
        })
    }
}

impl Storage for Pinned {
    type Hash<K: Pod + Eq + StdHash, V: Pod> = Hash<K, V>;
    type Array<T: Pod> = Array<T>;

    fn grace() -> Grace {
        Box::new(|| {
            // On one CPU the kernel returns at once, although a program may have been preempted half-way.
            let one_cpu = thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
            if one_cpu || !membarrier() {
                thread::sleep(LONG);
            }
        })
    }
}

/// Waits for an RCU grace period, which no program outlives. False where the kernel has no such call to offer: one built
/// without it, one that runs with `nohz_full`, or a seccomp filter.
fn membarrier() -> bool {
    // SAFETY: takes three integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    result == 0
}

impl<K: Pod, V: Pod> HashTable<K, V> for Hash<K, V> {
    fn capacity(&self) -> u32 {
        self.capacity()
    }

    fn insert(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        Self::insert(self, key, value, Insert::Any)
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        Self::delete(self, key).map(|_| ())
    }

    fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        self.entries().collect()
    }
}

impl<T: Pod> ArrayTable<T> for Array<T> {
    fn records(&self) -> u32 {
        self.len()
    }

    fn get(&self, index: u32) -> Result<T, MapError> {
        self.get(index)
    }

    fn set(&mut self, index: u32, record: &T) -> Result<(), MapError> {
        Self::set(self, index, record)
    }

    fn store(&mut self, index: u32, offset: usize, word: u64) -> Result<(), MapError> {
        Self::store(self, index, offset, word)
    }

    fn set_bits(&mut self, index: u32, bits: u64) -> Result<(), MapError> {
        Self::set_bits(self, index, bits)
    }
}
