//! Control groups of the lab: a tree of its own in the cgroup v2 hierarchy, wherever that is mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::wait_for;

/// Where the cgroup v2 hierarchy is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1.
///
/// # Errors
/// When no such mount is listed in `/proc/self/mountinfo`.
pub(super) fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    match mounts.lines().find_map(cgroup2_target) {
        Some(target) => Ok(PathBuf::from(target)),
        None => bail!("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

/// The mount point that a line of mountinfo names, if it is one of cgroup v2 (proc(5): optional fields end at `-`).
fn cgroup2_target(line: &str) -> Option<&str> {
    let (mount, source) = line.split_once(" - ")?;
    if source.split(' ').next() != Some("cgroup2") {
        return None;
    }
    mount.split(' ').nth(4)
}

/// Makes the group `path` and its parents; one that exists is fine.
///
/// # Errors
/// When the hierarchy is read-only or not delegated to this user.
pub(super) fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make the control group {}", path.display()))
}

/// Ends every process of the group and of the groups below it, and removes them all. A group that is absent is fine.
///
/// They are ended again until the group has gone: a process whose parent was killed between `fork` and the child's
/// entry into the group comes in late.
///
/// # Errors
/// When a group cannot be removed within a minute.
pub(super) fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let end = || fs::write(path.join("cgroup.kill"), "1");
    end().with_context(|| format!("end the processes of {}", path.display()))?;
    wait_for(Duration::from_secs(60), || remove_tree(path).is_ok() || end().is_err() && !path.exists())
        .with_context(|| format!("remove the control group {}", path.display()))
}

/// Removes a tree of groups, leaves first: their files cannot be unlinked, so `remove_dir_all` does not work here.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::cgroup2_target;

    #[test]
    fn the_version_2_mount_is_found_among_others() {
        let v1 = "35 32 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        let v2 = "34 32 0:28 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_target(v1), None);
        assert_eq!(cgroup2_target(v2), Some("/sys/fs/cgroup/unified"));
    }
}
