//! The kernel side of the agent: loads, attaches and pins programs, and opens pinned maps as typed tables.
//!
//! The only module beside `tables` with unsafe code: system calls and memory shared with the kernel.

mod array;
pub mod map;
pub mod pin;
mod sys;
