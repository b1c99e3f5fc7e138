//! What the kernel says about pinned programs, links and maps.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use aya_obj::generated::{bpf_link_info, bpf_link_type, bpf_map_info, bpf_prog_info};

use super::pin::{PinDir, PinError, names};
use super::sys::{self, Info};

/// A loaded program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prog {
    /// Name of the pin.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// Hash of its instructions.
    pub tag: [u8; 8],
    /// Instructions that the verifier walked; 0 before kernel 5.16.
    pub verified: u32,
    /// Bytes of machine code.
    pub jited: u32,
    /// How often it ran; counted only while `kernel.bpf_stats_enabled` is set.
    pub runs: u64,
    /// How long it ran in all; likewise.
    pub run_time: Duration,
}

/// A program attached somewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Name of the pin.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// Id of the program.
    pub prog: u32,
    /// Where it is attached.
    pub target: Target,
}

/// A map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    /// The kernel's id.
    pub id: u32,
    /// Entries that fit.
    pub capacity: u32,
    /// Bytes of memory that it takes, by the kernel's own account; an estimate before kernel 6.4.
    pub memory: Option<u64>,
}

/// Where a program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// An interface, by index; 0 once the interface is gone.
    Interface(u32),
    /// The driver of an interface, by XDP: the same.
    Driver(u32),
    /// A cgroup, by the kernel's id of it: the inode number of its directory; 0 once the cgroup is gone.
    Cgroup(u64),
    /// Something that Sluice does not attach to.
    Other,
}

impl Target {
    /// The interface's index, if it is one.
    #[must_use]
    pub const fn interface(self) -> Option<u32> {
        match self {
            Self::Interface(index) | Self::Driver(index) => Some(index),
            Self::Cgroup(_) | Self::Other => None,
        }
    }

    /// The cgroup's id, if it is one.
    #[must_use]
    pub const fn cgroup(self) -> Option<u64> {
        match self {
            Self::Cgroup(id) => Some(id),
            Self::Interface(_) | Self::Driver(_) | Self::Other => None,
        }
    }

    pub(super) fn of(info: &bpf_link_info) -> Self {
        if info.type_ == bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
            // SAFETY: the kernel fills the part of the union that the type names, and all bits are a value of it.
            Self::Interface(unsafe { info.__bindgen_anon_1.tcx.ifindex })
        } else if info.type_ == bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
            // SAFETY: as above.
            Self::Driver(unsafe { info.__bindgen_anon_1.xdp.ifindex })
        } else if info.type_ == bpf_link_type::BPF_LINK_TYPE_CGROUP as u32 {
            // SAFETY: as above.
            Self::Cgroup(unsafe { info.__bindgen_anon_1.cgroup.cgroup_id })
        } else {
            Self::Other
        }
    }
}

/// All pinned programs, sorted by name.
///
/// # Errors
/// The directory cannot be read, or the kernel refuses to describe a program.
pub fn progs(dir: &PinDir) -> Result<Vec<Prog>, PinError> {
    described(dir, "progs", |name, info: bpf_prog_info| Prog {
        name,
        id: info.id,
        tag: info.tag,
        verified: info.verified_insns,
        jited: info.jited_prog_len,
        runs: info.run_cnt,
        run_time: Duration::from_nanos(info.run_time_ns),
    })
}

/// All pinned links, sorted by name.
///
/// # Errors
/// The directory cannot be read, or the kernel refuses to describe a link.
pub fn links(dir: &PinDir) -> Result<Vec<Link>, PinError> {
    described(dir, "links", |name, info: bpf_link_info| Link {
        name,
        id: info.id,
        prog: info.prog_id,
        target: Target::of(&info),
    })
}

/// The pinned map `name`.
///
/// # Errors
/// The map is not pinned, or `/proc` is not mounted.
pub fn map(dir: &PinDir, name: &str) -> Result<Map, PinError> {
    let path = dir.map(name);
    let map = sys::obj_get(&path).map_err(PinError::of("BPF_OBJ_GET", &path))?;
    let info: bpf_map_info = sys::info(map.as_fd()).map_err(PinError::of("BPF_OBJ_GET_INFO_BY_FD", &path))?;
    let about = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
    let about = Path::new(&about);
    let text = fs::read_to_string(about).map_err(PinError::of("read", about))?;
    Ok(Map { id: info.id, capacity: info.max_entries, memory: memlock(&text) })
}

fn memlock(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

fn described<I: Info, T>(
    dir: &PinDir,
    kind: &str,
    describe: impl Fn(String, I) -> T,
) -> Result<Vec<T>, PinError> {
    let dir = dir.base().join(kind);
    let mut names: Vec<String> =
        names(&dir)?.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort_unstable();
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(&name);
        // The agent takes links away as interfaces go: one that is gone by now is no error.
        let object: OwnedFd = match sys::obj_get(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            object => object.map_err(PinError::of("BPF_OBJ_GET", &path))?,
        };
        let info = sys::info(object.as_fd()).map_err(PinError::of("BPF_OBJ_GET_INFO_BY_FD", &path))?;
        all.push(describe(name, info));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_fdinfo() {
        assert_eq!(memlock("pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t7\n"), Some(4096));
        assert_eq!(memlock("pos:\t0\n"), None);
    }
}
