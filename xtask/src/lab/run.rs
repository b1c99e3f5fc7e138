//! One run of the lab: its names, and the certainty that nothing of it stays behind.
//!
//! Everything that a run makes carries its id: namespaces `sl-ID-*`, the control group `sluice-lab-ID`, pin directories
//! `/sys/fs/bpf/sluice-lab-ID*`, files under `/run/sluice-lab/ID`. While the run lives it holds a lock on `ID/lock`.
//! A reaper process, told by the end of its standard input, removes a run that has ended, by panic or `kill -9` too;
//! should the reaper die as well, the next run finds a directory whose lock is free and removes what belongs to it.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::cgroup;

const RUNS: &str = "/run/sluice-lab";
const BPFFS: &str = "/sys/fs/bpf";

/// A run of the lab. Dropping it removes whatever it made.
#[derive(Debug)]
pub struct Lab {
    id: u32,
    helper: PathBuf,
    cgroup: PathBuf,
    _lock: File,
    reaper: Child,
}

impl Lab {
    /// Starts a run, after removing what runs that died have left. `helper` is the xtask binary; its hidden verb
    /// `lab-helper` is started in namespaces and as the reaper.
    ///
    /// # Errors
    /// Without root, without cgroup v2, or when a leftover cannot be removed.
    pub fn start(helper: impl Into<PathBuf>) -> Result<Arc<Self>> {
        if !rustix::process::geteuid().is_root() {
            bail!("network namespaces and eBPF need root: run this as root (sudo -E cargo xtask …)");
        }
        let runs = lock_runs()?;
        mount_bpffs()?;
        remove_dead(false)?;
        let helper = helper.into();
        let id = std::process::id();
        let dir = run_dir(id);
        // Keys, tokens and kubeconfigs are below it: it is for root alone.
        DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("make {}", dir.display()))?;
        let lock = File::create(dir.join("lock")).context("make the lock file of the run")?;
        lock.try_lock().context("lock the run")?;
        let cgroup = cgroup_of(id)?;
        cgroup::create(&cgroup)?;
        drop(runs);
        // A process group of its own: Ctrl-C ends the run, and the reaper must outlive it.
        let reaper = Command::new(&helper)
            .args(["lab-helper", "reap", &id.to_string()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", helper.display()))?;
        Ok(Arc::new(Self { id, helper, cgroup, _lock: lock, reaper }))
    }

    /// As [`Lab::start`] with this very program as the helper: the file itself, not its path, which a build may replace.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub fn own() -> Result<Arc<Self>> {
        Self::start(format!("/proc/{}/exe", std::process::id()))
    }

    /// The process id that all names of this run carry.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// A directory for files of this run.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        run_dir(self.id)
    }

    /// The directory that the run of the process `id` has until all of it is gone.
    #[must_use]
    pub fn dir_of(id: u32) -> PathBuf {
        run_dir(id)
    }

    /// The control group above all others of this run.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The pin directory of the node called `name`.
    #[must_use]
    pub fn pin_dir(&self, name: &str) -> PathBuf {
        Path::new(BPFFS).join(format!("{}{name}", pin_prefix(self.id)))
    }

    /// The name of a network namespace of this run.
    #[must_use]
    pub fn netns(&self, name: &str) -> String {
        format!("{}{name}", netns_prefix(self.id))
    }

    /// A command line of the helper.
    #[must_use]
    pub fn helper(&self) -> Command {
        let mut command = Command::new(&self.helper);
        command.arg("lab-helper");
        command
    }

    /// Whether [`Lab::keep`] was called.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.dir().join("keep").exists()
    }

    /// Leaves what is there now in place when this run ends, until [`Lab::remove_kept`].
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn keep(&self) -> Result<()> {
        fs::write(self.dir().join("keep"), "").context("mark the run as kept")
    }

    /// Removes what runs that called [`Lab::keep`] and have ended left in place.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove_kept() -> Result<()> {
        let _runs = lock_runs()?;
        remove_dead(true)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        if let Err(error) = self.reaper.wait() {
            eprintln!("the lab's reaper: {error}");
        }
    }
}

/// The reaper's work: waits until standard input ends, then removes run `id` unless it is to be kept.
///
/// # Errors
/// When something of it cannot be removed.
pub(super) fn reap(id: u32) -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new()).context("wait for the end of the run")?;
    let _runs = lock_runs()?;
    if run_dir(id).join("keep").exists() { Ok(()) } else { remove(id) }
}

fn run_dir(id: u32) -> PathBuf {
    Path::new(RUNS).join(id.to_string())
}

fn netns_prefix(id: u32) -> String {
    format!("sl-{id}-")
}

fn pin_prefix(id: u32) -> String {
    format!("sluice-lab-{id}-")
}

fn cgroup_of(id: u32) -> Result<PathBuf> {
    Ok(cgroup::mount_point()?.join(format!("sluice-lab-{id}")))
}

/// Serialises the start of runs: mounting bpffs and removing leftovers.
fn lock_runs() -> Result<File> {
    fs::create_dir_all(RUNS).with_context(|| format!("make {RUNS}"))?;
    let file = File::create(Path::new(RUNS).join("lock")).context("make the lab's lock file")?;
    file.lock().context("lock the lab")?;
    Ok(file)
}

fn mount_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        return Ok(());
    }
    rustix::mount::mount("bpf", BPFFS, "bpf", rustix::mount::MountFlags::empty(), None)
        .with_context(|| format!("mount -t bpf bpf {BPFFS}"))
}

/// Removes every run whose process has ended; those marked as kept only if told so.
fn remove_dead(kept_too: bool) -> Result<()> {
    for entry in fs::read_dir(RUNS).with_context(|| format!("list {RUNS}"))? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        let dead = File::open(path.join("lock")).map_or(true, |lock| lock.try_lock().is_ok());
        if dead && (kept_too || !path.join("keep").exists()) {
            remove(id)?;
        }
    }
    Ok(())
}

/// Removes everything that carries `id`. Processes first: they hold namespaces, maps and locks.
fn remove(id: u32) -> Result<()> {
    cgroup::remove(&cgroup_of(id)?)?;
    for pins in entries_with_prefix(Path::new(BPFFS), &pin_prefix(id)) {
        remove_pins(&Path::new(BPFFS).join(pins));
    }
    let netns = entries_with_prefix(Path::new("/run/netns"), &netns_prefix(id));
    if !netns.is_empty() {
        let mut ip = Command::new("ip")
            .args(["-force", "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("start ip")?;
        if let Some(mut stdin) = ip.stdin.take() {
            for name in &netns {
                writeln!(stdin, "netns delete {name}").context("write to ip")?;
            }
        }
        ip.wait().context("wait for ip")?;
    }
    let dir = run_dir(id);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Unpins what lies in a pin directory, and removes the status file that its agent kept.
pub(super) fn remove_pins(pin_dir: &Path) {
    // Best effort: what is gone already is no failure, and what stays shows as a directory that stays.
    let _ = fs::remove_dir_all(pin_dir);
    let status = format!("{}.json", pin_dir.display()).replace('/', "-");
    let _ = fs::remove_file(Path::new("/run/sluice").join(status));
}

fn entries_with_prefix(dir: &Path, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}
