//! The cluster that `cargo xtask kube up` leaves running: what others have to know of it, and that there is one only.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Seek, Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::lab::{Space, wait_for};

/// What is known of the cluster that is up.
const RUN: &str = "/run/sluice-kube";

/// What it holds besides what is written here: the log of the cluster, and homes of pods.
pub(super) const LOG: &str = "log";
pub(super) const PODS: &str = "pods";

/// Names another folder for it: a second cluster.
const RUN_VARIABLE: &str = "SLUICE_KUBE_DIR";

/// What those who use the cluster have to know.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) kubeconfig: PathBuf,
    /// Where kubectl may remember what the API server has.
    pub(super) cache: PathBuf,
    /// Where kubectl is.
    pub(super) folders: Vec<PathBuf>,
    /// The binary of the agents.
    pub(super) sluice: PathBuf,
    /// Whether there is CoreDNS.
    pub(super) dns: bool,
    pub(super) logs: PathBuf,
    pub(super) places: BTreeMap<String, Place>,
}

/// Where the processes of a node or a pod are.
#[derive(Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) netns: String,
    pub(super) cgroup: PathBuf,
    /// Where the agent that runs there pins.
    pub(super) pin_dir: Option<PathBuf>,
}

impl Place {
    pub(super) fn of(space: &Space, pin_dir: Option<&Path>) -> Self {
        let (netns, cgroup) = (space.netns().to_owned(), space.cgroup().to_owned());
        Self { netns, cgroup, pin_dir: pin_dir.map(Path::to_owned) }
    }
}

impl State {
    /// The cluster that is up, if one is.
    pub(super) fn read() -> Result<Option<Self>> {
        let Ok(text) = fs::read(file("state.json")) else { return Ok(None) };
        if server().is_none() {
            return Ok(None);
        }
        serde_json::from_slice(&text).context("read the state of the cluster").map(Some)
    }

    pub(super) fn expect() -> Result<Self> {
        Self::read()?.context("no cluster is up: cargo xtask kube up")
    }

    pub(super) fn write(&self) -> Result<()> {
        let (fresh, path) = (file("state.new"), file("state.json"));
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("write {}", path.display()))
    }
}

fn run_dir() -> PathBuf {
    env::var_os(RUN_VARIABLE).map_or_else(|| RUN.into(), PathBuf::from)
}

/// A file of the cluster that is up.
pub(super) fn file(name: &str) -> PathBuf {
    run_dir().join(name)
}

/// The process that runs the cluster, or begins to.
pub(super) fn server() -> Option<u32> {
    let lock = File::open(file("lock")).ok()?;
    if lock.try_lock_shared().is_ok() {
        return None;
    }
    fs::read_to_string(file("lock")).ok()?.parse().ok()
}

/// The right to run the cluster: a lock on a file that names its process, and that goes with the last process which has it
/// open, however that ends.
pub(super) struct Lock(File);

impl Lock {
    /// Takes it, and forgets what a cluster that died has left; `None` if somebody has it.
    pub(super) fn take() -> Result<Option<Self>> {
        let mut taken = Ok(None);
        // Whoever only looks whether there is a cluster has it for a moment.
        let _ = wait_for(Duration::from_secs(2), || {
            taken = Self::try_take();
            !matches!(taken, Ok(None))
        });
        let Some(lock) = taken? else { return Ok(None) };
        let _ = fs::remove_file(file("state.json"));
        lock.sign().map(Some)
    }

    fn try_take() -> Result<Option<Self>> {
        let (dir, path) = (run_dir(), file("lock"));
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let lock = match File::options().create(true).truncate(false).read(true).write(true).open(&path) {
            // Removed together with its folder, just now.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("open {}", path.display()))?,
        };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            other => other.with_context(|| format!("lock {}", path.display()))?,
        }
        // A file that was removed can be locked by many.
        let is_it =
            fs::metadata(&path).is_ok_and(|it| lock.metadata().is_ok_and(|ours| ours.ino() == it.ino()));
        Ok(is_it.then_some(Self(lock)))
    }

    /// What [`Lock::share`] was given to.
    pub(super) fn inherit() -> Result<Self> {
        let lock = stdin().as_fd().try_clone_to_owned().map(File::from).context("find the lock")?;
        lock.try_lock().context("another cluster is up")?;
        Self(lock).sign()
    }

    /// The standard input of a process that shall have it, too.
    pub(super) fn share(&self) -> Result<Stdio> {
        Ok(self.0.try_clone().context("share the lock")?.into())
    }

    /// Says whose it is.
    fn sign(mut self) -> Result<Self> {
        let id = std::process::id().to_string();
        self.0
            .set_len(0)
            .and_then(|()| self.0.rewind())
            .and_then(|()| self.0.write_all(id.as_bytes()))
            .context("write the lock of the cluster")?;
        Ok(self)
    }

    /// Removes everything that is known, the lock last, and the folder unless somebody else keeps something there.
    pub(super) fn remove(self) -> Result<()> {
        let (dir, pods) = (run_dir(), file(PODS));
        let removed = |result: io::Result<()>, path: &Path| match result {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        };
        removed(fs::remove_dir_all(&pods), &pods)?;
        for name in ["state.json", "state.new", LOG, "lock"] {
            let path = file(name);
            removed(fs::remove_file(&path), &path)?;
        }
        match fs::remove_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            other => removed(other, &dir),
        }
    }
}
