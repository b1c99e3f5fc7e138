//! What the tables hold: how full they are, which Services cannot answer, what was dropped.

use lb_common::maps::{self, MapKind, Sizing};
use lb_common::{Effect, Reason};

use super::super::text;
use super::super::view::{Service, View};
use super::{Finding, Level, counted};
use crate::bpf::inspect;
use crate::bpf::pin::PinDir;
use crate::counts::flows::{Fill, read_living};
use crate::counts::maps::{entries, reasons};

const CHECK: &str = "tables";
/// Services that are named; of the others only the number.
const NAMED: usize = 10;

pub(super) fn look(pins: &PinDir) -> anyhow::Result<Vec<Finding>> {
    let (mut memory, mut findings) = (0, Vec::new());
    for spec in maps::ALL {
        let map = inspect::map(pins, spec.name)?;
        memory += map.memory.unwrap_or_default();
        // The flow tables have a count of their own, and what may be evicted is meant to be full.
        if matches!(spec.kind, MapKind::Hash | MapKind::LpmTrie) && spec.sizing == Sizing::Services {
            let entries = entries(pins, spec.name)?.unwrap_or_default() as u64;
            findings.extend(fullness(spec.name, entries, map.capacity, "--max-services"));
        }
    }
    let (_, fills) = read_living(pins)?;
    for Fill { name, entries, capacity } in fills {
        if [maps::FLOWS4, maps::FLOWS6].contains(&name) {
            findings.extend(fullness(name, entries, capacity, "--max-flows"));
        }
    }
    findings.push(Finding::new(Level::Ok, CHECK, format!("the maps take {}", text::memory(memory))));
    let view = View::read(pins)?;
    findings.extend(unanswered(view.in_namespace(None).into_iter().map(|(_, service)| service)));
    let dropping = Reason::ALL.iter().zip(reasons(pins)?).filter(|(it, _)| it.effect() == Effect::Drop);
    findings.extend(dropping.filter_map(|(reason, count)| dropped(*reason, count)));
    Ok(findings)
}

fn fullness(name: &str, entries: u64, capacity: u32, flag: &str) -> Option<Finding> {
    let capacity = u64::from(capacity);
    let (level, word) = if entries >= capacity {
        (Level::Error, "full")
    } else if entries * 10 >= capacity * 9 {
        (Level::Warning, "nearly full")
    } else {
        return None;
    };
    let follows = if flag == "--max-flows" {
        "new connections go to the small table beside it, whose entries may be evicted; established ones are not touched"
    } else {
        "Services that do not fit are left out whole; those that are there go on"
    };
    Some(
        Finding::new(level, CHECK, format!("{name} is {word}: {entries} of {capacity} entries"))
            .follows(follows)
            .remedy(format!("stop the agent, `sluice cleanup`, start it with a larger {flag}")),
    )
}

fn unanswered<'a>(services: impl Iterator<Item = &'a Service>) -> Option<Finding> {
    let names: Vec<String> = services
        .filter(|service| service.cluster == 0)
        .map(|Service { name, .. }| {
            let proto = super::super::view::proto_text(name.proto);
            let port = text::port(&name.port_name, name.port, &proto);
            let family = super::super::view::family_text(name.family);
            format!("{}/{} {port} {family}", name.namespace, name.name)
        })
        .collect();
    let more = names.len().saturating_sub(NAMED);
    let mut shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    (!names.is_empty()).then(|| {
        let ports = counted(names.len(), "Service port");
        Finding::new(Level::Warning, CHECK, format!("{ports} without a usable endpoint: {shown}"))
            .follows("connections to them are refused")
            .remedy(
                "look at readiness and labels of the pods: `sluice service show NS/NAME`, the EndpointSlices",
            )
    })
}

fn dropped(reason: Reason, count: u64) -> Option<Finding> {
    let level = match reason {
        Reason::FlowTableFull | Reason::SnatPortsExhausted | Reason::InconsistentTables => Level::Warning,
        _ => Level::Note,
    };
    (count > 0).then(|| {
        let packets = counted(usize::try_from(count).unwrap_or(usize::MAX), "packet");
        Finding::new(level, CHECK, format!("{packets} dropped as {}", reason.name()))
            .follows(reason.text())
            .remedy(format!("`sluice event --reason {}` shows whose they are", reason.name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_judged_by_their_fill() {
        let level = |entries| fullness("flows4", entries, 100, "--max-flows").map(|finding| finding.level);
        assert_eq!([level(89), level(90), level(100)], [None, Some(Level::Warning), Some(Level::Error)]);
    }

    #[test]
    fn drops_are_told_if_there_were_any() {
        assert_eq!(dropped(Reason::FlowBusy, 0), None);
        assert_eq!(dropped(Reason::FlowBusy, 1).unwrap().found, "1 packet dropped as flow_busy");
        assert_eq!(dropped(Reason::FlowTableFull, 2).unwrap().level, Level::Warning);
    }
}
