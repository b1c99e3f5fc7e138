//! `cargo xtask build`: the eBPF object, and the binary that carries it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::compiler::LLVM;
use crate::setup::{self, Tools};
use crate::{machine, sh};

/// Tells the build script of `lb-userspace` which object to embed.
pub const OBJECT_VARIABLE: &str = "SLUICE_EBPF_OBJECT";

/// The same of the object of `sluice bench`.
pub const BENCH_VARIABLE: &str = "SLUICE_BENCH_OBJECT";

/// The eBPF objects: the datapath, and what `sluice bench` drives it with.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The datapath.
    pub datapath: PathBuf,
    /// Drivers and generators.
    pub bench: PathBuf,
}

/// The only target: the machines that Sluice runs on are little-endian.
const TARGET: &str = "bpfel-unknown-none";

/// Variables that belong to the compiler of the host crates.
const OTHER_COMPILER: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_ENCODED_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "LD_LIBRARY_PATH",
    "RUST",
];

/// Builds the eBPF objects with full BTF and gives their paths.
///
/// # Errors
/// Whatever cargo says goes to standard error; the error names the command.
pub fn objects(tools: &Tools) -> Result<Objects> {
    sh::say(&format!("building the eBPF objects with {}", tools.compiler.name));
    let folder = target_folder()?.join("bpf");
    sh::run(ebpf(tools, Command::new(&tools.compiler.cargo).arg("build"), &folder))?;
    let stripped = |built: &str, object: &str| {
        strip(&folder.join(TARGET).join("release").join(built), &folder.join(object))
    };
    Ok(Objects {
        datapath: stripped("sluice-ebpf", "sluice.o")?,
        bench: stripped("sluice-bench-ebpf", "sluice-bench.o")?,
    })
}

/// Leaves out the debug information, whose work is done once it has become BTF: four fifths of the object,
/// and paths of the machine that built it. A file that would be the same is not touched: its users would be built again.
fn strip(built: &Path, object: &Path) -> Result<PathBuf> {
    let bytes = without_debug_information(built)?;
    if !fs::read(object).is_ok_and(|old| old == bytes) {
        let fresh = object.with_extension("new");
        fs::write(&fresh, bytes)
            .and_then(|()| fs::rename(&fresh, object))
            .with_context(|| format!("make {}", object.display()))?;
    }
    Ok(object.to_owned())
}

/// The bytes of the program or object at `path` without what only a debugger reads.
///
/// # Errors
/// LLVM's own, where it cannot read the file.
pub(crate) fn without_debug_information(path: &Path) -> Result<Vec<u8>> {
    let mut strip = Command::new(format!("/usr/lib/llvm-{LLVM}/bin/llvm-strip"));
    sh::bytes(strip.args(["--strip-debug", "-o", "-"]).arg(path))
}

/// Clippy over the eBPF programs, with the compiler that builds them.
///
/// # Errors
/// As [`objects`].
pub fn clippy(tools: &Tools) -> Result<()> {
    let folder = target_folder()?.join("bpf");
    let mut clippy = Command::new(&tools.compiler.clippy);
    clippy.arg("clippy").env("CARGO", &tools.compiler.cargo);
    sh::run(ebpf(tools, &mut clippy, &folder).args(["--", "-D", "warnings"]))
}

/// Completes a call of cargo that is about the eBPF programs.
fn ebpf<'a>(tools: &Tools, cargo: &'a mut Command, folder: &Path) -> &'a mut Command {
    sh::forget(cargo, OTHER_COMPILER);
    cargo
        .current_dir(sh::root())
        .args(["--package", "lb-ebpf", "--bins", "--release"])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(folder)
        .env("RUSTC", &tools.compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(tools))
}

/// v3 has the atomic operations that return a value; rustc hands the name on to the linker, whose own `--cpu`
/// may be given once only. The linker makes BTF from full debug information. It asks LLVM to keep copies in order, which
/// makes a call of a loop, byte by byte, of each that is no whole word.
fn flags(tools: &Tools) -> String {
    let linker = format!("linker={}", tools.linker.display());
    let copies = "-Clink-arg=--disable-expand-memcpy-in-order";
    ["-Cdebuginfo=2", "-Clink-arg=--btf", copies, "-Ctarget-cpu=v3", "-C", &linker].join("\u{1f}")
}

/// Builds `target/release/sluice` with its eBPF programs in it and gives its path.
///
/// # Errors
/// As [`objects`].
pub fn sluice(tools: &Tools) -> Result<PathBuf> {
    let objects = objects(tools)?;
    sh::say("building sluice");
    let mut cargo = sh::cargo();
    cargo.args(["build", "--release", "--package", "lb-userspace", "--bin", "sluice"]);
    sh::run(cargo.env(OBJECT_VARIABLE, &objects.datapath).env(BENCH_VARIABLE, &objects.bench))?;
    let binary = target_folder()?.join("release/sluice");
    sh::say(&format!("built {}", binary.display()));
    Ok(binary)
}

/// Makes sure of what a verb that shows the agent needs: a fit machine, the programs of the lab, and the agent's binary,
/// whose path this is. With `SLUICE_BIN` set that is used and nothing is built.
///
/// # Errors
/// What the machine lacks; a package that cannot be installed; as [`objects`].
pub fn for_lab(verb: &str) -> Result<PathBuf> {
    machine::check(verb)?;
    setup::need(setup::LAB)?;
    match env::var_os("SLUICE_BIN") {
        Some(named) => Ok(named.into()),
        None => sluice(&setup::build_tools()?),
    }
}

/// What is installed beside the binary, below `target/share` as below `/usr/local/share`: man pages, completions.
///
/// # Errors
/// The binary's own, or a folder that cannot be made.
pub fn share(sluice: &Path) -> Result<()> {
    let share = target_folder()?.join("share");
    sh::read(Command::new(sluice).arg("man").arg(share.join("man/man1")))?;
    for (shell, file) in [
        ("bash", "bash-completion/completions/sluice"),
        ("zsh", "zsh/site-functions/_sluice"),
        ("fish", "fish/vendor_completions.d/sluice.fish"),
    ] {
        let path = share.join(file);
        let script = sh::read(Command::new(sluice).args(["completion", shell]))?;
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, script))
            .with_context(|| format!("write {}", path.display()))?;
    }
    sh::say(&format!("man pages and completions in {}", share.display()));
    Ok(())
}

/// Where cargo puts what it builds.
///
/// # Errors
/// Cargo's own, where it cannot read the workspace.
pub fn target_folder() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let text = sh::read(sh::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("read the output of cargo metadata")?;
    Ok(metadata.target_directory)
}
