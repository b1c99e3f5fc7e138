//! The uplinks: whether native XDP serves them, or tc alone.

use crate::bpf::hooks::Reader;
use crate::bpf::pin::PinDir;
use crate::net::watch::Network;
use crate::status::{StatusFile, Xdp};

use super::{Finding, Level};

const CHECK: &str = "xdp";

pub(super) fn look(pins: &PinDir, network: &Network) -> anyhow::Result<Vec<Finding>> {
    let Some(status) = StatusFile::of(pins.root())?.read()? else { return Ok(Vec::new()) };
    let reader = Reader::open(pins)?;
    let ours = |name: &str| {
        let interface = network.interfaces.values().find(|interface| interface.name == name);
        interface.and_then(|interface| interface.xdp).is_some_and(|id| reader.is_ours(id))
    };
    Ok(status.xdp.iter().map(|xdp| judge(xdp, ours(&xdp.interface))).collect())
}

/// What the agent says of an uplink; `ours`: whether our program is there now.
fn judge(xdp: &Xdp, ours: bool) -> Finding {
    let name = &xdp.interface;
    match (&xdp.why, ours) {
        (None, true) => Finding::new(Level::Ok, CHECK, format!("{name} is served by native XDP")),
        (None, false) => Finding::new(
            Level::Warning,
            CHECK,
            format!("the program that the agent attached to {name} is not there any more"),
        )
        .follows("tc alone serves what comes by it: slower, nothing is lost")
        .remedy("start the agent again: it attaches what is missing"),
        (Some(why), _) => {
            let finding = Finding::new(Level::Note, CHECK, format!("{name} is served by tc alone: {why}"))
                .follows(
                    "what only passes through this node, to endpoints of others, is slower than it could be",
                );
            match &xdp.remedy {
                Some(remedy) => finding.remedy(remedy.clone()),
                None => finding,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_an_uplink_is_compared_with_what_is_there() {
        let native = Xdp { interface: "eth0".to_owned(), native: true, ..Xdp::default() };
        assert_eq!(judge(&native, true).level, Level::Ok);
        assert_eq!(judge(&native, false).level, Level::Warning);
        let (why, remedy) = (Some("taken".to_owned()), Some("give it back".to_owned()));
        let finding = judge(&Xdp { native: false, why, remedy, ..native }, false);
        assert_eq!((finding.level, finding.remedy.as_deref()), (Level::Note, Some("give it back")));
        assert_eq!(finding.found, "eth0 is served by tc alone: taken");
    }
}
