//! A container without a container engine: what the engine does with the namespaces that `unshare` has made.

use std::fs;
use std::io::{Read, stdin};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs};
use serde::{Deserialize, Serialize};

/// What the helper is told, as JSON on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Container {
    /// The folder with the files of the image; it is not written to but for the folders that are mounted over.
    pub root: PathBuf,
    /// Whether nothing can be written to it.
    pub read_only: bool,
    /// What is mounted below, in this order.
    pub mounts: Vec<Mount>,
    /// `CAP_` names without their prefix; `None`: privileged.
    pub capabilities: Option<Vec<String>>,
    /// The environment, all of it.
    pub env: Vec<(String, String)>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// A folder or file that a container sees.
#[derive(Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is outside.
    pub from: PathBuf,
    /// Where it is inside.
    pub to: PathBuf,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// Whether what is mounted inside it shows outside, too.
    pub bidirectional: bool,
}

/// Becomes the program of the container that standard input describes. The caller is alone in its namespaces of mounts,
/// processes and control groups, whose mounts still have the propagation that they have outside.
pub(super) fn become_container() -> Result<()> {
    let mut text = String::new();
    stdin().read_to_string(&mut text).context("read the container")?;
    let container: Container = serde_json::from_str(&text).context("a container")?;
    container.mount()?;
    if let Some(kept) = &container.capabilities {
        keep(kept)?;
    }
    let Some((program, arguments)) = container.command.split_first() else { bail!("no program named") };
    let error = Command::new(program).args(arguments).env_clear().envs(container.env).exec();
    Err(error).with_context(|| format!("start {program}"))
}

impl Container {
    /// Makes the root of the container this process's, with nothing else in sight.
    fn mount(&self) -> Result<()> {
        let root = self.root.as_path();
        // Taken before propagation ends: such a copy goes on passing mounts to where it is from.
        let trees = self.mounts.iter().map(|mount| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::AT_RECURSIVE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, &mount.from, flags).with_context(|| format!("open_tree {}", mount.from.display()))
        });
        let trees: Vec<_> = trees.collect::<Result<_>>()?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).context("end the propagation of mounts")?;
        mount_bind(root, root).with_context(|| format!("bind {}", root.display()))?;

        let system = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let settings = if self.capabilities.is_some() { system | MountFlags::RDONLY } else { system };
        let kinds = [
            ("proc", "proc", system),
            ("sysfs", "sys", settings),
            ("cgroup2", "sys/fs/cgroup", settings),
            ("tmpfs", "dev", MountFlags::NOSUID | MountFlags::NOEXEC),
        ];
        for (kind, to, flags) in kinds {
            mount(kind, root.join(to), kind, flags, None).with_context(|| format!("mount {kind} on {to}"))?;
        }
        for (device, to) in self.mounts.iter().zip(trees) {
            device.attach(root, to.as_fd())?;
        }
        if self.capabilities.is_some() {
            // As engines do it where a container is not privileged.
            read_only(&root.join("proc/sys"))?;
        }
        if self.read_only {
            mount_remount(root, MountFlags::BIND | MountFlags::RDONLY, "")
                .context("make the root read-only")?;
        }
        chdir(root).context("enter the root")?;
        // The former root lies over the new one until it is taken away.
        pivot_root(".", ".").context("pivot_root")?;
        unmount(".", UnmountFlags::DETACH).context("leave the former root")?;
        chdir("/").context("enter the new root")
    }
}

impl Mount {
    fn attach(&self, root: &Path, tree: rustix::fd::BorrowedFd<'_>) -> Result<()> {
        let to = root.join(self.to.strip_prefix("/").unwrap_or(&self.to));
        let made = match (self.from.is_dir(), to.parent()) {
            (true, _) => fs::create_dir_all(&to),
            (false, Some(parent)) => fs::create_dir_all(parent).and_then(|()| fs::write(&to, "")),
            (false, None) => Ok(()),
        };
        made.with_context(|| format!("make {}", to.display()))?;
        move_mount(tree, "", CWD, &to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .with_context(|| format!("move_mount to {}", to.display()))?;
        if !self.bidirectional {
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change(&to, private).with_context(|| format!("keep mounts in {}", to.display()))?;
        }
        if self.read_only { read_only(&to) } else { Ok(()) }
    }
}

/// Makes `path` a mount that cannot be written to.
fn read_only(path: &Path) -> Result<()> {
    mount_bind(path, path)
        .and_then(|()| mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, ""))
        .with_context(|| format!("make {} read-only", path.display()))
}

/// Gives up all capabilities but these, for good: what root becomes with its next program is bounded by them.
fn keep(names: &[String]) -> Result<()> {
    for name in names {
        if CapabilitySet::from_name(name).is_none() {
            bail!("there is no capability {name}");
        }
    }
    for (name, capability) in CapabilitySet::all().iter_names() {
        if !names.iter().any(|kept| kept == name) {
            // Those that the kernel does not know, or that this process has no more, are gone in any case.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    set_no_new_privs(true).context("set no_new_privs")
}
