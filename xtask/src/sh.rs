//! Child processes: found, run, and named in errors. And threads, joined.

use std::env;
use std::ffi::OsStr;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};

/// The root of the work tree.
#[must_use]
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// A progress line on standard error.
pub fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// The cargo that runs this program, to be started in the root of the work tree.
///
/// What `cargo run` put into the environment stays out: build scripts would see another environment
/// than under a plain `cargo build` and run again.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).env_remove("LD_LIBRARY_PATH");
    forget(&mut cargo, &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_PRIMARY_"]);
    cargo
}

/// Keeps the variables whose names start with one of `prefixes` from `command`.
pub fn forget(command: &mut Command, prefixes: &[&str]) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// Runs `command` with this program's output and no input.
///
/// # Errors
/// Names the command line where it cannot be started or does not end with status 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("start {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs `command` and gives what it wrote to standard output.
///
/// # Errors
/// As [`run`]; what the command wrote to standard error is part of the error, or else, as of `sluice -j`, to standard output.
pub fn read(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(command)?).into_owned())
}

/// As [`read`], for what is no text.
///
/// # Errors
/// As [`read`].
pub fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("start {}", line(command)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(if out.stderr.is_empty() { &out.stdout } else { &out.stderr });
        bail!("{} ended with {}: {}", line(command), out.status, said.trim());
    }
    Ok(out.stdout)
}

/// The program `name` on the search path, or in the folders for root that a plain user's path lacks.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// What a joined thread has returned. Its panic goes on here.
pub fn joined<T>(ended: thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Sets its flag when it is dropped: threads of a scope that go by the flag end when another one panics, too.
#[derive(Debug)]
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
