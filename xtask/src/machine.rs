//! What the machine itself must offer before a verb that runs the datapath builds anything.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// The oldest kernel that the agent starts on: pods are served through tcx, which came with it.
const OLDEST: (u32, u32) = (6, 6);

/// Whether this process may install packages, make namespaces and load programs.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Refuses a machine on which the datapath cannot run, naming all that it lacks.
///
/// # Errors
/// One line: not root, kernel too old or without BTF, no cgroup v2 hierarchy.
pub fn check(verb: &str) -> Result<()> {
    let mut lacks = Vec::new();
    if !is_root() {
        lacks.push("root (it makes network namespaces and loads programs into the kernel)".to_owned());
    }
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    if is_too_old(&release) {
        lacks.push(format!("a kernel from {}.{} on (this is {release})", OLDEST.0, OLDEST.1));
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        lacks.push("a kernel with BTF (/sys/kernel/btf/vmlinux is not there)".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if !mounts.lines().any(|mount| mount.split(' ').nth(2) == Some("cgroup2")) {
        lacks.push("a mounted cgroup v2 hierarchy".to_owned());
    }
    if !lacks.is_empty() {
        bail!("{verb} needs {}", lacks.join("; "));
    }
    Ok(())
}

fn is_too_old(release: &str) -> bool {
    version(release).is_none_or(|found| found < OLDEST)
}

/// Major and minor number of a release such as `6.1.0-44-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_as_distributions_write_them() {
        assert_eq!(version("6.1.0-44-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.5"), Some((6, 18)));
        assert_eq!(version("5.15-generic"), Some((5, 15)));
        assert_eq!(version("unknown"), None);
        for (release, expected) in [("6.5.13", true), ("6.6.0-1-amd64", false), ("unknown", true)] {
            assert_eq!(is_too_old(release), expected, "{release}");
        }
    }
}
