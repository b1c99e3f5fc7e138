//! internalTrafficPolicy, and what is left when all endpoints are terminating.

use std::net::SocketAddr;
use std::thread;

use serde_json::json;
use xtask::lab::helper::wire::{Socket, Transport};

use super::jig::{Jig, TARGETS, clients, node, port, spot};
use super::svc::{ANSWERED, SILENT, Svc, curl, reach};
use crate::support::cluster;

/// Asserts that nobody answers on the machine `index`, though there is an endpoint elsewhere: pods hear nothing at all. What
/// the host sends stays addressed to the Service and goes where the routes lead.
///
/// The machine has to know the endpoint already: without any it would refuse.
fn silent(svc: &Svc<'_>, index: usize) {
    thread::scope(|scope| {
        for family in svc.families() {
            let [pod, host] = clients(index);
            let to = svc.at(family, 80);
            scope.spawn(move || assert_eq!(curl(pod, to), SILENT, "{to} from {}", pod.netns()));
            scope.spawn(move || assert_ne!(curl(host, to), ANSWERED, "{to} from {}", host.netns()));
        }
    });
}

#[test]
fn should_respect_internaltrafficpolicy_local_pod_to_pod() {
    let jig = Jig::new("itp-pod");
    let svc = jig.service("svc-itp", &json!({"internalTrafficPolicy": "Local"}));
    jig.pods("svc-itp", &["1a"]);
    svc.settle(0, &["1a"]);
    let [pod, _] = clients(0);
    for family in svc.families() {
        reach(pod, Socket::Tcp, svc.at(family, 80), &["1a".to_owned()].into());
    }
    jig.barrier(1);
    silent(&svc, 1);
}

#[test]
fn should_respect_internaltrafficpolicy_local_pod_hostnetwork_true_to_pod() {
    let jig = Jig::new("itp-host");
    let svc = jig.service("svc-itp", &json!({"internalTrafficPolicy": "Local"}));
    jig.pods("svc-itp", &["1b"]);
    svc.settle(0, &["1b"]);
    let [_, host] = clients(0);
    for family in svc.families() {
        reach(host, Socket::Tcp, svc.at(family, 80), &["1b".to_owned()].into());
    }
    jig.barrier(2);
    silent(&svc, 2);
}

#[test]
fn should_respect_internaltrafficpolicy_local_pod_and_node_to_pod_hostnetwork_true() {
    const PORT: u16 = 10180;
    let jig = Jig::new("itp-to-host");
    let svc = jig.service(
        "svc-itp",
        &json!({
            "internalTrafficPolicy": "Local",
            "ports": [port("http", "TCP", 80, &json!(PORT))],
        }),
    );
    node(0).host().serve(Transport::Tcp, PORT, node(0).name()).unwrap();
    jig.host_pod("echo-hostname-0", 0, "svc-itp");
    for family in svc.families() {
        let endpoint = SocketAddr::new(node(0).ips()[family], PORT);
        svc.settled(0, "TCP", 80, family, &[endpoint].into());
        for client in clients(0) {
            reach(client, Socket::Tcp, svc.at(family, 80), &[node(0).name().to_owned()].into());
        }
    }
    jig.barrier(1);
    silent(&svc, 1);
}

#[test]
fn should_fallback_to_terminating_endpoints_when_there_are_no_ready_endpoints_with_internaltrafficpolicy_cluster()
 {
    let jig = Jig::new("terminating");
    let svc = jig.service("svc-proxy-terminating", &json!({}));
    let pod = jig.pod("echo-hostname-0", spot("1a"), &svc.name);
    svc.up(0, &["1a"]);
    pod.terminate();
    jig.wait_endpoint(&svc.name, &|it| it["conditions"]["terminating"] == true);
    for index in [0, 1] {
        jig.barrier(index);
        svc.up(index, &["1a"]);
    }
}

#[test]
fn should_fallback_to_local_terminating_endpoints_when_there_are_no_ready_endpoints_with_internaltrafficpolicy_local()
 {
    let jig = Jig::new("terminating-local");
    let svc = jig.service("svc-proxy-terminating", &json!({"internalTrafficPolicy": "Local"}));
    let pod = jig.pod("echo-hostname-0", spot("1a"), &svc.name);
    svc.up(0, &["1a"]);
    pod.terminate();
    jig.wait_endpoint(&svc.name, &|it| it["conditions"]["terminating"] == true);
    jig.barrier(0);
    svc.up(0, &["1a"]);
    jig.barrier(1);
    silent(&svc, 1);
}

#[test]
fn should_implement_service_kubernetes_io_service_proxy_name() {
    let jig = Jig::new("proxy-name");
    let label = "service.kubernetes.io/service-proxy-name";
    let disabled = jig.labelled_service("disabled", &json!({label: "foo-bar"}), &json!({}));
    jig.pods("disabled", &["1b", "2b", "3b"]);
    let mut toggled = jig.service("toggled", &json!({}));
    jig.pods("toggled", &["1a", "2a", "3a"]);
    toggled.up(0, &["1a", "2a", "3a"]);
    disabled.down(0);
    toggled.update(&json!({"metadata": {"labels": {label: "foo-bar"}}}));
    toggled.down(0);
    toggled.update(&json!({"metadata": {"labels": {label: null}}}));
    toggled.up(0, &["1a", "2a", "3a"]);
    disabled.down(0);
}

#[test]
fn should_implement_service_kubernetes_io_headless() {
    let jig = Jig::new("headless");
    let svc =
        jig.service("example-custom-endpoints", &json!({"selector": null, "ipFamilyPolicy": "SingleStack"}));
    let slice = jig.slice(&svc.name, "e2e-custom-slice", &["1a"], &[("http", TARGETS[0])]);
    svc.up(0, &["1a"]);
    cluster()
        .api()
        .merge(&slice, &json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}}))
        .unwrap();
    for index in 0..cluster().nodes().len() {
        svc.refused(index);
    }
}
