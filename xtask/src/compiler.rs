//! The compiler of the eBPF crate: one with its library sources, whose LLVM the linker can read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::sh;

/// The LLVM that the BPF linker is built with. Bitcode of a later one is unreadable to it ("Invalid record").
pub const LLVM: u32 = 22;

/// Where a compiler keeps its library sources, below its root.
const SOURCES: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";

/// A compiler that can build `core` for BPF.
pub struct Compiler {
    /// Its cargo.
    pub cargo: PathBuf,
    /// Its rustc.
    pub rustc: PathBuf,
    /// Where its clippy is, once installed.
    pub clippy: PathBuf,
    /// Its name and version, as `rustc --version` has them.
    pub name: String,
}

impl Compiler {
    /// A rustup nightly with `rust-src`, else the distribution's compiler with its sources.
    ///
    /// # Errors
    /// A compiler that is there but cannot be run.
    pub fn find() -> Result<Option<Self>> {
        for root in nightlies().into_iter().chain([PathBuf::from("/usr")]) {
            if let Some(compiler) = Self::at(&root)? {
                return Ok(Some(compiler));
            }
        }
        Ok(None)
    }

    fn at(root: &Path) -> Result<Option<Self>> {
        let (cargo, rustc) = (root.join("bin/cargo"), root.join("bin/rustc"));
        if !root.join(SOURCES).is_file() || !cargo.is_file() || !rustc.is_file() {
            return Ok(None);
        }
        let text = sh::read(Command::new(&rustc).arg("-vV").env_remove("LD_LIBRARY_PATH"))?;
        let clippy = root.join("bin/cargo-clippy");
        let name = text.lines().next().unwrap_or_default().to_owned();
        Ok(suits(&text).then_some(Self { cargo, rustc, clippy, name }))
    }
}

/// Whether the compiler that printed `text` for `-vV` builds this tree and is readable to the linker.
fn suits(text: &str) -> bool {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let numbers = |text: &str| -> Vec<u32> { text.split(['.', '-']).map_while(|n| n.parse().ok()).collect() };
    let release = field("release: ").map(numbers).unwrap_or_default();
    let llvm = field("LLVM version: ").map(numbers).unwrap_or_default();
    release.as_slice() >= [1, 95].as_slice() && llvm.first().is_some_and(|&major| major <= LLVM)
}

/// The roots of rustup's nightly tool chains: the plain `nightly` first, then the newest date.
///
/// Asking rustup itself might make it fetch a tool chain.
fn nightlies() -> Vec<PathBuf> {
    let home =
        env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".rustup")));
    let Some(Ok(entries)) = home.map(|home| fs::read_dir(home.join("toolchains"))) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nightly")));
    found.sort();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_with_a_later_llvm_is_left_alone() {
        let text = |release: &str, llvm: &str| format!("rustc x\nrelease: {release}\nLLVM version: {llvm}\n");
        assert!(suits(&text("1.96.0", "22.1.8")));
        assert!(suits(&text("1.97.0-nightly", "22.1.4")));
        assert!(!suits(&text("1.99.0-nightly", "23.1.0")));
        assert!(!suits(&text("1.85.0", "19.1.7")));
        assert!(!suits("gibberish"));
    }
}
