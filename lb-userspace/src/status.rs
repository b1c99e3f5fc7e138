//! The status file: what the agent knows about itself and the tables do not hold.
//!
//! bpffs takes no ordinary files, so it lies in `/run/sluice`, one file per pin directory. The agent writes it, `sluice
//! status` reads it, also after the agent has died.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process;

use procfs::process::Process;
use serde::{Deserialize, Serialize};

use crate::model::{ObjectKey, Reason};

/// Where status files lie.
const RUN_DIR: &str = "/run/sluice";

/// What the agent says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// When its process began ([`started`]); 0 if it is not known.
    #[serde(default)]
    pub started: u64,
    /// Version of its binary.
    pub version: String,
    /// Schema number of the tables that it programs.
    pub schema: u32,
    /// Whether everything that the source held at the start has been programmed.
    pub synced: bool,
    /// Name of the node it works for.
    pub node: String,
    /// The folder of manifests that it follows, if it is one.
    pub manifests: Option<PathBuf>,
    /// URL of the API server that it follows, if it is one.
    pub api_server: Option<String>,
    /// Whether the source answers; what it has said stands while it does not.
    pub connected: bool,
    /// Whether the source has told everything that was there at the start.
    pub listed: bool,
    /// Where addresses of Services are allocated, as ServiceCIDRs name it, or else `--service-cluster-ip-range`.
    pub service_ranges: Vec<String>,
    /// Names of the interfaces that its programs are attached to.
    pub interfaces: Vec<String>,
    /// Names of the uplinks and overlays where masquerading is undone; none if nothing is masqueraded.
    pub uplinks: Vec<String>,
    /// How each uplink is served; overlays are always by tc.
    #[serde(default)]
    pub xdp: Vec<Xdp>,
    /// Names of the interfaces from which packets for pods of this node go past the host stack; `None`: `--redirect-peer` is
    /// off.
    #[serde(default)]
    pub redirect_peer: Option<Vec<String>>,
    /// Addresses of Services that interfaces of this node have: packets to them are left to the host.
    pub held: Vec<IpAddr>,
    /// What it could not do, object by object.
    pub problems: Vec<Problem>,
}

impl Status {
    /// Whether the agent that holds the pin directory now, the process `pid`, has programmed everything.
    ///
    /// The file may still be that of its predecessor. A holder that cannot be seen from here, in another pid namespace,
    /// is believed to have written it.
    #[must_use]
    pub fn synced_by(&self, pid: Option<u32>) -> bool {
        let began = pid.and_then(|pid| started(Some(pid)));
        self.synced && began.is_none_or(|began| began == self.started)
    }
}

/// When a process, or this one, began: clock ticks since the machine did (field 22 of `/proc/PID/stat`). `None` if it
/// has ended. Two processes of one pid, as agents of two containers are, differ by it.
#[must_use]
pub fn started(pid: Option<u32>) -> Option<u64> {
    let process = match pid {
        Some(pid) => Process::new(i32::try_from(pid).ok()?),
        None => Process::myself(),
    };
    Some(process.ok()?.stat().ok()?.starttime)
}

/// Whether native XDP serves an uplink, or tc alone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Xdp {
    /// The interface's name.
    pub interface: String,
    /// Whether it has the XDP program, in native mode.
    pub native: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do if it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl fmt::Display for Xdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, native, why, remedy } = self;
        f.write_str(interface)?;
        f.write_str(if *native { ": native XDP" } else { ": tc alone" })?;
        if let Some(why) = why {
            write!(f, ": {why}")?;
        }
        match remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// One thing that somebody has to look at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Problem {
    /// What it concerns: a Service port, a manifest with the line, a server, an interface.
    pub object: String,
    /// What is wrong with it and what follows from that, one sentence.
    pub text: String,
    /// The object whose owner should know, and why: for whoever tells him. Not part of the file.
    #[serde(skip)]
    pub owner: Option<(ObjectKey, Reason)>,
}

impl Problem {
    /// What is wrong with `object`.
    pub fn new(object: impl Into<String>, text: impl Into<String>) -> Self {
        Self { object: object.into(), text: text.into(), owner: None }
    }

    /// What is wrong with the file at `path`, in its `line`, counted from 1, if it is about one.
    #[must_use]
    pub fn in_file(path: &Path, line: Option<u64>, text: impl Into<String>) -> Self {
        let path = path.display();
        Self::new(line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}")), text)
    }

    /// The same, for the owner of the object called `key`.
    #[must_use]
    pub fn of(self, key: ObjectKey, reason: Reason) -> Self {
        Self { owner: Some((key, reason)), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.text)
    }
}

/// The file that one agent writes.
#[derive(Clone, Debug)]
pub struct StatusFile {
    path: PathBuf,
}

impl StatusFile {
    /// The file of the agent whose pins are under `pin_dir`.
    ///
    /// # Errors
    /// `pin_dir` is relative and the current directory cannot be named.
    pub fn of(pin_dir: &Path) -> io::Result<Self> {
        // Collected from its components: a directory typed with a slash at its end is the same one.
        let absolute: PathBuf = std::path::absolute(pin_dir)?.components().collect();
        let name = absolute.to_string_lossy().replace('/', "-");
        Ok(Self::at(Path::new(RUN_DIR).join(format!("{name}.json"))))
    }

    /// The file at `path`.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the agent wrote last; `None` if no agent has ever run with this pin directory.
    ///
    /// # Errors
    /// The file cannot be read, or another version wrote it in another form.
    pub fn read(&self) -> io::Result<Option<Status>> {
        match fs::read(&self.path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file in one step: a reader sees the old text or the new one.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn write(&self, status: &Status) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let fresh = self.path.with_extension(format!("{}.tmp", process::id()));
        fs::write(&fresh, serde_json::to_vec_pretty(status)?)?;
        fs::rename(&fresh, &self.path)
    }

    /// Marks what an earlier agent wrote: the one that begins has not synchronised yet. What cannot be read is removed.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn begin(&self) -> io::Result<()> {
        match self.read() {
            Ok(None) => Ok(()),
            Ok(Some(former)) => self.write(&Status { synced: false, ..former }),
            Err(_) => self.remove(),
        }
    }

    /// Removes the file, if it is there.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pin_directory_has_its_own_file() {
        let file = StatusFile::of(Path::new("/sys/fs/bpf/sluice")).unwrap();
        assert_eq!(file.path(), Path::new("/run/sluice/-sys-fs-bpf-sluice.json"));
        for same in ["/sys/fs/bpf/sluice/", "/sys//fs/bpf/./sluice"] {
            assert_eq!(StatusFile::of(Path::new(same)).unwrap().path(), file.path(), "{same}");
        }
    }

    #[test]
    fn what_a_predecessor_wrote_says_nothing_of_the_holder() {
        let (own, began) = (Some(process::id()), started(None).unwrap());
        let status = |started| Status { synced: true, started, ..Status::default() };
        assert!(status(began).synced_by(own));
        assert!(!status(began - 1).synced_by(own));
        assert!(status(began - 1).synced_by(None));
        assert!(!Status { synced: false, ..status(began) }.synced_by(own));
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = StatusFile::at(folder.path().join("run").join("x.json"));
        assert_eq!(file.read().unwrap(), None);
        let status = Status {
            synced: true,
            problems: vec![Problem::new("default/web", "no room")],
            ..Status::default()
        };
        file.write(&status).unwrap();
        assert_eq!(file.read().unwrap().as_ref(), Some(&status));
        file.begin().unwrap();
        let begun = file.read().unwrap().unwrap();
        assert_eq!((begun.synced, begun.problems), (false, status.problems));
        fs::write(file.path(), b"{").unwrap();
        assert!(file.read().is_err());
        file.begin().unwrap();
        file.begin().unwrap();
        file.remove().unwrap();
        assert_eq!(file.read().unwrap(), None);
    }
}
