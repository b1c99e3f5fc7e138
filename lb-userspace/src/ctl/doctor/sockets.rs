//! The cgroup that the socket hooks are on, and who else is on them.

use std::fs;
use std::path::Path;

use crate::bpf::hooks::{Hook, Reader};
use crate::bpf::inspect;
use crate::bpf::pin::PinDir;
use crate::bpf::probe;

use super::super::link::cgroups;
use super::{Finding, Level};

const CHECK: &str = "sockets";

pub(super) fn look(pins: &PinDir) -> anyhow::Result<Vec<Finding>> {
    let mut ids: Vec<u64> =
        inspect::links(pins)?.into_iter().filter_map(|link| link.target.cgroup()).collect();
    ids.dedup();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = cgroups(&mounts, ids.clone());
    let Some(dir) = ids.first().and_then(|id| found.get(id)) else {
        return Ok(vec![lost(!ids.is_empty())]);
    };
    let mut findings = vec![place(dir)];
    for hook in Reader::open(pins)?.of_cgroup(dir)? {
        findings.extend(company(dir, &hook));
    }
    Ok(findings)
}

/// The cgroup is not there.
fn lost(attached: bool) -> Finding {
    let found = if attached {
        "the socket hooks are on a cgroup that is not seen from here, or has been removed"
    } else {
        "the socket hooks are on no cgroup"
    };
    Finding::new(Level::Error, CHECK, found)
        .follows("processes of the host reach no Service; TCP of pods is translated per packet")
        .remedy("start the agent again, without --cgroup-root unless only a part of the tree is meant")
}

fn place(dir: &Path) -> Finding {
    let (whole, dir) = (probe::is_whole(dir), dir.display());
    if whole {
        let found = format!("the socket hooks are on {dir}, the root of the tree");
        return Finding::new(Level::Ok, CHECK, found);
    }
    Finding::new(Level::Warning, CHECK, format!("the socket hooks are on {dir}, a part of the cgroup tree"))
        .follows(format!(
            "sockets of processes outside {dir} are not translated: such processes of the host reach no Service"
        ))
        .remedy("unless that is meant, start the agent without --cgroup-root")
}

/// Foreign programs on a hook of ours.
fn company(dir: &Path, hook: &Hook) -> Vec<Finding> {
    let Some(around) = hook.around() else {
        return vec![
            Finding::new(Level::Error, CHECK, format!("{} is not on {}", hook.name, dir.display()))
                .follows("such calls of sockets are not translated")
                .remedy("start the agent again: it attaches what is missing"),
        ];
    };
    let names = around.concat().into_iter().map(|program| format!("{} (id {})", program.name, program.id));
    names
        .map(|name| {
            Finding::new(Level::Note, CHECK, format!("the program {name} is on {} as well", hook.name))
                .follows("a call that it refuses fails; an address that both translate is the last one's")
                .remedy("if it belongs to another load balancer, remove that one")
        })
        .collect()
}
