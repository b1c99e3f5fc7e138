//! `sluice link`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use lb_common::Config;
use lb_common::maps::CONFIG;
use rustix::net::netdevice::index_to_name;
use rustix::net::{AddressFamily, SocketType, socket};
use serde::Serialize;

use super::Context;
use super::args::Named;
use super::out::{Out, Row};
use super::text;
use crate::bpf::inspect::{self, Link, Target};
use crate::bpf::map::Array;
use crate::bpf::pin::PinDir;
use crate::bpf::probe;

pub(super) const EXAMPLES: &str = "\
Examples:
  sluice link          where every program is attached
  sluice -j link       the same as JSON";

/// One attachment.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct LinkRow {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    id: u32,
    /// Absent if the interface is gone, or in another network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    /// Absent if the directory is not seen from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_id: Option<u64>,
    /// Absent if the program is not pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    program_id: u32,
}

/// Names of what links refer to by number.
#[derive(Default)]
struct Names {
    progs: HashMap<u32, String>,
    interfaces: HashMap<u32, String>,
    cgroups: HashMap<u64, PathBuf>,
}

impl LinkRow {
    fn new(link: Link, names: &Names) -> Self {
        let (interface, cgroup) = (link.target.interface(), link.target.cgroup());
        Self {
            name: link.name,
            kind: match link.target {
                Target::Interface(_) => "tcx",
                Target::Driver(_) => "xdp",
                Target::Cgroup(_) => "cgroup",
                Target::Other => "other",
            },
            id: link.id,
            interface: interface.and_then(|index| names.interfaces.get(&index).cloned()),
            ifindex: interface,
            cgroup: cgroup.and_then(|id| names.cgroups.get(&id).cloned()),
            cgroup_id: cgroup,
            program: names.progs.get(&link.prog).cloned(),
            program_id: link.prog,
        }
    }

    /// What it is attached to: the name where there is one, else the number.
    fn target(&self) -> String {
        let interface = self.interface.clone().or(self.ifindex.map(|index| format!("ifindex {index}")));
        let cgroup = self.cgroup.as_ref().map(|path| path.display().to_string());
        let cgroup = cgroup.or(self.cgroup_id.map(|id| format!("cgroup {id}")));
        text::or_none(interface.or(cgroup))
    }
}

impl Row for LinkRow {
    const COLUMNS: &'static [&'static str] = &["NAME", "TYPE", "ID", "TARGET", "PROGRAM"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.kind.to_owned(),
            self.id.to_string(),
            self.target(),
            self.program.clone().unwrap_or_else(|| format!("program {}", self.program_id)),
        ]
    }
}

/// Names of the interfaces `wanted`, if the datapath serves this network namespace: elsewhere other interfaces have the
/// same numbers. Not from `/sys/class/net`, which shows the namespace that mounted it.
pub(super) fn interfaces(pins: &PinDir, wanted: impl Iterator<Item = u32>) -> HashMap<u32, String> {
    let served = Array::<Config>::open(pins, CONFIG).and_then(|config| config.get(0));
    let served = served.ok().map(|config| config.netns_cookie);
    if served.is_none() || served != probe::netns_cookie().ok() {
        return HashMap::new();
    }
    let Ok(socket) = socket(AddressFamily::INET, SocketType::DGRAM, None) else {
        return HashMap::new();
    };
    wanted.filter_map(|index| Some((index, index_to_name(&socket, index).ok()?))).collect()
}

/// Finds the directories of the cgroups `wanted` below the mounts of cgroup v2.
pub(super) fn cgroups(mounts: &str, mut wanted: Vec<u64>) -> HashMap<u64, PathBuf> {
    let mut found = HashMap::new();
    let mut dirs: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| match *line.split(' ').collect::<Vec<_>>() {
            [_, dir, "cgroup2", ..] => Some(PathBuf::from(dir)),
            _ => None,
        })
        .collect();
    while let (Some(dir), false) = (dirs.pop(), wanted.is_empty()) {
        let id = dir.metadata().map(|metadata| metadata.ino()).unwrap_or_default();
        if wanted.contains(&id) {
            wanted.retain(|wanted| *wanted != id);
            found.insert(id, dir.clone());
        }
        dirs.extend(sub_directories(&dir));
    }
    found
}

fn sub_directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

pub(super) fn run(args: &Named<String>, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
    let pins = context.datapath()?;
    let mut links = inspect::links(pins)?;
    if let Some(name) = args.name() {
        links.retain(|link| link.name == *name);
        if links.is_empty() {
            bail!("no link {name} is pinned: see `sluice link list`");
        }
    }
    let wanted = links.iter().filter_map(|link| link.target.cgroup());
    let indices = links.iter().filter_map(|link| link.target.interface());
    let names = Names {
        progs: inspect::progs(pins)?.into_iter().map(|prog| (prog.id, prog.name)).collect(),
        interfaces: interfaces(pins, indices),
        cgroups: cgroups(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), wanted.collect()),
    };
    out.list(links.into_iter().map(|link| Ok(LinkRow::new(link, &names))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::tests::documented;

    fn link(target: Target) -> Link {
        Link { name: "l".to_owned(), id: 9, prog: 7, target }
    }

    #[test]
    fn targets_and_programs_have_names_where_they_can_be_found() {
        let names = Names {
            progs: [(7, "connect4".to_owned())].into(),
            interfaces: [(3, "veth3".to_owned())].into(),
            cgroups: [(1, PathBuf::from("/sys/fs/cgroup"))].into(),
        };
        let cells = |target, names: &Names| LinkRow::new(link(target), names).cells().join(" ");
        assert_eq!(cells(Target::Interface(3), &names), "l tcx 9 veth3 connect4");
        assert_eq!(cells(Target::Driver(3), &names), "l xdp 9 veth3 connect4");
        assert_eq!(cells(Target::Cgroup(1), &names), "l cgroup 9 /sys/fs/cgroup connect4");
        assert_eq!(cells(Target::Interface(3), &Names::default()), "l tcx 9 ifindex 3 program 7");
        assert_eq!(cells(Target::Cgroup(1), &Names::default()), "l cgroup 9 cgroup 1 program 7");
        assert_eq!(cells(Target::Other, &names), "l other 9 - connect4");
        let json = serde_json::to_value(LinkRow::new(link(Target::Interface(3)), &names)).unwrap();
        assert_eq!(json, documented("link list")[0]);
    }

    #[test]
    fn cgroups_are_found_below_their_mount() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let id = deep.metadata().unwrap().ino();
        let mounts = format!("proc /proc proc rw 0 0\ncgroup2 {} cgroup2 rw 0 0\n", root.path().display());
        assert_eq!(cgroups(&mounts, vec![id, 0]), [(id, deep)].into());
    }
}
