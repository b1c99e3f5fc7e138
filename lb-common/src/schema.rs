//! The schema number.

/// Version of everything in this crate that programs or pinned maps depend on; part of the pin path, so that an agent
/// never adopts maps of another layout. Raise it with every change to a key, a value or a map's kind; `tests/layout.rs`
/// fails until it is.
pub const SCHEMA: u32 = 6;
