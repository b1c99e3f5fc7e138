//! Puts the eBPF object that `SLUICE_EBPF_OBJECT` names where the crate embeds it from.
//!
//! Without the variable that is an empty file, so a plain `cargo build` needs no BPF tool chain.

use std::path::PathBuf;
use std::{env, fs};

const VARIABLE: &str = "SLUICE_EBPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    if let Err(error) = place() {
        println!("cargo::error={error}");
    }
}

fn place() -> Result<(), String> {
    let object = match env::var_os(VARIABLE).map(PathBuf::from) {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            fs::read(&path).map_err(|e| format!("{VARIABLE}: read {}: {e}", path.display()))?
        }
        None => Vec::new(),
    };
    let folder = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: this is not cargo")?;
    let place = PathBuf::from(folder).join("sluice-ebpf");
    fs::write(&place, object).map_err(|e| format!("write {}: {e}", place.display()))
}
