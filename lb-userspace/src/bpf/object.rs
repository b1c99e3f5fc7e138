//! The eBPF objects that the build embedded.

use super::load::LoadError;

/// The object file; empty in a build that was given none.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-ebpf"));

/// The eBPF object file of this build.
///
/// # Errors
/// [`LoadError::NoObject`] if the build embedded none.
pub fn embedded() -> Result<&'static [u8], LoadError> {
    if OBJECT.is_empty() { Err(LoadError::NoObject) } else { Ok(OBJECT) }
}

/// The object file of `sluice bench`; likewise.
static BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-bench-ebpf"));

/// The object file with the drivers and generators of `sluice bench`.
///
/// # Errors
/// As [`embedded`].
pub fn bench() -> Result<&'static [u8], LoadError> {
    if BENCH.is_empty() { Err(LoadError::NoObject) } else { Ok(BENCH) }
}
