//! Arrays of records: those that user space shares memory with, and those with a record per CPU.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytemuck::Pod;
use lb_common::maps::MapKind;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::map::{MapError, Opened};
use super::pin::PinDir;
use super::sys;

/// Words from one window of an array to the next: of every page size a multiple.
const STEP: usize = (64 << 10) / 8;
/// Windows that are open at once.
const WINDOWS: usize = 16;

/// An array that is mapped into memory, in windows as they are needed: reading and writing takes no system call where
/// one is open. The whole would count as resident memory of this process, used or not, since the kernel fills in all
/// pages of a map as soon as it is mapped.
///
/// Records are moved word by word, each word by one aligned access; a record of several words that programs change
/// meanwhile can be a mixture. What must be seen whole is one word: [`Array::load`] and [`Array::store`].
pub struct Array<T> {
    map: Opened,
    /// By number, of those that are open.
    windows: Mutex<BTreeMap<usize, Window>>,
    types: PhantomData<fn() -> T>,
}

impl<T: Pod> Array<T> {
    /// Words from one record to the next: the kernel rounds records up to 8 bytes.
    const STRIDE: usize = size_of::<T>().div_ceil(8);

    /// Opens the map `name` of `dir`.
    ///
    /// # Errors
    /// It is not pinned, or of another shape.
    pub fn open(dir: &PinDir, name: &str) -> Result<Self, MapError> {
        let map = Opened::open::<u32, T>(dir, name, &[MapKind::Array])?;
        Ok(Self { map, windows: Mutex::default(), types: PhantomData })
    }

    /// Number of records.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a BPF array is never empty")]
    pub fn len(&self) -> u32 {
        self.map.entries
    }

    /// The record at `index`; beyond the end zero, as one that was never written.
    ///
    /// # Errors
    /// The kernel refused to map it.
    pub fn get(&self, index: u32) -> Result<T, MapError> {
        let mut record = T::zeroed();
        self.at(index, |words| {
            for (word, bytes) in words.iter().zip(bytemuck::bytes_of_mut(&mut record).chunks_mut(8)) {
                let word = word.load(Ordering::Acquire).to_ne_bytes();
                bytes.copy_from_slice(&word[..bytes.len()]);
            }
        })?;
        Ok(record)
    }

    /// Writes the record at `index`.
    ///
    /// # Errors
    /// [`MapError::Index`] beyond the end; the kernel refused to map it.
    pub fn set(&self, index: u32, record: &T) -> Result<(), MapError> {
        let written = self.at(index, |words| {
            for (word, bytes) in words.iter().zip(bytemuck::bytes_of(record).chunks(8)) {
                let mut padded = [0; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
            }
        })?;
        written.ok_or_else(|| self.beyond(index))
    }

    /// The word at `offset` bytes, a multiple of 8, of the record at `index`; zero outside of the array.
    ///
    /// # Errors
    /// The kernel refused to map it.
    pub fn load(&self, index: u32, offset: usize) -> Result<u64, MapError> {
        let word = self.at(index, |words| word(words, offset).map(|word| word.load(Ordering::Acquire)))?;
        Ok(word.flatten().unwrap_or_default())
    }

    /// Publishes the word at `offset` bytes, a multiple of 8, of the record at `index`: whoever sees it also sees all
    /// that this thread wrote before.
    ///
    /// # Errors
    /// [`MapError::Index`] outside of the array; the kernel refused to map it.
    pub fn store(&self, index: u32, offset: usize, value: u64) -> Result<(), MapError> {
        let stored =
            self.at(index, |words| word(words, offset).map(|word| word.store(value, Ordering::Release)))?;
        stored.flatten().ok_or_else(|| self.beyond(index))
    }

    /// Sets bits in the first word of the record at `index`, whoever else sets others.
    ///
    /// # Errors
    /// [`MapError::Index`] beyond the end; the kernel refused to map it.
    pub fn set_bits(&self, index: u32, bits: u64) -> Result<(), MapError> {
        let set = self.at(index, |words| words.first().map(|word| word.fetch_or(bits, Ordering::Release)))?;
        set.flatten().map(|_| ()).ok_or_else(|| self.beyond(index))
    }

    /// What `access` makes of the words of the record at `index`; `None` beyond the end.
    fn at<R>(&self, index: u32, access: impl FnOnce(&[AtomicU64]) -> R) -> Result<Option<R>, MapError> {
        if index >= self.map.entries {
            return Ok(None);
        }
        let (first, all) = (index as usize * Self::STRIDE, self.map.entries as usize * Self::STRIDE);
        let number = first / STEP;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() == WINDOWS && !windows.contains_key(&number) {
            windows.clear();
        }
        let window = match windows.entry(number) {
            Entry::Occupied(open) => open.into_mut(),
            // The last record that begins in a window may end behind it.
            Entry::Vacant(closed) => {
                let shown = number * STEP..all.min((number + 1) * STEP + Self::STRIDE);
                closed.insert(Window::map(&self.map, shown).map_err(self.map.syscall("mmap"))?)
            }
        };
        Ok(window.words(first - number * STEP, Self::STRIDE).map(access))
    }

    fn beyond(&self, index: u32) -> MapError {
        MapError::Index { map: self.map.spec.name, index }
    }
}

fn word(record: &[AtomicU64], offset: usize) -> Option<&AtomicU64> {
    debug_assert_eq!(offset % 8, 0, "words are aligned");
    record.get(offset / 8)
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Array").field(&self.map.spec.name).finish()
    }
}

/// A part of a map's memory, shared with the kernel.
struct Window {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory belongs to no thread, and all accesses are atomic.
unsafe impl Send for Window {}

impl Window {
    /// Maps the words `shown`, which begin at a page.
    fn map(map: &Opened, shown: Range<usize>) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let (len, offset) = (shown.len() * 8, shown.start as u64 * 8);
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other.
        let start = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, map.fd(), offset) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, words: shown.len() })
    }

    /// So many words from the one at `first` on.
    fn words(&self, first: usize, count: usize) -> Option<&[AtomicU64]> {
        // SAFETY: page-aligned memory of so many words that stays mapped while `self` lives; others that write to it,
        // the programs included, use aligned word accesses, as all code here does.
        let all = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) };
        all.get(first..first + count)
    }
}

impl Drop for Window {
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
