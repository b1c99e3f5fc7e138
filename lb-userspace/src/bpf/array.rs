//! Arrays of records: those that user space shares memory with, and those with a record per CPU.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use lb_common::maps::MapKind;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::map::{MapError, Opened};
use super::pin::PinDir;
use super::sys;

/// An array that is mapped into memory: reading and writing it takes no system call.
///
/// Records are moved word by word, each word by one aligned access; a record of several words that programs change
/// meanwhile can be a mixture. What must be seen whole is one word: [`Array::load`] and [`Array::store`].
pub struct Array<T> {
    map: Opened,
    memory: Memory,
    types: PhantomData<fn() -> T>,
}

impl<T: Pod> Array<T> {
    /// Words from one record to the next: the kernel rounds records up to 8 bytes.
    const STRIDE: usize = size_of::<T>().div_ceil(8);

    /// Opens and maps the map `name` of `dir`.
    ///
    /// # Errors
    /// It is not pinned, of another shape, or cannot be mapped.
    pub fn open(dir: &PinDir, name: &str) -> Result<Self, MapError> {
        let map = Opened::open::<u32, T>(dir, name, &[MapKind::Array])?;
        let words = map.entries as usize * Self::STRIDE;
        let memory = Memory::map(&map, words).map_err(map.syscall("mmap"))?;
        Ok(Self { map, memory, types: PhantomData })
    }

    /// Number of records.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a BPF array is never empty")]
    pub fn len(&self) -> u32 {
        self.map.entries
    }

    /// The record at `index`; `None` beyond the end.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<T> {
        let mut record = T::zeroed();
        for (word, bytes) in self.record(index)?.iter().zip(bytemuck::bytes_of_mut(&mut record).chunks_mut(8))
        {
            let word = word.load(Ordering::Acquire).to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
        Some(record)
    }

    /// Writes the record at `index`.
    ///
    /// # Errors
    /// [`MapError::Index`] beyond the end.
    pub fn set(&self, index: u32, record: &T) -> Result<(), MapError> {
        let words = self.record(index).ok_or_else(|| self.beyond(index))?;
        for (word, bytes) in words.iter().zip(bytemuck::bytes_of(record).chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
        Ok(())
    }

    /// The word at `offset` bytes, a multiple of 8, of the record at `index`; `None` outside of the array.
    #[must_use]
    pub fn load(&self, index: u32, offset: usize) -> Option<u64> {
        Some(self.word(index, offset)?.load(Ordering::Acquire))
    }

    /// Publishes the word at `offset` bytes, a multiple of 8, of the record at `index`: whoever sees it also sees all
    /// that this thread wrote before.
    ///
    /// # Errors
    /// [`MapError::Index`] outside of the array.
    pub fn store(&self, index: u32, offset: usize, word: u64) -> Result<(), MapError> {
        let at = self.word(index, offset).ok_or_else(|| self.beyond(index))?;
        at.store(word, Ordering::Release);
        Ok(())
    }

    fn record(&self, index: u32) -> Option<&[AtomicU64]> {
        let start = index as usize * Self::STRIDE;
        self.memory.words().get(start..start + Self::STRIDE)
    }

    fn word(&self, index: u32, offset: usize) -> Option<&AtomicU64> {
        debug_assert_eq!(offset % 8, 0, "words are aligned");
        self.record(index)?.get(offset / 8)
    }

    fn beyond(&self, index: u32) -> MapError {
        MapError::Index { map: self.map.spec.name, index }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Array").field(&self.map.spec.name).finish()
    }
}

/// The memory of a map, shared with the kernel.
struct Memory {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory belongs to no thread, and all accesses are atomic.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn map(map: &Opened, words: usize) -> std::io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other.
        let start = unsafe { mmap(std::ptr::null_mut(), words * 8, access, MapFlags::SHARED, map.fd(), 0) }?;
        let start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(Self { start, words })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: page-aligned memory of so many words that stays mapped while `self` lives; others that write to it,
        // the programs included, use aligned word accesses, as all code here does.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped, and borrows of it have ended.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.words * 8) };
        debug_assert!(unmapped.is_ok(), "munmap of a whole mapping");
    }
}

/// A per-CPU array.
#[derive(Debug)]
pub struct PerCpuArray<T> {
    map: Opened,
    cpus: usize,
    types: PhantomData<fn() -> T>,
}

impl<T: Pod> PerCpuArray<T> {
    /// Opens the map `name` of `dir`.
    ///
    /// # Errors
    /// It is not pinned, or of another shape.
    pub fn open(dir: &PinDir, name: &str) -> Result<Self, MapError> {
        let map = Opened::open::<u32, T>(dir, name, &[MapKind::PerCpuArray])?;
        let cpus =
            aya::util::nr_cpus().map_err(|(_, source)| map.syscall("read of the possible CPUs")(source))?;
        Ok(Self { map, cpus, types: PhantomData })
    }

    /// Number of entries.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a BPF array is never empty")]
    pub fn len(&self) -> u32 {
        self.map.entries
    }

    /// What each possible CPU has at `index`.
    ///
    /// # Errors
    /// The kernel refused; it does so for an index beyond the end.
    pub fn get(&self, index: u32) -> Result<Vec<T>, MapError> {
        let stride = size_of::<T>().next_multiple_of(8);
        let mut bytes = vec![0u8; stride * self.cpus];
        sys::lookup(self.map.fd(), &index.to_ne_bytes(), &mut bytes)
            .map_err(self.map.syscall("BPF_MAP_LOOKUP_ELEM"))?;
        Ok(bytes
            .chunks_exact(stride)
            .filter_map(|cpu| cpu.get(..size_of::<T>()))
            .map(bytemuck::pod_read_unaligned)
            .collect())
    }
}
