//! What the kernel must have, found out before anything is made.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_getres};

use super::sys;

/// Oldest kernel with everything but tcx: `BPF_PROG_TYPE_RAW_TRACEPOINT` runs that walk maps, socket cookies of
/// network namespaces, `bpf_ktime_get_coarse_ns`, `bpf_loop`.
const OLDEST: (u32, u32) = (6, 1);

/// The capabilities that loading and attaching take.
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
];

/// What this machine lacks.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The process may not do it.
    #[error("{0} is missing: run as root, or give the container this capability")]
    Capability(&'static str),
    /// The kernel is too old.
    #[error("kernel {found} is too old: 6.1 or later is needed")]
    Kernel {
        /// Its release.
        found: String,
    },
    /// The kernel has no type information of its own.
    #[error("the kernel lacks BTF (/sys/kernel/btf/vmlinux): it needs CONFIG_DEBUG_INFO_BTF")]
    Btf,
    /// The kernel has no tcx.
    #[error("the kernel lacks tcx (BPF_TCX_INGRESS, Linux 6.6): {0}")]
    Tcx(String),
    /// No cgroup v2 tree is mounted.
    #[error(
        "no cgroup v2 tree is mounted: run `mount -t cgroup2 cgroup2 /sys/fs/cgroup`, or name one with --cgroup-root"
    )]
    NoCgroup,
    /// The only cgroup v2 mounts show a part of the tree.
    #[error(
        "the cgroup v2 mount {path} shows only a part of the tree: mount the host's, or name this one with --cgroup-root",
        path = .path.display()
    )]
    PartialCgroup {
        /// The mount point.
        path: PathBuf,
    },
    /// What `--cgroup-root` names is no cgroup.
    #[error("{path} is not in a cgroup v2 tree", path = .path.display())]
    NotCgroup {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel refused a call that finds something out.
    #[error("{call}: {source}")]
    Syscall {
        /// Name of the call.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Checks what programs and hooks need.
///
/// # Errors
/// Names the first thing that is missing.
pub fn kernel() -> Result<(), ProbeError> {
    let effective = capabilities(None).map_err(|errno| failed("capget")(errno.into()))?.effective;
    if let Some((_, name)) = NEEDED.into_iter().find(|(flag, _)| !effective.contains(*flag)) {
        return Err(ProbeError::Capability(name));
    }
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    if version(&release).is_none_or(|found| found < OLDEST) {
        return Err(ProbeError::Kernel { found: release.into_owned() });
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(ProbeError::Btf);
    }
    // Every network namespace has this interface, and looking needs no program.
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress)
        .map_err(|error| ProbeError::Tcx(error.to_string()))?;
    Ok(())
}

/// The root of the cgroup v2 tree: `named` if it is given, else the mount that shows the whole tree.
///
/// # Errors
/// There is none, it shows a part of the tree only, or `named` is no cgroup.
pub fn cgroup_root(named: Option<&Path>) -> Result<PathBuf, ProbeError> {
    match named {
        Some(path) if path.join("cgroup.procs").exists() => Ok(path.to_owned()),
        Some(path) => Err(ProbeError::NotCgroup { path: path.to_owned() }),
        None => {
            let mounts =
                fs::read_to_string("/proc/self/mountinfo").map_err(failed("read /proc/self/mountinfo"))?;
            find_cgroup(&mounts, is_whole)
        }
    }
}

/// Whether the cgroup `path` is the root of the whole tree. Its name in a mount table does not tell: that is relative to
/// the cgroup namespace, so a container's own part is `/` there.
#[must_use]
pub fn is_whole(path: &Path) -> bool {
    // The root of the tree is the only one without it.
    !path.join("cgroup.type").exists()
}

/// Whether `bpf_l4_csum_replace` takes `BPF_F_IPV6`, and then needs it: 6.16, and stable kernels that got the change.
///
/// # Errors
/// The kernel refused the trial program.
pub fn csum_ipv6_flag() -> Result<bool, ProbeError> {
    let program = sys::csum_trial().map_err(failed("BPF_PROG_LOAD of a trial program"))?;
    let answer =
        sys::test_run(program.as_fd(), &[0; 64]).map_err(failed("BPF_PROG_TEST_RUN of a trial program"))?;
    Ok(answer == 0)
}

/// Nanoseconds from one tick of the kernel's clock to the next; 0: it does not tell.
#[must_use]
pub fn tick() -> u32 {
    // The coarse clock moves on with each tick.
    let resolution = clock_getres(ClockId::MonotonicCoarse);
    if resolution.tv_sec == 0 { resolution.tv_nsec.try_into().unwrap_or_default() } else { 0 }
}

/// The cookie of the network namespace that this thread is in.
///
/// # Errors
/// The kernel refused.
pub fn netns_cookie() -> Result<u64, ProbeError> {
    let socket = UnixDatagram::unbound().map_err(failed("socket"))?;
    sys::netns_cookie(socket.as_fd()).map_err(failed("getsockopt SO_NETNS_COOKIE"))
}

fn failed(call: &'static str) -> impl FnOnce(io::Error) -> ProbeError {
    move |source| ProbeError::Syscall { call, source }
}

/// Major and minor number at the start of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The first mount in `/proc/self/mountinfo` that shows a cgroup v2 tree from its root on.
fn find_cgroup(mountinfo: &str, is_whole: impl Fn(&Path) -> bool) -> Result<PathBuf, ProbeError> {
    // Id, parent, device, root, mount point, options, any number of tags, "-", type, source, super options.
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let path = PathBuf::from(unescape(mount.split(' ').nth(4)?));
        kind.starts_with("cgroup2 ").then_some(path)
    });
    let mounts: Vec<_> = mounts.collect();
    if let Some(path) = mounts.iter().find(|path| is_whole(path)) {
        return Ok(path.clone());
    }
    Err(match mounts.into_iter().next() {
        Some(path) => ProbeError::PartialCgroup { path },
        None => ProbeError::NoCgroup,
    })
}

/// A path of mountinfo: blanks and backslashes stand there as three octal digits.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(version("6.18.44-fc-v509"), Some((6, 18)));
        assert_eq!(version("6.1.0-30-amd64"), Some((6, 1)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("linux"), None);
    }

    #[test]
    fn the_cgroup_root_is_the_mount_that_shows_all() {
        let v1 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
                  33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
        let find = |mounts: &str| find_cgroup(mounts, |path| path.ends_with("host/cgroup"));
        assert!(matches!(find(v1), Err(ProbeError::NoCgroup)));
        // A container's own, which its mount table calls the root, and the host's, beside it.
        let part = "40 31 0:38 / /run/a\\040b rw shared:7 master:2 - cgroup2 cgroup2 rw\n";
        match find(&format!("{v1}{part}")) {
            Err(ProbeError::PartialCgroup { path }) => assert_eq!(path, Path::new("/run/a b")),
            other => panic!("{other:?}"),
        }
        let whole = "41 31 0:38 /../../.. /host/cgroup rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(find(&format!("{v1}{part}{whole}")).unwrap(), Path::new("/host/cgroup"));
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused() {
        let error = cgroup_root(Some(Path::new("/proc"))).unwrap_err();
        assert_eq!(error.to_string(), "/proc is not in a cgroup v2 tree");
    }
}
