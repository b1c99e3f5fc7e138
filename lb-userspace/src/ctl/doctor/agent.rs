//! The agent, and what it could not do.

use crate::bpf::pin::{Holder, PinDir};
use crate::status::{Status, StatusFile};

use super::{Finding, Level};

const CHECK: &str = "agent";

pub(super) fn look(pins: &PinDir) -> anyhow::Result<Vec<Finding>> {
    let holder = pins.holder();
    let status = StatusFile::of(pins.root())?.read()?;
    let mut findings = vec![alive(pins, pins.base().exists(), holder, status.as_ref())];
    findings.extend(status.into_iter().flat_map(|status| status.problems).map(|problem| {
        Finding::new(Level::Warning, CHECK, problem.to_string())
            .follows("what it names is left out, or stays as it was before; everything else goes on")
            .remedy("mend what it names: the agent follows the change by itself")
    }));
    Ok(findings)
}

fn alive(pins: &PinDir, installed: bool, holder: Option<Holder>, status: Option<&Status>) -> Finding {
    let synced = holder.zip(status).is_some_and(|(holder, status)| status.synced_by(holder.pid));
    match (holder, installed) {
        (Some(holder), _) if synced => {
            Finding::new(Level::Ok, CHECK, format!("running, {holder}, synchronised"))
        }
        (Some(holder), _) => Finding::new(Level::Warning, CHECK, format!("running, {holder}, not synchronised yet"))
            .follows("nothing is changed until everything has been read: new Services do not work yet")
            .remedy("wait; if it stays so, read the agent's log"),
        (None, true) => Finding::new(Level::Warning, CHECK, "not running")
            .follows(
                "the datapath goes on with what it was told last: changes of Services and endpoints do not reach it, \
                 new pods are not served, ended flows stay",
            )
            .remedy("start the agent with this --pin-dir"),
        (None, false) => {
            Finding::new(Level::Error, CHECK, format!("no datapath is installed under {}", pins.root().display()))
                .follows("no Service works through Sluice")
                .remedy("start the agent, or name its --pin-dir")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::tests::NOBODY;

    #[test]
    fn the_agent_is_judged_by_lock_and_status() {
        let pins = PinDir::new("/sys/fs/bpf/x");
        let level = |installed, holder, synced| {
            let status = Status { synced, ..Status::default() };
            alive(&pins, installed, holder, Some(&status)).level
        };
        for holder in [Holder { pid: Some(NOBODY) }, Holder { pid: None }] {
            assert_eq!(level(true, Some(holder), true), Level::Ok);
            assert_eq!(level(true, Some(holder), false), Level::Warning);
        }
        assert_eq!(level(true, None, true), Level::Warning);
        assert_eq!(level(false, None, true), Level::Error);
    }
}
