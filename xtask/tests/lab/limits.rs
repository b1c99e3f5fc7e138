//! Limits on new flows.

use std::time::Duration;

use serde_json::json;
use xtask::lab::helper::wire::Socket;
use xtask::lab::manifest::{list, service};
use xtask::lab::wait_for;

use crate::support::{Mode, SOON, Svc, WAYS, Way, World};

/// How long it may take until two flows have begun within a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes the Service with this limit, and waits until it is shown.
fn limit(svc: &Svc<'_>, rate: &str, shown: &serde_json::Value) {
    let mut object = service(&svc.name, &svc.addresses, &svc.ports);
    object["metadata"]["annotations"] = json!({"lb.sluice/new-flow-rate": rate});
    let [v4, v6] = svc.slices(&[&svc.world.a]);
    svc.world.node.write(&svc.file(), &list(&[object, v4, v6])).unwrap();
    wait_for(SOON, || {
        let ports = svc.world.node.sluice_json(&["service", "show", &svc.name]).unwrap();
        ports.as_array().unwrap().iter().all(|port| port["new_flow_rate"] == *shown)
    })
    .unwrap();
}

/// How often packets have left with this reason.
fn counted(world: &World, reason: &str) -> u64 {
    let stats = world.node.sluice_json(&["stats"]).unwrap();
    let rows = stats["reasons"].as_array().unwrap();
    rows.iter().filter(|row| row["reason"] == reason).filter_map(|row| row["count"].as_u64()).sum()
}

/// Opens connections, each of which succeeds, if only by its second SYN, until one was too many.
fn too_many(svc: &Svc<'_>, way: Way, reason: &str) {
    let before = counted(svc.world, reason);
    wait_for(PATIENCE, || {
        svc.world.client.open(Socket::Tcp, Some(svc.at(way))).unwrap();
        counted(svc.world, reason) > before
    })
    .unwrap();
}

#[test]
fn a_service_has_so_many_new_flows_a_second() {
    let world = World::new("limits", Mode::Host, &[]);
    let svc = world.service("limited", &[&world.a]);
    let beside = world.service("beside", &[&world.b]);
    let tcp = WAYS.into_iter().filter(|way| way.socket == Socket::Tcp);
    let open: Vec<_> =
        tcp.clone().map(|way| world.client.open(way.socket, Some(svc.at(way))).unwrap()).collect();
    limit(&svc, "1", &json!(1));
    for way in tcp {
        too_many(&svc, way, "service_flow_limit");
    }
    for conversation in &open {
        conversation.ask().unwrap();
    }
    let before = counted(&world, "service_flow_limit");
    for way in WAYS {
        beside.ask(&world.client, way).unwrap();
    }
    // What cannot be read is no limit, and its owner is told.
    limit(&svc, "1/s", &json!(null));
    let problems = || world.node.sluice_json(&["status"]).unwrap()["problems"].to_string();
    wait_for(SOON, || problems().contains("new-flow-rate is `1/s`")).unwrap();
    for _ in 0..8 {
        for way in WAYS {
            svc.ask(&world.client, way).unwrap();
        }
    }
    assert_eq!(counted(&world, "service_flow_limit"), before);
}

#[test]
fn a_cpu_begins_so_many_flows_a_second() {
    let world = World::new("paced", Mode::Host, &["--new-flow-rate", "1"]);
    let svc = world.service("any", &[&world.a]);
    too_many(&svc, WAYS[0], "new_flow_limit");
}
