//! The eBPF side: maps and helper calls behind the traits of the library. The only unsafe code of this crate.
//!
//! The borrow checker knows nothing of other CPUs: a reference into a map may change under the reader's eyes. Records
//! that are written while programs run are therefore read by volatile loads of single words, through raw pointers.

mod around;
mod atomic;
mod cuts;
mod env;
mod event;
mod fib;
pub(crate) mod frame;
mod in_place;
mod lookup;
pub(crate) mod maps;
mod seams;
pub(crate) mod skb;
pub(crate) mod sock;
mod sock_env;
pub(crate) mod sweep;

pub(crate) use around::{Driver, Hook, Kernel};
