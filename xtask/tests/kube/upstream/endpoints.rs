//! Which pods are endpoints, and at which ports.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use xtask::lab::helper::wire::Socket;

use super::jig::{Jig, TARGETS, clients, node, port, spot};
use super::svc::{Place, reach, refused};
use crate::dns;
use crate::support::cluster;

#[test]
fn should_create_endpoints_for_unready_pods() {
    let jig = Jig::new("unready");
    let mut svc = jig.service("tolerate-unready", &json!({"publishNotReadyAddresses": true}));
    let pod = jig.unready_pod("slow-terminating-unready-pod", spot("2a"), &svc.name);
    svc.up(0, &["2a"]);
    dns::reach(0, &jig.name_of(&svc.name), &["2a"]);
    pod.terminate();
    svc.update(&json!({"spec": {"publishNotReadyAddresses": false}}));
    svc.refused(0);
    svc.update(&json!({"spec": {"publishNotReadyAddresses": true}}));
    svc.up(0, &["2a"]);
}

#[test]
fn should_be_able_to_connect_to_terminating_and_unready_endpoints_if_publishnotreadyaddresses_is_true() {
    let jig = Jig::new("publish");
    let svc =
        jig.service("svc-tolerate-unready", &json!({"type": "NodePort", "publishNotReadyAddresses": true}));
    let pod = jig.pod("webserver-pod", spot("1a"), &svc.name);
    svc.up(1, &["1a"]);
    pod.terminate();
    pod.ready(false);
    jig.wait_endpoint(&svc.name, &|it| {
        let is = &it["conditions"];
        is["terminating"] == true && is["serving"] == false && is["ready"] == true
    });
    for index in [0, 1] {
        jig.barrier(index);
    }
    svc.up(1, &["1a"]);
    for (index, family) in svc.families().into_iter().flat_map(|family| [(0, family), (1, family)]) {
        reach(clients(1)[0], Socket::Tcp, svc.to(Place::NodePort(index), family), &["1a".to_owned()].into());
    }
}

#[test]
fn should_not_be_able_to_connect_to_terminating_and_unready_endpoints_if_publishnotreadyaddresses_is_false() {
    let jig = Jig::new("publish-not");
    let svc = jig.service("svc-not-tolerate-unready", &json!({"type": "NodePort"}));
    let pod = jig.pod("webserver-pod", spot("1a"), &svc.name);
    svc.up(1, &["1a"]);
    pod.terminate();
    pod.ready(false);
    for index in [0, 1] {
        svc.refused(index);
    }
    for (index, family) in svc.families().into_iter().flat_map(|family| [(0, family), (1, family)]) {
        refused(clients(1)[0].ask(Socket::Tcp, svc.to(Place::NodePort(index), family)));
    }
}

#[test]
fn should_be_rejected_when_no_endpoints_exist() {
    let jig = Jig::new("rejected");
    let svc = jig.service("no-pods", &json!({}));
    for index in [0, 1] {
        svc.refused(index);
    }
}

#[test]
fn should_be_rejected_for_evicted_pods_no_endpoints_exist() {
    let jig = Jig::new("evicted");
    let svc = jig.service("evicted-pods", &json!({"publishNotReadyAddresses": true}));
    let pod = jig.pod("evicted-pod", spot("1a"), &svc.name);
    svc.up(0, &["1a"]);
    let not = ["ContainersReady", "Ready"].map(|kind| json!({"type": kind, "status": "False"}));
    pod.status(&json!({"status": {"phase": "Failed", "reason": "Evicted", "conditions": not}}));
    svc.refused(0);
}

/// An init container that goes on running, with this port.
fn restartable(port: &Value) -> Value {
    json!({"spec": {"initContainers": [{
        "name": "sidecar", "image": "none", "restartPolicy": "Always", "ports": [port],
    }]}})
}

#[test]
fn should_connect_to_the_ports_exposed_by_restartable_init_containers() {
    let jig = Jig::new("sidecar");
    let svc =
        jig.service("sidecar-with-port", &json!({"ports": [port("http", "TCP", 80, &json!(TARGETS[1]))]}));
    let over = restartable(&json!({"containerPort": TARGETS[1]}));
    jig.pod_with("sidecar-with-port", spot("1a"), &svc.name, &over);
    svc.port_up(0, Socket::Tcp, 80, TARGETS[1], &["1a"]);
}

#[test]
fn should_connect_to_the_named_ports_exposed_by_restartable_init_containers() {
    let jig = Jig::new("sidecar-named");
    let svc = jig.service(
        "sidecar-with-named-port",
        &json!({"ports": [port("http", "TCP", 80, &json!("http-sidecar"))]}),
    );
    let over = restartable(&json!({"name": "http-sidecar", "containerPort": TARGETS[1]}));
    jig.pod_with("sidecar-with-named-port", spot("1a"), &svc.name, &over);
    svc.port_up(0, Socket::Tcp, 80, TARGETS[1], &["1a"]);
}

#[test]
fn should_support_named_targetports_that_resolve_to_different_ports_on_different_endpoints() {
    let jig = Jig::new("named-ports");
    let svc = jig.service("named-ports", &json!({"ports": [port("http", "TCP", 80, &json!("serve"))]}));
    for (name, target) in [("1a", TARGETS[0]), ("2a", TARGETS[1])] {
        let container =
            json!({"name": "server", "image": "none", "ports": [{"name": "serve", "containerPort": target}]});
        jig.pod_with(name, spot(name), &svc.name, &json!({"spec": {"containers": [container]}}));
    }
    for family in svc.families() {
        let at = |name: &str, target| SocketAddr::new(spot(name).pod.ips()[family], target);
        svc.settled(0, "TCP", 80, family, &[at("1a", TARGETS[0]), at("2a", TARGETS[1])].into());
        for client in clients(0) {
            let both = ["1a".to_owned(), "2a:2".to_owned()].into();
            reach(client, Socket::Tcp, svc.at(family, 80), &both);
        }
    }
}

#[test]
fn should_allow_creating_a_basic_sctp_service_with_pod_and_endpoints() {
    let module = Path::new("/sys/module/sctp");
    let before = module.exists();
    let jig = Jig::new("sctp");
    let svc =
        jig.service("sctp-endpoint-test", &json!({"ports": [port("sctp", "SCTP", 5060, &json!(5060))]}));
    let endpoint = |family: usize| SocketAddr::new(spot("1a").pod.ips()[family], 5060);
    let settled = |wanted: &dyn Fn(usize) -> BTreeSet<SocketAddr>| {
        for (index, family) in (0..cluster().nodes().len()).flat_map(|index| [(index, 0), (index, 1)]) {
            svc.settled(index, "SCTP", 5060, family, &wanted(family));
        }
    };
    settled(&|_| [].into());
    let ports = json!([{"containerPort": 5060, "protocol": "SCTP"}]);
    let container = json!({"name": "server", "image": "none", "ports": ports});
    let pod = jig.pod_with("pod1", spot("1a"), &svc.name, &json!({"spec": {"containers": [container]}}));
    settled(&|family| [endpoint(family)].into());
    pod.delete();
    settled(&|_| [].into());
    assert_eq!(module.exists(), before, "the kernel's SCTP was loaded on {}", node(0).name());
}
