//! Pinned maps as typed tables.
//!
//! A map is opened by its name in [`lb_common::maps::ALL`], and only if its kind, sizes and flags are the ones given
//! there: aya 0.14 would adopt whatever has the right name.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_map_info;
use bytemuck::{Pod, bytes_of, bytes_of_mut};
use lb_common::maps::{self, MapKind, MapSpec, Sizing};

use super::pin::PinDir;
use super::sys;

pub use super::array::{Array, PerCpuArray};

/// Entries read with one system call.
const BATCH: usize = 4096;

/// What can go wrong with a map.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Nothing is pinned there.
    #[error("no map is pinned at {path}: has an agent ever run with this --pin-dir?", path = .path.display())]
    NotPinned {
        /// Where it should be.
        path: PathBuf,
    },
    /// The pinned map is not the one that this build knows by that name.
    #[error(
        "the map pinned at {path} has {what} {found} where this build has {expected}: run `sluice cleanup` with its --pin-dir",
        path = .path.display()
    )]
    Shape {
        /// The pin.
        path: PathBuf,
        /// The property that differs.
        what: &'static str,
        /// What the map has.
        found: u32,
        /// What it should have.
        expected: u32,
    },
    /// No room for another entry.
    #[error("the map {map} is full: raise its size by the agent's flags, after `sluice cleanup`")]
    Full {
        /// Name of the map.
        map: &'static str,
    },
    /// [`Insert::New`] found the key taken.
    #[error("the map {map} has this key already")]
    Exists {
        /// Name of the map.
        map: &'static str,
    },
    /// An index beyond the end of an array.
    #[error("the map {map} has no index {index}")]
    Index {
        /// Name of the map.
        map: &'static str,
        /// The index.
        index: u32,
    },
    /// The kernel refused a call.
    #[error("{call} on the map {map}: {source}")]
    Syscall {
        /// Name of the call.
        call: &'static str,
        /// Name of the map.
        map: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// An opened map whose shape is that of its line in the table of maps.
#[derive(Debug)]
pub(super) struct Opened {
    fd: OwnedFd,
    pub(super) spec: &'static MapSpec,
    pub(super) entries: u32,
}

impl Opened {
    pub(super) fn open<K, V>(dir: &PinDir, name: &str, kinds: &[MapKind]) -> Result<Self, MapError> {
        let path = dir.map(name);
        let spec = maps::ALL.iter().find(|spec| spec.name == name);
        // A name that is not in the table, or another type than the table has: nothing of the kind was ever pinned.
        let fits = |spec: &&MapSpec| {
            kinds.contains(&spec.kind) && spec.key_size == size_of::<K>() && spec.value_size == size_of::<V>()
        };
        let Some(spec) = spec.filter(fits) else {
            return Err(MapError::NotPinned { path });
        };
        let Some(fd) = open_checked(&path, spec)? else {
            return Err(MapError::NotPinned { path });
        };
        let entries = entries(fd.as_fd(), spec)?;
        Ok(Self { fd, spec, entries })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn syscall(&self, call: &'static str) -> impl FnOnce(io::Error) -> MapError {
        let map = self.spec.name;
        move |source| MapError::Syscall { call, map, source }
    }
}

fn map_info(fd: BorrowedFd<'_>, spec: &'static MapSpec) -> Result<bpf_map_info, MapError> {
    sys::info(fd).map_err(|source| MapError::Syscall {
        call: "BPF_OBJ_GET_INFO_BY_FD",
        map: spec.name,
        source,
    })
}

/// The map pinned at `path` if there is one and it is shaped as `spec` says. Sizes that a flag may set are not compared.
///
/// # Errors
/// [`MapError::Shape`] names the first property that differs.
pub(super) fn open_checked(path: &Path, spec: &'static MapSpec) -> Result<Option<OwnedFd>, MapError> {
    let fd = match sys::obj_get(path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(MapError::Syscall { call: "BPF_OBJ_GET", map: spec.name, source });
        }
    };
    let info = map_info(fd.as_fd(), spec)?;
    let fixed = match spec.sizing {
        Sizing::Fixed => spec.entries,
        Sizing::Flows | Sizing::Services | Sizing::Backends => info.max_entries,
    };
    let properties = [
        ("kind", info.type_, spec.kind as u32),
        ("key size", info.key_size, spec.key_size as u32),
        ("value size", info.value_size, spec.value_size as u32),
        ("entries", info.max_entries, fixed),
        ("flags", info.map_flags, spec.flags),
    ];
    match properties.into_iter().find(|(_, found, expected)| found != expected) {
        None => Ok(Some(fd)),
        Some((what, found, expected)) => {
            Err(MapError::Shape { path: path.to_owned(), what, found, expected })
        }
    }
}

/// Entries that the map behind `fd` has room for.
pub(super) fn entries(fd: BorrowedFd<'_>, spec: &'static MapSpec) -> Result<u32, MapError> {
    map_info(fd, spec).map(|info| info.max_entries)
}

/// Whether [`Hash::insert`] may replace a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Insert {
    /// New or changed (`BPF_ANY`).
    Any,
    /// New only (`BPF_NOEXIST`), else [`MapError::Exists`].
    New,
}

/// A hash, an LRU hash, or a trie of prefixes, which [`Hash::get`] asks for the longest that fits.
#[derive(Debug)]
pub struct Hash<K, V> {
    map: Opened,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Pod, V: Pod> Hash<K, V> {
    /// Opens the map `name` of `dir`.
    ///
    /// # Errors
    /// It is not pinned, or of another shape.
    pub fn open(dir: &PinDir, name: &str) -> Result<Self, MapError> {
        Ok(Self {
            map: Opened::open::<K, V>(dir, name, &[MapKind::Hash, MapKind::LruHash, MapKind::LpmTrie])?,
            types: PhantomData,
        })
    }

    /// Entries that fit.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.map.entries
    }

    /// The value of `key`; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        let mut value = V::zeroed();
        match sys::lookup(self.map.fd(), bytes_of(key), bytes_of_mut(&mut value)) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.map.syscall("BPF_MAP_LOOKUP_ELEM")(error)),
        }
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// [`MapError::Full`] if there is no room, [`MapError::Exists`] if the key must be new and is not.
    pub fn insert(&self, key: &K, value: &V, insert: Insert) -> Result<(), MapError> {
        let flags = match insert {
            Insert::Any => 0,
            Insert::New => sys::NOEXIST,
        };
        let map = self.map.spec.name;
        sys::update(self.map.fd(), bytes_of(key), bytes_of(value), flags).map_err(|error| {
            match error.raw_os_error() {
                // A trie says ENOSPC.
                Some(libc::E2BIG | libc::ENOSPC) => MapError::Full { map },
                Some(libc::EEXIST) => MapError::Exists { map },
                _ => self.map.syscall("BPF_MAP_UPDATE_ELEM")(error),
            }
        })
    }

    /// Removes `key`; `false` if it was not there.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn delete(&self, key: &K) -> Result<bool, MapError> {
        match sys::delete(self.map.fd(), bytes_of(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.map.syscall("BPF_MAP_DELETE_ELEM")(error)),
        }
    }

    /// All entries, read in batches while the map lives on: one that comes or goes meanwhile may be missed, and words
    /// that programs write in place may be of different moments. Ends after the first error.
    #[must_use]
    pub fn entries(&self) -> Entries<'_, K, V> {
        Entries {
            map: &self.map,
            cursor: sys::Cursor::default(),
            keys: vec![K::zeroed(); BATCH],
            values: vec![V::zeroed(); BATCH],
            filled: 0,
            next: 0,
            last: false,
        }
    }
}

/// Walks over a hash; see [`Hash::entries`].
pub struct Entries<'a, K, V> {
    map: &'a Opened,
    cursor: sys::Cursor,
    keys: Vec<K>,
    values: Vec<V>,
    filled: usize,
    next: usize,
    last: bool,
}

impl<K: Pod, V: Pod> Entries<'_, K, V> {
    fn fill(&mut self) -> Result<(), MapError> {
        loop {
            match sys::lookup_batch(self.map.fd(), &mut self.cursor, &mut self.keys, &mut self.values) {
                Ok((filled, last)) => {
                    (self.filled, self.next, self.last) = (filled, 0, last);
                    return Ok(());
                }
                // One bucket holds more than the buffers.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    let len = self.keys.len() * 2;
                    self.keys.resize(len, K::zeroed());
                    self.values.resize(len, V::zeroed());
                }
                Err(error) => return Err(self.map.syscall("BPF_MAP_LOOKUP_BATCH")(error)),
            }
        }
    }
}

impl<K: Pod, V: Pod> Iterator for Entries<'_, K, V> {
    type Item = Result<(K, V), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next == self.filled {
            if self.last {
                return None;
            }
            if let Err(error) = self.fill() {
                self.last = true;
                return Some(Err(error));
            }
        }
        let entry = (self.keys.get(self.next)?, self.values.get(self.next)?);
        self.next += 1;
        Some(Ok((*entry.0, *entry.1)))
    }
}
