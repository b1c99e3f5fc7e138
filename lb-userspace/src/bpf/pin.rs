//! Where maps, programs and links are pinned, and who may change them.
//!
//! ```text
//! PIN_DIR/v{SCHEMA}/maps/NAME     one per line of lb_common::maps
//!                  /progs/NAME    one per program of the object
//!                  /links/NAME    one per attachment
//! ```
//!
//! The schema number in the path keeps an agent from adopting maps of another layout. Names hold no dot: the BPF file
//! system refuses them.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lb_common::SCHEMA;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, major, minor, open, stat, statfs};
use rustix::mount::{MountFlags, mount};
use tracing::info;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
/// Where every distribution mounts the BPF file system.
const BPF_FS: &str = "/sys/fs/bpf";
/// How often the lock is asked for, 5 ms apart: [`PinDir::holder`] may have it for an instant.
const ATTEMPTS: usize = 20;

/// Why a pin directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The directory, or its nearest existing ancestor, is on another file system.
    #[error("{path} is not on a BPF file system: run `mount -t bpf bpffs {path}`, or name a --pin-dir below /sys/fs/bpf", path = .path.display())]
    NotBpffs {
        /// What was looked at.
        path: PathBuf,
    },
    /// Another process holds the directory.
    #[error(
        "{path} belongs to another agent ({holder}): stop that one, or give this one its own --pin-dir",
        path = .path.display(),
    )]
    Held {
        /// The locked directory.
        path: PathBuf,
        /// That agent.
        holder: Holder,
    },
    /// The kernel refused a call.
    #[error("{call} {path}: {source}", path = .path.display())]
    Syscall {
        /// Name of the call.
        call: &'static str,
        /// What it was about.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl PinError {
    /// For `map_err`: `call` about `path` failed.
    pub(crate) fn of<E: Into<io::Error>>(call: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Syscall { call, path: path.to_owned(), source: source.into() }
    }
}

/// The process that holds a pin directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its process id; `None` if it is in a pid namespace that cannot be seen from here, as an agent in a container is.
    pub pid: Option<u32>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}"),
            None => f.write_str("in another pid namespace"),
        }
    }
}

/// The pin directory of one agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinDir {
    root: PathBuf,
    base: PathBuf,
}

impl Default for PinDir {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

impl PinDir {
    /// The default of `--pin-dir`.
    pub const DEFAULT: &str = "/sys/fs/bpf/sluice";
    /// Sub-directories of [`PinDir::base`].
    pub(crate) const KINDS: [&str; 3] = ["maps", "progs", "links"];

    /// The pin directory below `root`; nothing is looked at or made yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let base = root.join(format!("v{SCHEMA}"));
        Self { root, base }
    }

    /// What `--pin-dir` names.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The part of it that belongs to this schema.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Where the map `name` is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.base.join("maps").join(name)
    }

    /// Where the program `name` is pinned.
    #[must_use]
    pub fn prog(&self, name: &str) -> PathBuf {
        self.base.join("progs").join(name)
    }

    /// Where the link `name` is pinned.
    #[must_use]
    pub fn link(&self, name: &str) -> PathBuf {
        self.base.join("links").join(name)
    }

    /// The pin directories of all schemas that are below the same root.
    ///
    /// # Errors
    /// The root cannot be read.
    pub(crate) fn of_all_schemas(&self) -> Result<Vec<Self>, PinError> {
        let is_schema = |name: &OsString| {
            let number = name.to_str().and_then(|name| name.strip_prefix('v'));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let names = names(&self.root)?.into_iter().filter(is_schema);
        let dir = |name| Self { root: self.root.clone(), base: self.root.join(name) };
        Ok(names.map(dir).collect())
    }

    /// Names of the pinned links, in no order. Empty if there is no such directory.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn links(&self) -> Result<Vec<String>, PinError> {
        Ok(names(&self.base.join("links"))?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Makes the directories where they are missing, and locks them against other agents until the lock is dropped.
    ///
    /// Where nothing is mounted at `/sys/fs/bpf` and the directory lies below it, the BPF file system is mounted there.
    ///
    /// # Errors
    /// [`PinError::Held`] if another agent has the lock, [`PinError::NotBpffs`] if this is no BPF file system.
    pub fn lock(&self) -> Result<PinLock, PinError> {
        self.ensure_bpffs()?;
        loop {
            for kind in Self::KINDS {
                let dir = self.base.join(kind);
                fs::create_dir_all(&dir).map_err(PinError::of("mkdir", &dir))?;
            }
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
        }
    }

    /// Locks what is there; `None` if there is nothing.
    ///
    /// # Errors
    /// As [`PinDir::lock`].
    pub(crate) fn try_lock(&self) -> Result<Option<PinLock>, PinError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match open(&self.base, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(PinError::of("open", &self.base)(errno)),
        };
        let mut attempts = 1..ATTEMPTS;
        loop {
            match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if attempts.next().is_some() => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = self.holder().unwrap_or(Holder { pid: None });
                    return Err(PinError::Held { path: self.base.clone(), holder });
                }
                Err(errno) => return Err(PinError::of("flock", &self.base)(errno)),
            }
        }
        // `sluice cleanup` may have removed the directory between open and flock: a lock on it would guard nothing.
        let held = fstat(&dir).map_err(PinError::of("fstat", &self.base))?.st_ino;
        let same = stat(&self.base).is_ok_and(|found| found.st_ino == held);
        Ok(same.then_some(PinLock { _dir: dir }))
    }

    /// The process that holds the lock, if one does.
    ///
    /// `/proc/locks` leaves out those of other pid namespaces, so where it names nobody the lock itself is tried.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        let dir =
            open(&self.base, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let found = fstat(&dir).ok()?;
        let file = format!("{:02x}:{:02x}:{}", major(found.st_dev), minor(found.st_dev), found.st_ino);
        let seen = || fs::read_to_string("/proc/locks").ok().and_then(|locks| flock_holder(&locks, &file));
        let held =
            || flock(&dir, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK);
        let pid = seen();
        // Who has it may have taken it since the first look.
        (pid.is_some() || held()).then(|| Holder { pid: pid.or_else(seen) })
    }

    fn ensure_bpffs(&self) -> Result<(), PinError> {
        let nearest = self.root.ancestors().find(|dir| dir.exists());
        let nearest = nearest.unwrap_or(Path::new("/"));
        if is_bpffs(nearest)? {
            return Ok(());
        }
        // Only there is it certain that the directory exists to have this file system mounted on it.
        if nearest != Path::new(BPF_FS) {
            return Err(PinError::NotBpffs { path: nearest.to_owned() });
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
        mount("bpffs", BPF_FS, "bpf", flags, c"mode=0700")
            .map_err(PinError::of("mount -t bpf bpffs", nearest))?;
        info!("mounted the BPF file system at {BPF_FS}");
        Ok(())
    }
}

/// Keeps other agents off a pin directory while it lives; the kernel drops it with the process.
#[derive(Debug)]
pub struct PinLock {
    _dir: OwnedFd,
}

/// Names in `dir`; empty if it is not there.
pub(crate) fn names(dir: &Path) -> Result<Vec<OsString>, PinError> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()
            .map_err(PinError::of("readdir", dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(PinError::of("opendir", dir)(error)),
    }
}

fn is_bpffs(dir: &Path) -> Result<bool, PinError> {
    let fs = statfs(dir).map_err(PinError::of("statfs", dir))?;
    // The field's type differs between architectures; the magic number fits all of them.
    Ok(fs.f_type as u32 == BPF_FS_MAGIC)
}

/// The pid in the line of `/proc/locks` about a flock on `file` (`major:minor:inode`).
fn flock_holder(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        // A waiter's line has `->` as its second word and so never matches.
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            [_, "FLOCK", _, _, pid, found, ..] if found == file => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_stand_below_the_schema_number() {
        let dir = PinDir::new("/sys/fs/bpf/x");
        assert_eq!(dir.map("flows4"), Path::new(&format!("/sys/fs/bpf/x/v{SCHEMA}/maps/flows4")));
        assert_eq!(dir.link("a"), dir.base().join("links/a"));
        assert_eq!(dir.prog("a"), dir.base().join("progs/a"));
    }

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:2a:99 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 00:2a:99 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 12 00:2a:99 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE -1 00:2b:5 0 EOF\n";
        assert_eq!(flock_holder(locks, "00:2a:99"), Some(4711));
        assert_eq!(flock_holder(locks, "00:2a:98"), None);
        assert_eq!(flock_holder(locks, "00:2b:5"), None);
    }

    #[test]
    fn a_directory_elsewhere_is_refused_with_the_command_that_helps() {
        let error = PinDir::new("/proc/self/sluice").lock().unwrap_err().to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
    }
}
