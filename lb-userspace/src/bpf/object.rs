//! The eBPF object that the build embedded.

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
