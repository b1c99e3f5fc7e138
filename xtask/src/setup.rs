//! `cargo xtask setup`: installs what a verb needs and this machine lacks, one line per thing.
//!
//! What is there is found by looking at files, so that a second run takes no time.

use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compiler::{Compiler, LLVM};
use crate::kube::{Binaries, binaries};
use crate::{machine, sh};

/// The BPF linker's version; part of its folder's name, so a new version is a new folder.
const LINKER: &str = "0.13.0";

/// The version of cargo-deny, which reads the licences of dependencies.
const LICENCE_CHECKER: &str = "0.20.2";

/// A Debian package, and what shows that it is there: an absolute path, or a program on the search path.
pub type Package = (&'static str, &'static str);

/// Compiler with library sources, where rustup has none.
const COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// The lints of that compiler.
const CLIPPY: &[Package] = &[("rust-web-clippy", "/usr/bin/cargo-clippy")];

/// What the linker is built from and runs with.
const LINKER_LIBRARIES: &[Package] = &[
    ("llvm-22-dev", "/usr/lib/llvm-22/lib/libLLVM.so"),
    ("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    ("libzstd-dev", "/usr/include/zstd.h"),
    ("zlib1g-dev", "/usr/include/zlib.h"),
];

/// What the demo and the tests with namespaces run.
pub const LAB: &[Package] = &[
    ("iproute2", "ip"),
    ("curl", "curl"),
    ("bpftool", "bpftool"),
    ("util-linux", "nsenter"),
    ("iputils-ping", "ping"),
    ("ethtool", "ethtool"),
];

/// What kube-proxy runs.
pub const INCUMBENT: &[Package] = &[("nftables", "nft"), ("iptables", "iptables")];

/// What unpacks a toolchain.
pub const ARCHIVE: &[Package] = &[("curl", "curl"), ("unzip", "unzip")];

/// What the fuzzing engine is built with.
pub const ENGINE: &[Package] = &[("g++", "c++")];

/// Debian's own Python, whatever else is on the search path.
const PYTHON: &str = "/usr/bin/python3";

/// What builds the eBPF object.
pub struct Tools {
    /// The compiler.
    pub compiler: Compiler,
    /// The path of the BPF linker.
    pub linker: PathBuf,
}

/// Installs all that any verb needs.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn everything() -> Result<()> {
    let tools = build_tools()?;
    need(LAB)?;
    need(ENGINE)?;
    Binaries::get(binaries::ALL)?;
    clippy(&tools.compiler)?;
    licence_checker()?;
    tutorial_python()?;
    sh::say(&format!("eBPF compiler: {}, {}", tools.compiler.name, tools.compiler.rustc.display()));
    sh::say(&format!("BPF linker: {}", tools.linker.display()));
    Ok(())
}

/// The compiler and the linker of the eBPF crate, installed where they are not there.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn build_tools() -> Result<Tools> {
    let folder = tools_folder()?;
    let _turn = turn(&folder)?;
    let compiler = match Compiler::find()? {
        Some(compiler) => compiler,
        None => {
            fetch(COMPILER)?;
            Compiler::find()?.with_context(|| {
                format!(
                    "no compiler for eBPF: a rustup nightly with rust-src, or Debian's rustc-web and rust-web-src, \
                     from 1.95 on and with LLVM {LLVM} at most"
                )
            })?
        }
    };
    let home = folder.join(format!("bpf-linker-{LINKER}-llvm-{LLVM}"));
    let linker = home.join("bin/bpf-linker");
    if !runs(&linker) {
        install(LINKER_LIBRARIES)?;
    }
    if !runs(&linker) {
        let features = format!("llvm-{LLVM}");
        cargo_install("bpf-linker", LINKER, &home, &["--no-default-features", "--features", &features])?;
    }
    Ok(Tools { compiler, linker })
}

/// Installs those of `packages` that are not there.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn need(packages: &[Package]) -> Result<()> {
    let _turn = turn(&tools_folder()?)?;
    install(packages)
}

/// The clippy that belongs to `compiler`.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn clippy(compiler: &Compiler) -> Result<()> {
    if compiler.rustc == Path::new("/usr/bin/rustc") {
        return need(CLIPPY);
    }
    if !compiler.clippy.is_file() {
        bail!("{} is not there: rustup component add clippy --toolchain nightly", compiler.clippy.display());
    }
    Ok(())
}

/// The path of cargo-deny, installed where it is not there.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn licence_checker() -> Result<PathBuf> {
    let folder = tools_folder()?;
    let _turn = turn(&folder)?;
    let home = folder.join(format!("cargo-deny-{LICENCE_CHECKER}"));
    let checker = home.join("bin/cargo-deny");
    if !runs(&checker) {
        cargo_install("cargo-deny", LICENCE_CHECKER, &home, &[])?;
    }
    Ok(checker)
}

/// A Python environment with what the application of the tutorial and its client need, made where it is not there: its
/// folder.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn tutorial_python() -> Result<PathBuf> {
    let folder = tools_folder()?;
    let _turn = turn(&folder)?;
    let list = sh::root().join("examples/tutorial/cluster/requirements.txt");
    let mut hash = DefaultHasher::new();
    fs::read(&list).with_context(|| format!("read {}", list.display()))?.hash(&mut hash);
    // Another list is another folder: work trees may differ.
    let home = folder.join(format!("tutorial-python-{:016x}", hash.finish()));
    let python = home.join("bin/python");
    let whole = home.join("whole");
    if whole.exists() && runs(&python) {
        return Ok(home);
    }
    if sh::read(Command::new(PYTHON).args(["-c", "import ensurepip, venv"])).is_err() {
        fetch(&["python3", "python3-venv"])?;
    }
    sh::say(&format!("making a Python environment for the tutorial in {}", home.display()));
    sh::read(Command::new(PYTHON).args(["-m", "venv", "--clear"]).arg(&home))?;
    let pip = ["-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r"];
    sh::run(Command::new(&python).args(pip).arg(&list))?;
    fs::write(&whole, "").with_context(|| format!("write {}", whole.display()))?;
    Ok(home)
}

fn cargo_install(name: &str, version: &str, home: &Path, arguments: &[&str]) -> Result<()> {
    sh::say(&format!("installing {name} {version} into {} (takes some minutes)", home.display()));
    let mut cargo = sh::cargo();
    cargo
        .args(["install", name, "--version", version, "--locked", "--quiet", "--force", "--root"])
        .arg(home)
        .args(arguments)
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
    sh::run(&mut cargo).with_context(|| format!("install {name}"))
}

/// Whether the program starts: after an upgrade of the system its libraries may be gone.
fn runs(program: &Path) -> bool {
    program.is_file() && sh::read(Command::new(program).arg("--version")).is_ok()
}

/// Installs those of `packages` that are not there.
fn install(packages: &[Package]) -> Result<()> {
    let there = |probe: &str| match Path::new(probe) {
        path if path.is_absolute() => path.exists(),
        _ => sh::find(probe).is_some(),
    };
    let lacking = packages.iter().filter(|(_, probe)| !there(probe));
    fetch(&lacking.map(|(package, _)| *package).collect::<Vec<_>>())
}

/// Installs Debian packages.
fn fetch(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if sh::find("apt-get").is_none() {
        bail!("this system has no apt-get; what Debian does by `{by_hand}` must be done by hand");
    }
    if !machine::is_root() {
        bail!("packages are missing, and installing them needs root: {by_hand}");
    }
    for package in packages {
        sh::say(&format!("installing Debian package {package}"));
    }
    let get = || sh::read(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages));
    if get().is_err() {
        sh::read(apt().arg("update"))?;
        get().with_context(|| format!("by hand: {by_hand}"))?;
    }
    Ok(())
}

/// Waits for another apt-get rather than fail beside it.
fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["--quiet", "-o", "DPkg::Lock::Timeout=600"]).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// Tools are shared by all work trees of a user.
fn tools_folder() -> Result<PathBuf> {
    cache("tools")
}

/// The folder `name` in the user's cache.
///
/// # Errors
/// When it cannot be made.
pub fn cache(name: &str) -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.map_or_else(|| Ok(home()?.join(".cache")), anyhow::Ok)?;
    let folder = cache.join("sluice").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// The user's home folder, where the environment does not say it, too.
///
/// # Errors
/// When there is none.
pub fn home() -> Result<PathBuf> {
    env::home_dir().filter(|path| path.is_absolute()).context("this user has no home folder: set HOME")
}

/// One set-up at a time per user: two at once would build the linker twice.
fn turn(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}
