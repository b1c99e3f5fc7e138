//! Where the operations of a plan are carried out.
//!
//! [`Tables`] has three implementations: [`Kernel`], the pinned maps; [`Fake`], the same tables in memory; [`Faulty`],
//! either of them with failures. Kernel and fake differ in their [`Storage`] alone: how an operation becomes keys,
//! values and words is one piece of code.

mod faulty;
mod kernel;
mod memory;
mod set;
mod storage;

use std::net::IpAddr;

pub use faulty::{Fault, Faulty};
pub use kernel::{Kernel, Pinned};
pub use memory::{Fake, Memory, MemoryArray, MemoryHash};
pub use set::{Half, TableSet};
pub use storage::{ArrayTable, HashTable, Storage};

use crate::bpf::map::MapError;
use crate::plan::{Op, Snapshot};

/// Why an operation or a reading failed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A map refused.
    #[error(transparent)]
    Map(#[from] MapError),
    /// An address that no table of its family can hold: IPv4 in the clothes of IPv6.
    #[error("{addr} cannot be programmed: write an IPv4 address as such, not as an IPv4-mapped IPv6 address")]
    Address {
        /// The address.
        addr: IpAddr,
    },
}

impl TableError {
    /// Whether a map had no room. Then nothing was written; after any other failure the operation may have been carried
    /// out all the same.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Map(MapError::Full { .. }))
    }
}

/// Blocks until every program that was running when it was called has ended. May take tens of milliseconds, or a second.
pub type Grace = Box<dyn FnOnce() + Send>;

/// The tables that a plan changes.
pub trait Tables {
    /// Carries out one operation. A second time it changes nothing but counters.
    ///
    /// # Errors
    /// See [`TableError::is_full`].
    fn apply(&mut self, op: &Op) -> Result<(), TableError>;

    /// Reads everything that a plan can change.
    ///
    /// # Errors
    /// A map could not be read.
    fn read(&self) -> Result<Snapshot, TableError>;

    /// A wait for a grace period that begins when the result is called; to be called where blocking does no harm.
    fn grace(&self) -> Grace;
}
