//! Pods of every node are replaced one after the other while a client outside asks their load balancer.

use serde_json::json;
use xtask::lab::helper::wire::Load;

use super::cloud::{another, service};
use super::jig::{Jig, spot};
use super::svc::Place;

/// How much upstream wants to succeed, of 100.
const WANTED: usize = 95;

fn rolling(name: &str, policy: &str) {
    const NODES: [usize; 3] = [0, 1, 2];
    let jig = Jig::new(name);
    let svc = service(&jig, "test-lb-rolling-update", json!({"externalTrafficPolicy": policy}));
    let local = policy == "Local";
    let place = |node: usize, round: usize| SPOTS[node][round % 2];
    let mut pods = NODES.map(|node| jig.pod(&format!("pod-{node}-0"), spot(place(node, 0)), &svc.name));
    let mut there = NODES.map(|node| place(node, 0));
    // With a Local policy the load balancer asks who is healthy, and what terminates serves on; with the other one every
    // machine is as good.
    let settle = |there: &[&'static str], healthy: &[usize]| {
        if !local || there.len() == NODES.len() {
            NODES.iter().for_each(|node| svc.settle(*node, there));
        }
        if local {
            svc.leads_to_healthy(healthy);
        }
    };
    settle(&there, &NODES);
    let client = another(name);
    let to = svc.to(Place::Balancer, 0);
    client.start_load(Load { to, clients: 2, rate: 100 }).unwrap();
    for round in 1..=2 {
        for node in NODES {
            let others: Vec<_> = NODES.into_iter().filter(|other| *other != node).collect();
            let mut rest = there.to_vec();
            rest.remove(node);
            pods[node].terminate();
            settle(&rest, &others);
            pods[node].delete();
            there[node] = place(node, round);
            pods[node] = jig.pod(&format!("pod-{node}-{round}"), spot(there[node]), &svc.name);
            settle(&there, &NODES);
        }
    }
    let report = client.stop_load().unwrap();
    let (sent, failed) = (report.sent(), report.failed.len());
    assert!(
        sent > 20 && failed * 100 <= sent * (100 - WANTED),
        "{failed} of {sent}: {:?}",
        report.failed.first()
    );
    // Where no packet is led elsewhere meanwhile none is lost.
    assert!(local || failed == 0, "{failed} of {sent}: {:?}", report.failed.first());
}

/// The places of pods on each machine.
const SPOTS: [[&str; 2]; 3] = [["1a", "1b"], ["2a", "2b"], ["3a", "3b"]];

#[test]
fn should_not_have_connectivity_disruption_during_rolling_update_with_externaltrafficpolicy_cluster() {
    rolling("lb-rolling", "Cluster");
}

#[test]
fn should_not_have_connectivity_disruption_during_rolling_update_with_externaltrafficpolicy_local() {
    rolling("lb-rolling-local", "Local");
}
