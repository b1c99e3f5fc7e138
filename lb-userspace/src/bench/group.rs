//! Cgroups of the bench, for sockets that have hooks: what counts is where a socket is made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result};

use super::WHERE;
use crate::bpf::probe;

/// How names of the cgroups of benches begin; the process id follows.
const GROUPS: &str = "sluice-bench-";

/// A cgroup that goes with this value.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
    /// Where this process was before.
    home: PathBuf,
}

impl Group {
    /// A new one, in the root of the tree.
    ///
    /// # Errors
    /// There is no cgroup v2 tree to make cgroups in; the kernel refused.
    pub(super) fn new(name: &str) -> Result<Self> {
        let root = probe::cgroup_root(None)?;
        tidy(&root);
        let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let dir = root.join(format!("{GROUPS}{}-{name}", process::id()));
        fs::create_dir(&dir).with_context(|| format!("make the cgroup {}: {WHERE}", dir.display()))?;
        Ok(Self { dir, home: root.join(own) })
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves this process into it, for as long as the value lives.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn enter(&self) -> Result<Inside<'_>> {
        move_to(&self.dir).with_context(|| format!("enter the cgroup {}", self.dir.display()))?;
        Ok(Inside(self))
    }
}

/// This process is in the cgroup; it goes back when this is dropped.
pub(super) struct Inside<'g>(&'g Group);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let _ = move_to(&self.0.home);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

fn move_to(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.procs"), process::id().to_string())
}

/// Takes away the cgroups of benches that were killed.
fn tidy(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(GROUPS)) else { continue };
        let of = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(of).exists() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}
