//! What the API server does, and that the agents stand it.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use xtask::lab::helper::wire::Socket;
use xtask::sh;

use super::jig::{Jig, TARGETS, clients, node, patiently, port, spot};
use crate::support::cluster;

#[test]
fn should_find_a_service_from_listing_all_namespaces() {
    let list = cluster().api().get("/api/v1/services").unwrap();
    let is = |it: &serde_json::Value| {
        it["metadata"]["name"] == "kubernetes" && it["metadata"]["namespace"] == "default"
    };
    assert!(list["items"].as_array().unwrap().iter().any(is));
    // And pods and hosts reach it: the API server, which asks for a certificate.
    for client in clients(0) {
        let mut curl = client.command("curl");
        let curl = curl.args([
            "-q",
            "-s",
            "-k",
            "-m",
            "30",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "https://10.96.0.1/version",
        ]);
        let output = curl.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success() && output.stdout.len() == 3, "{output:?}");
    }
}

#[test]
fn should_complete_a_service_status_lifecycle() {
    let jig = Jig::new("status");
    let svc = jig.labelled_service(
        "test-service",
        &json!({"test-service-static": "true"}),
        &json!({"type": "LoadBalancer"}),
    );
    jig.pods("test-service", &["1a", "2a"]);
    svc.up(0, &["1a", "2a"]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = sh::Over(&over);
        // Traffic notices nothing of what follows, but for the end.
        let traffic = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                clients(0)[0].ask(Socket::Tcp, svc.at(0, 80)).unwrap();
            }
        });
        let path = format!("{}/status", svc.path());
        let api = cluster().api();
        let read = api.get(&path).unwrap();
        assert_eq!(read["status"]["loadBalancer"], json!({}));
        let ingress = json!({"ingress": [{"ip": "203.0.113.1"}]});
        let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"loadBalancer": ingress}});
        let patched = api.merge(&path, &patch).unwrap();
        assert_eq!(patched["status"]["loadBalancer"]["ingress"][0]["ip"], "203.0.113.1");
        assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
        let condition = json!({
            "type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let updated = api.merge(&path, &json!({"status": {"conditions": [condition]}})).unwrap();
        assert_eq!(updated["status"]["conditions"][0]["reason"], "E2E");
        let labelled =
            api.merge(&svc.path(), &json!({"metadata": {"labels": {"test-service": "patched"}}})).unwrap();
        assert_eq!(labelled["metadata"]["labels"]["test-service"], "patched");
        jig.barrier(0);
        drop(end);
        traffic.join().unwrap();
    });
    svc.up(0, &["1a", "2a"]);
    svc.delete();
    svc.down(0);
}

#[test]
fn should_delete_a_collection_of_services() {
    let jig = Jig::new("collection");
    let one = |name: &str, label: &str, number: u16| {
        let labels = json!({"e2e-test-service": label});
        jig.labelled_service(
            name,
            &labels,
            &json!({"ports": [port("http", "TCP", number, &json!(TARGETS[0]))]}),
        )
    };
    let (a, b, c) =
        (one("e2e-svc-a", "delete", 8001), one("e2e-svc-b", "delete", 8002), one("e2e-svc-c", "keep", 8003));
    for name in ["e2e-svc-a", "e2e-svc-b", "e2e-svc-c"] {
        jig.pods(name, &["1a"]);
    }
    c.port_up(0, Socket::Tcp, 8003, TARGETS[0], &["1a"]);
    let count = || cluster().api().get(&jig.path("services", "")).unwrap()["items"].as_array().unwrap().len();
    assert_eq!(count(), 3);
    let all = format!("{}?labelSelector=e2e-test-service%3Ddelete", jig.path("services", ""));
    cluster().api().delete(&all).unwrap();
    assert_eq!(count(), 1);
    a.gone();
    b.gone();
    c.port_up(0, Socket::Tcp, 8003, TARGETS[0], &["1a"]);
}

/// The node port of a Service that has one.
fn node_port(object: &serde_json::Value) -> u64 {
    object["spec"]["ports"][0]["nodePort"].as_u64().unwrap()
}

/// A Service of type NodePort at this node port, or the API server's refusal.
fn at_node_port(jig: &Jig, name: &str, number: u64) -> anyhow::Result<serde_json::Value> {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]},
    });
    cluster().api().post(&jig.path("services", ""), &object)
}

#[test]
fn should_prevent_nodeport_collisions() {
    let jig = Jig::new("collision");
    let first = jig.service("nodeport-collision-1", &json!({"type": "NodePort"}));
    jig.pods("nodeport-collision-1", &["1a"]);
    let taken = node_port(&first.object);
    let refusal = at_node_port(&jig, "nodeport-collision-2", taken).unwrap_err().to_string();
    assert!(refusal.contains(&taken.to_string()) && refusal.contains("already allocated"), "{refusal}");
    first.up(0, &["1a"]);
    first.delete();
    at_node_port(&jig, "nodeport-collision-2", taken).unwrap();
}

#[test]
fn should_check_nodeport_out_of_range() {
    let jig = Jig::new("range");
    let mut svc = jig.service("nodeport-range-test", &json!({"type": "NodePort"}));
    jig.pods("nodeport-range-test", &["1a"]);
    assert!((30000..=32767).contains(&node_port(&svc.object)));
    let out = json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": TARGETS[0], "nodePort": 29999}]}});
    let refusal = cluster().api().merge(&svc.path(), &out).unwrap_err().to_string();
    assert!(refusal.contains("not in the valid range"), "{refusal}");
    svc.up(0, &["1a"]);
    svc.delete();
    let refusal = at_node_port(&jig, "nodeport-range-test", 29999).unwrap_err().to_string();
    assert!(refusal.contains("not in the valid range"), "{refusal}");
    svc.object = at_node_port(&jig, "nodeport-range-test", 0).unwrap();
    assert!((30000..=32767).contains(&node_port(&svc.object)));
}

#[test]
fn should_release_nodeports_on_delete() {
    let jig = Jig::new("release");
    let svc = jig.service("nodeport-reuse", &json!({"type": "NodePort"}));
    let number = node_port(&svc.object);
    svc.delete();
    svc.gone();
    let mut ss = node(0).host().command("ss");
    let ss = ss.args(["-Hltn", &format!("sport = :{number}")]).stdin(Stdio::null()).output().unwrap();
    assert!(ss.status.success() && ss.stdout.is_empty(), "{ss:?}");
    at_node_port(&jig, "nodeport-reuse", number).unwrap();
}

#[test]
fn should_fail_health_check_node_port_if_there_are_only_terminating_endpoints() {
    let jig = Jig::new("health-check");
    let svc = jig
        .service("svc-proxy-terminating", &json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}));
    let pod = jig.pod("echo-hostname-0", spot("1a"), &svc.name);
    let number = svc.object["spec"]["healthCheckNodePort"].as_u64().unwrap();
    let url = format!("http://{}:{number}/healthz", node(0).ips()[0]);
    let answers = |wanted: &str| {
        let mut last = Vec::new();
        patiently(|| {
            let mut curl = clients(0)[0].command("curl");
            let curl = curl.args(["-q", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url]);
            last = curl.stdin(Stdio::null()).output().unwrap().stdout;
            last == wanted.as_bytes()
        })
        .unwrap_or_else(|error| panic!("{url} {error}: {}, not {wanted}", String::from_utf8_lossy(&last)));
    };
    answers("200");
    pod.terminate();
    answers("503");
    jig.barrier(0);
    svc.up(0, &["1a"]);
}
