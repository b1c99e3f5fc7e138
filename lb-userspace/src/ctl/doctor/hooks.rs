//! The interfaces: which are served, and who else is on their hooks.

use std::collections::BTreeMap;

use crate::bpf::attach::Class;
use crate::bpf::hooks::{Attached, Hook, Reader};
use crate::bpf::inspect;
use crate::bpf::pin::PinDir;
use crate::net::interface::Interface;
use crate::net::watch::Network;

use super::super::unserved;
use super::{Finding, Level};

const CHECK: &str = "hooks";

pub(super) fn look(pins: &PinDir, network: &Network) -> anyhow::Result<Vec<Finding>> {
    let reader = Reader::open(pins)?;
    let served: BTreeMap<u32, Class> = inspect::links(pins)?
        .into_iter()
        .filter_map(|link| Some((link.target.interface()?, Class::of_link(&link.name)?)))
        .filter(|(_, class)| matches!(class, Class::Pods | Class::Outward))
        .collect();
    let here: Vec<(u32, &Interface)> =
        network.interfaces.iter().map(|(index, interface)| (*index, interface)).collect();
    let mut findings = vec![coverage(&here, &served)];
    let unserved = unserved::read(pins)?;
    if !unserved.is_empty() {
        let found = format!("endpoints are behind interfaces that are not served: {}", unserved.join(", "));
        findings.push(
            Finding::new(Level::Warning, CHECK, found)
                .follows("clients outside have no answer from them")
                .remedy("name the interfaces with --uplinks, --overlays or --pod-interfaces"),
        );
    }
    for (index, interface) in here {
        if let Some(class) = served.get(&index) {
            for hook in reader.of_interface(index, &interface.name, *class)? {
                findings.extend(company(&interface.name, &hook));
            }
        }
    }
    Ok(findings)
}

fn coverage(here: &[(u32, &Interface)], served: &BTreeMap<u32, Class>) -> Finding {
    let names = |wanted: bool| {
        let names = here.iter().filter(|(index, interface)| {
            !interface.inner && served.contains_key(index) == wanted && (wanted || interface.veth)
        });
        names.map(|(_, interface)| interface.name.as_str()).collect::<Vec<_>>()
    };
    let (with, without) = (names(true), names(false));
    if with.is_empty() {
        Finding::new(Level::Warning, CHECK, "no interface of this network namespace is served")
            .follows("pods here reach no Service")
            .remedy(
                "run `sluice doctor` in the network namespace of the agent; if it is this one, --pod-interfaces must \
                 match the names of the interfaces that pods are behind",
            )
    } else if without.is_empty() {
        Finding::new(Level::Ok, CHECK, format!("{} interfaces are served", with.len()))
    } else {
        Finding::new(Level::Note, CHECK, format!("not served: {}", without.join(", ")))
            .follows("if pods are behind them, those reach no Service")
            .remedy("have --pod-interfaces match their names")
    }
}

/// Foreign programs on a hook of ours.
fn company(interface: &str, hook: &Hook) -> Vec<Finding> {
    let Some([before, behind]) = hook.around() else {
        return vec![
            Finding::new(Level::Error, CHECK, format!("{} is not on {interface}", hook.name))
                .follows("packets of the pods behind it are not translated")
                .remedy("start the agent again: it attaches what is missing"),
        ];
    };
    let mut findings = Vec::new();
    if !before.is_empty() {
        let found = format!("on {interface}, {} runs before {}", list(&before), hook.name);
        findings.push(
            Finding::new(Level::Warning, CHECK, found)
                .follows("what it ends with another verdict than TCX_NEXT (-1), Sluice never sees: no translation")
                .remedy("attach it behind Sluice, or have it return TCX_NEXT; a restart of the agent changes no order"),
        );
    }
    if !behind.is_empty() {
        let found = format!("on {interface}, {} runs behind {}", list(&behind), hook.name);
        findings.push(Finding::new(Level::Note, CHECK, found).follows(
            "it sees packets as Sluice leaves them, but none that are sent back: refusals, hairpins",
        ));
    }
    findings
}

fn list(programs: &[&Attached]) -> String {
    let names = programs.iter().map(|program| format!("{} (id {})", program.name, program.id));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_before_ours_is_a_danger_and_one_behind_it_is_not() {
        let program = |name: &str, ours| Attached { id: 9, name: name.to_owned(), ours };
        let levels = |programs: &[Attached]| {
            let hook = Hook { name: "pod_ingress", programs: programs.to_vec() };
            company("veth0", &hook).into_iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        let (cni, own) = (program("cni", false), program("pod_ingress", true));
        assert_eq!(levels(std::slice::from_ref(&own)), []);
        assert_eq!(levels(&[cni.clone(), own.clone()]), [Level::Warning]);
        assert_eq!(levels(&[own, cni.clone()]), [Level::Note]);
        assert_eq!(levels(&[cni]), [Level::Error]);
    }

    #[test]
    fn interfaces_that_are_not_served_are_named() {
        let veth = |name: &str| Interface { name: name.to_owned(), veth: true, ..Interface::default() };
        let (a, b) = (veth("veth-a"), veth("other-b"));
        let level = |served: &[u32]| {
            coverage(&[(2, &a), (3, &b)], &served.iter().map(|index| (*index, Class::Pods)).collect()).level
        };
        assert_eq!([level(&[2, 3]), level(&[2]), level(&[])], [Level::Ok, Level::Note, Level::Warning]);
    }
}
