//! What is fuzzed: each target takes any bytes and panics where something is not as it must be. `cargo xtask fuzz` runs
//! them under a coverage-guided engine, the tests here replay what was found.

pub mod manifests;
pub mod packets;
pub mod stories;

use std::{env, fs};

/// Names the folder that a target's seeds are written to before the engine reads it.
pub const SEEDS: &str = "SLUICE_FUZZ_SEEDS";

/// Writes the inputs that a target begins with to the folder that [`SEEDS`] names, if it does.
///
/// # Panics
/// If they cannot be written.
pub fn plant(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = env::var_os(SEEDS).map(std::path::PathBuf::from) else { return };
    for (number, seed) in seeds().into_iter().enumerate() {
        let path = folder.join(format!("seed-{number:04}"));
        if let Err(error) = fs::write(&path, seed) {
            panic!("write {}: {error}", path.display());
        }
    }
}
