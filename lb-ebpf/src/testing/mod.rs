//! The world around the datapath, for tests: packets, tables in shared memory, fixtures. Needs `std`.
//!
//! The same fixtures run here, over byte vectors, and through the real programs, over socket buffers.

pub mod affinity;
pub mod bytes;
pub mod fixtures;
pub mod host;
pub mod invariants;
pub mod packet;
pub mod pairs;
pub mod reference;
pub mod routes;
pub mod schedule;
pub mod socket;
pub mod table;
pub mod tables;
pub mod wire;
pub mod world;
