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
    let finding = |xdp: &Xdp| {
        let interface = network.interfaces.values().find(|interface| interface.name == xdp.interface);
        let ours = interface.and_then(|interface| interface.xdp).is_some_and(|id| reader.is_ours(id));
        judge(xdp, ours, interface.is_some_and(|interface| interface.veth))
    };
    Ok(status.xdp.iter().map(finding).collect())
}

/// What the agent says of an uplink; `ours`: whether our program is there now; `veth`: whether it is an end of a veth pair.
fn judge(xdp: &Xdp, ours: bool, veth: bool) -> Finding {
    let name = &xdp.interface;
    match (&xdp.why, ours) {
        (None, true) if veth => Finding::new(
            Level::Note,
            CHECK,
            format!("{name} is served by native XDP, and an end of a veth pair; the other cannot be seen from here"),
        )
        .follows("if that leaves checksums unfinished, what XDP sends on arrives damaged")
        .remedy("`ethtool -K OTHER-END tx off`, in its network namespace, unless that is done; or --xdp off"),
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
        assert_eq!(judge(&native, true, false).level, Level::Ok);
        assert_eq!(judge(&native, false, false).level, Level::Warning);
        let veth = judge(&native, true, true);
        assert!(veth.level == Level::Note && veth.remedy.is_some_and(|remedy| remedy.contains("tx off")));
        let (why, remedy) = (Some("taken".to_owned()), Some("give it back".to_owned()));
        let finding = judge(&Xdp { native: false, why, remedy, ..native }, false, false);
        assert_eq!((finding.level, finding.remedy.as_deref()), (Level::Note, Some("give it back")));
        assert_eq!(finding.found, "eth0 is served by tc alone: taken");
    }
}
