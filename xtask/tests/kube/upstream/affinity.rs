//! Session affinity by client address.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use xtask::lab::Space;
use xtask::lab::helper::wire::Socket;

use super::jig::{Jig, clients, patiently};
use super::svc::Svc;

const PODS: [&str; 3] = ["1a", "2a", "3a"];

/// How many equal answers in a row upstream calls affinity.
const CHECKS: usize = 15;

fn answers(client: &Space, to: SocketAddr, count: usize) -> BTreeSet<String> {
    (0..count).map(|_| client.ask(Socket::Tcp, to).unwrap().pod).collect()
}

/// Waits until the clients of the first machine meet one pod each, or several.
fn check(svc: &Svc<'_>, sticky: bool) {
    for family in svc.families() {
        for client in clients(0) {
            patiently(|| (answers(client, svc.at(family, 80), CHECKS).len() == 1) == sticky)
                .unwrap_or_else(|error| panic!("sticky should be {sticky} for {}: {error}", client.netns()));
        }
    }
}

#[test]
fn should_have_session_affinity_work_for_service_with_type_clusterip() {
    let jig = Jig::new("affinity");
    let svc = jig.service("affinity-clusterip", &json!({"sessionAffinity": "ClientIP"}));
    jig.pods("affinity-clusterip", &PODS);
    svc.settle(0, &PODS);
    check(&svc, true);
}

#[test]
fn should_be_able_to_switch_session_affinity_for_service_with_type_clusterip() {
    let jig = Jig::new("affinity-switch");
    let mut svc = jig.service("affinity-clusterip-transition", &json!({"sessionAffinity": "ClientIP"}));
    jig.pods("affinity-clusterip-transition", &PODS);
    svc.settle(0, &PODS);
    check(&svc, true);
    svc.update(&json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": null}}));
    check(&svc, false);
    svc.update(&json!({"spec": {"sessionAffinity": "ClientIP"}}));
    check(&svc, true);
}

#[test]
fn should_have_session_affinity_timeout_work_for_service_with_type_clusterip() {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let jig = Jig::new("affinity-timeout");
    let config = json!({"clientIP": {"timeoutSeconds": TIMEOUT.as_secs()}});
    let svc = jig.service(
        "affinity-clusterip-timeout",
        &json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}),
    );
    jig.pods("affinity-clusterip-timeout", &PODS);
    svc.settle(0, &PODS);
    let to = svc.at(0, 80);
    let [client, _] = clients(0);
    // A machine that stood still for ten seconds between two connections would be a new client.
    patiently(|| {
        let begun = Instant::now();
        let met = answers(client, to, CHECKS);
        begun.elapsed() < TIMEOUT / 2 && met.len() == 1
    })
    .unwrap();
    let mut met = answers(client, to, 1);
    // Whoever waits longer than the timeout takes part in the rotation again, where the next pod is another one.
    patiently(|| {
        std::thread::sleep(TIMEOUT + Duration::from_secs(1));
        met.extend(answers(client, to, 1));
        met.len() > 1
    })
    .unwrap();
}
