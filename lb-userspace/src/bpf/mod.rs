//! The kernel side of the agent: loads, attaches and pins programs, and opens pinned maps as typed tables.
//!
//! The only module beside `tables` with unsafe code: system calls, memory shared with the kernel, and the heap.

mod array;
pub mod attach;
pub mod cleanup;
pub mod driver;
pub mod events;
pub mod heap;
pub mod hooks;
pub mod inspect;
pub mod load;
pub mod map;
pub mod object;
pub mod pin;
pub mod probe;
pub mod size;
pub mod space;
pub mod sweep;
mod sys;
