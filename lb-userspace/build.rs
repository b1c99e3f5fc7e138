//! Puts the eBPF objects that `SLUICE_EBPF_OBJECT` and `SLUICE_BENCH_OBJECT` name where the crate embeds them from.
//!
//! Without a variable that is an empty file, so a plain `cargo build` needs no BPF tool chain.

use std::path::PathBuf;
use std::{env, fs};

/// Variables, and names of the embedded files.
const OBJECTS: [(&str, &str); 2] =
    [("SLUICE_EBPF_OBJECT", "sluice-ebpf"), ("SLUICE_BENCH_OBJECT", "sluice-bench-ebpf")];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (variable, name) in OBJECTS {
        println!("cargo::rerun-if-env-changed={variable}");
        if let Err(error) = place(variable, name) {
            println!("cargo::error={error}");
        }
    }
}

fn place(variable: &str, name: &str) -> Result<(), String> {
    let object = match env::var_os(variable).map(PathBuf::from) {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            fs::read(&path).map_err(|e| format!("{variable}: read {}: {e}", path.display()))?
        }
        None => Vec::new(),
    };
    let folder = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: this is not cargo")?;
    let place = PathBuf::from(folder).join(name);
    fs::write(&place, object).map_err(|e| format!("write {}: {e}", place.display()))
}
