//! Session affinity by client address.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::lab::Space;
use xtask::lab::helper::wire::Socket;

use super::jig::{Jig, clients, patiently};
use super::svc::{Place, Svc};

const PODS: [&str; 3] = ["1a", "2a", "3a"];

/// How many equal answers in a row upstream calls affinity.
const CHECKS: usize = 15;

fn answers(client: &Space, to: SocketAddr, count: usize) -> BTreeSet<String> {
    (0..count).map(|_| client.ask(Socket::Tcp, to).unwrap().pod).collect()
}

/// Waits until each of `clients` meets one pod at `place`, or several.
pub(super) fn check(svc: &Svc<'_>, clients: &[&Space], place: Place, sticky: bool) {
    for family in svc.families() {
        for client in clients {
            patiently(|| (answers(client, svc.to(place, family), CHECKS).len() == 1) == sticky)
                .unwrap_or_else(|error| panic!("sticky should be {sticky} for {}: {error}", client.netns()));
        }
    }
}

/// A Service of the type `kind` with affinity.
fn sticky<'j>(jig: &'j Jig, kind: &str, config: &Value) -> Svc<'j> {
    let name = format!("affinity-{}", kind.to_lowercase());
    let spec = json!({"type": kind, "sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
    let svc = jig.service(&name, &spec);
    jig.pods(&name, &PODS);
    for index in [0, 1] {
        svc.settle(index, &PODS);
    }
    svc
}

fn works(name: &str, kind: &str, place: Place) {
    let jig = Jig::new(name);
    check(&sticky(&jig, kind, &Value::Null), &clients(0), place, true);
}

#[test]
fn should_have_session_affinity_work_for_service_with_type_clusterip() {
    works("affinity", "ClusterIP", Place::ClusterIp);
}

#[test]
fn should_have_session_affinity_work_for_nodeport_service() {
    works("affinity-port", "NodePort", Place::NodePort(1));
}

/// Affinity of `svc` is switched off and on again.
pub(super) fn switch(svc: &mut Svc<'_>, clients: &[&Space], place: Place) {
    check(svc, clients, place, true);
    svc.update(&json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": null}}));
    check(svc, clients, place, false);
    svc.update(&json!({"spec": {"sessionAffinity": "ClientIP"}}));
    check(svc, clients, place, true);
}

#[test]
fn should_be_able_to_switch_session_affinity_for_service_with_type_clusterip() {
    let jig = Jig::new("affinity-switch");
    switch(&mut sticky(&jig, "ClusterIP", &Value::Null), &clients(0), Place::ClusterIp);
}

#[test]
fn should_be_able_to_switch_session_affinity_for_nodeport_service() {
    let jig = Jig::new("affinity-switch-port");
    switch(&mut sticky(&jig, "NodePort", &Value::Null), &clients(0), Place::NodePort(1));
}

/// Who waits longer than the timeout takes part in the rotation again.
fn times_out(name: &str, kind: &str, place: Place) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let jig = Jig::new(name);
    let svc = sticky(&jig, kind, &json!({"clientIP": {"timeoutSeconds": TIMEOUT.as_secs()}}));
    let to = svc.to(place, 0);
    let [client, _] = clients(0);
    // A machine that stood still for that long between two connections would be a new client.
    patiently(|| {
        let begun = Instant::now();
        let met = answers(client, to, CHECKS);
        begun.elapsed() < TIMEOUT / 2 && met.len() == 1
    })
    .unwrap();
    let mut met = answers(client, to, 1);
    // In the rotation the next pod is another one.
    patiently(|| {
        std::thread::sleep(TIMEOUT + Duration::from_secs(1));
        met.extend(answers(client, to, 1));
        met.len() > 1
    })
    .unwrap();
}

#[test]
fn should_have_session_affinity_timeout_work_for_service_with_type_clusterip() {
    times_out("affinity-timeout", "ClusterIP", Place::ClusterIp);
}

#[test]
fn should_have_session_affinity_timeout_work_for_nodeport_service() {
    times_out("affinity-timeout-port", "NodePort", Place::NodePort(1));
}
