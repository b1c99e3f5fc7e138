//! Tables that fail, for tests.

use std::cell::Cell;
use std::io;

use super::{Grace, TableError, Tables};
use crate::bpf::map::MapError;
use crate::plan::{Op, Snapshot};

/// When a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Never.
    Never,
    /// From call number `.0` on, counted from 0: the agent was killed there.
    From(u64),
    /// Call number `call` alone.
    Once {
        /// Which one, counted from 0.
        call: u64,
        /// Whether the operation was carried out although it failed.
        applied: bool,
    },
    /// So many calls in a thousand; half of the operations that fail are carried out.
    Random {
        /// Start of the sequence; the same seed gives the same failures.
        seed: u64,
        /// How many in a thousand.
        per_mille: u64,
    },
}

/// Tables of which some calls fail.
#[derive(Debug)]
pub struct Faulty<T> {
    /// The tables behind.
    pub inner: T,
    /// When calls fail.
    pub fault: Fault,
    calls: Cell<u64>,
}

/// What becomes of one call.
enum Fate {
    Succeeds,
    Fails { applied: bool },
}

impl<T> Faulty<T> {
    /// `inner`, failing by `fault`.
    pub const fn new(inner: T, fault: Fault) -> Self {
        Self { inner, fault, calls: Cell::new(0) }
    }

    /// How many calls there have been.
    pub const fn calls(&self) -> u64 {
        self.calls.get()
    }

    fn fate(&self) -> Fate {
        let call = self.calls.replace(self.calls.get() + 1);
        match self.fault {
            Fault::From(first) if call >= first => Fate::Fails { applied: false },
            Fault::Once { call: fatal, applied } if call == fatal => Fate::Fails { applied },
            Fault::Random { seed, per_mille } => {
                let random = scramble(seed ^ scramble(call));
                if random % 1000 < per_mille {
                    Fate::Fails { applied: random >> 63 == 1 }
                } else {
                    Fate::Succeeds
                }
            }
            _ => Fate::Succeeds,
        }
    }
}

/// SplitMix64's finalizer.
const fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn failure(call: &'static str) -> TableError {
    MapError::Syscall { call, map: "faulty", source: io::ErrorKind::Interrupted.into() }.into()
}

impl<T: Tables> Tables for Faulty<T> {
    fn apply(&mut self, op: &Op) -> Result<(), TableError> {
        match self.fate() {
            Fate::Succeeds => self.inner.apply(op),
            Fate::Fails { applied } => {
                if applied {
                    self.inner.apply(op)?;
                }
                Err(failure("apply"))
            }
        }
    }

    fn read(&self) -> Result<Snapshot, TableError> {
        match self.fate() {
            Fate::Succeeds => self.inner.read(),
            Fate::Fails { .. } => Err(failure("read")),
        }
    }

    fn grace(&self) -> Grace {
        self.inner.grace()
    }
}
