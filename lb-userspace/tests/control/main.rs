//! Plan, tables and reconcile together: what is desired, through every interruption and fault, into the tables.
#![expect(clippy::unwrap_used, reason = "a test says no more than that it failed, and where")]

mod adoption;
mod faults;
mod held;
mod interrupted;
#[cfg(feature = "root-tests")]
mod kernel;
mod order;
mod outside;
mod packets;
mod progress;
mod random;
mod readers;
mod room;
mod running;
mod scale;
mod scenarios;
mod support;
