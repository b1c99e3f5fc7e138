//! Which Services are served, and what a change of one does, while the API server validates and allocates.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use xtask::kube::{RunningPod, Service};
use xtask::lab::helper::wire::Load;

use crate::support::{
    Scene, TARGET, TCP4, TCP6, UDP4, UDP6, WAYS, ask, cluster, eventually, gone, refused_at, serves,
    serves_at,
};

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

#[test]
fn b1_a_service_of_another_proxy_is_let_go_and_taken_up_again() {
    let scene = Scene::new("b1");
    let pod = scene.pod(0, "a");
    let mut service = scene.service("web");
    serves(&service, &[&pod]);
    service.patch(&json!({"metadata": {"labels": {PROXY_NAME: "another"}}})).unwrap();
    gone(&scene, "web");
    service.patch(&json!({"metadata": {"labels": {PROXY_NAME: null}}})).unwrap();
    serves(&service, &[&pod]);
}

#[test]
fn b2_b3_headless_and_external_name_services_are_nobodys() {
    let scene = Scene::new("b2b3");
    let pod = scene.pod(0, "a");
    let mut headless = scene.object("headless");
    headless["spec"]["clusterIP"] = "None".into();
    let headless = scene.namespace.service(&headless).unwrap();
    assert_eq!(headless.ips(), [None; 2]);
    let mut service = scene.service("web");
    serves(&service, &[&pod]);
    for name in ["web", "headless"] {
        let shown = cluster().nodes()[0].sluice_json(&["service", "show", &scene.full(name)]);
        assert_eq!(shown.is_ok(), name == "web");
    }
    let external = json!({"spec": {
        "type": "ExternalName", "externalName": "example.org", "selector": null,
        "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null,
    }});
    service.patch(&external).unwrap();
    gone(&scene, "web");
    let back = json!({"spec": {
        "type": "ClusterIP", "externalName": null, "selector": scene.labels(), "ipFamilyPolicy": "RequireDualStack",
    }});
    service.patch(&back).unwrap();
    serves(&service, &[&pod]);
}

/// What the ports of a Service of this scene are: protocol, number, and target.
fn ports(list: &[(&str, u16, Value)]) -> Value {
    let port = |(protocol, number, target): &(&str, u16, Value)| json!({"name": format!("{}-{number}", protocol.to_lowercase()), "protocol": protocol, "port": number, "targetPort": target});
    json!({"spec": {"ports": list.iter().map(port).collect::<Vec<_>>()}})
}

#[test]
fn b11_b12_ports_and_protocols_come_and_go_in_place() {
    let scene = Scene::new("b12");
    let pod = scene.pod(0, "a");
    let mut service = scene.service("web");
    serves(&service, &[&pod]);
    let target = || Value::from(TARGET);
    // The half of UDP goes, that of TCP stays.
    service.patch(&ports(&[("TCP", 80, target())])).unwrap();
    refused_at(&service, 80, &[UDP4, UDP6]);
    serves_at(&service, 80, &[TCP4, TCP6], &[&pod]);
    // The other way round: the protocol of a port is flipped.
    service.patch(&ports(&[("UDP", 80, target())])).unwrap();
    refused_at(&service, 80, &[TCP4, TCP6]);
    serves_at(&service, 80, &[UDP4, UDP6], &[&pod]);
    // One is added, under another number.
    service.patch(&ports(&[("UDP", 80, target()), ("TCP", 81, target())])).unwrap();
    serves_at(&service, 81, &[TCP4, TCP6], &[&pod]);
    // And renumbered.
    service.patch(&ports(&[("UDP", 80, target()), ("TCP", 82, target())])).unwrap();
    serves_at(&service, 82, &[TCP4, TCP6], &[&pod]);
    refused_at(&service, 81, &[TCP4, TCP6]);
    serves_at(&service, 80, &[UDP4, UDP6], &[&pod]);
}

#[test]
fn b13_a_service_is_recreated_and_its_address_reused() {
    let scene = Scene::new("b13");
    let (a, b) = (scene.pod(0, "a"), scene.pod(1, "b"));
    let service = scene.service("web");
    serves(&service, &[&a, &b]);
    let addresses = service.ips();
    service.delete().unwrap();
    // Another Service takes the addresses at once; its pods are others.
    let other = scene.namespace.pod(2, "c", &json!({"app": "other"}), TARGET).unwrap();
    let mut object = scene.object("other");
    object["spec"]["selector"] = json!({"app": "other"});
    object["spec"]["clusterIP"] = json!(addresses[0]);
    object["spec"]["clusterIPs"] = json!(addresses);
    let heir = scene.namespace.service(&object).unwrap();
    assert_eq!(heir.ips(), addresses);
    serves(&heir, &[&other]);
    gone(&scene, "web");
    let again = scene.service("web");
    assert_ne!(again.ips(), addresses);
    serves(&again, &[&a, &b]);
}

#[test]
fn b14_b110_services_of_one_family_and_of_both_in_either_order() {
    let scene = Scene::new("b14");
    let pod = scene.pod(2, "a");
    let families = [
        ("v4", "SingleStack", &["IPv4"][..]),
        ("v6", "SingleStack", &["IPv6"]),
        ("v4v6", "RequireDualStack", &["IPv4", "IPv6"]),
        ("v6v4", "PreferDualStack", &["IPv6", "IPv4"]),
    ];
    for (name, policy, families) in families {
        let mut object = scene.object(name);
        object["spec"]["ipFamilyPolicy"] = policy.into();
        object["spec"]["ipFamilies"] = json!(families);
        let service = scene.namespace.service(&object).unwrap();
        assert_eq!(service.ips().map(|ip| ip.is_some()), ["IPv4", "IPv6"].map(|f| families.contains(&f)));
        serves(&service, &[&pod]);
    }
}

#[test]
fn b110_a_second_family_comes_and_goes() {
    let scene = Scene::new("b110");
    let pod = scene.pod(1, "a");
    let mut object = scene.object("web");
    object["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    object["spec"]["ipFamilies"] = json!(["IPv4"]);
    let mut service = scene.namespace.service(&object).unwrap();
    serves(&service, &[&pod]);
    service.patch(&json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}})).unwrap();
    assert!(service.ips()[1].is_some());
    serves(&service, &[&pod]);
    let single = json!({"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "clusterIPs": [service.ips()[0]]}});
    service.patch(&single).unwrap();
    assert_eq!(service.ips()[1], None);
    serves(&service, &[&pod]);
    eventually("the second family goes", || match scene.shown(0, "web") {
        Ok(ports) if ports.iter().all(|port| port["family"] == "IPv4") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn b15_named_target_ports_differ_from_pod_to_pod() {
    let scene = Scene::new("b15");
    let pods = [(0, "a", 8001), (2, "b", 8002)].map(|(node, name, port)| {
        let mut object = scene.pod_object(name);
        object["spec"]["containers"][0]["ports"] = json!([{"name": "web", "containerPort": port}]);
        scene.namespace.run(node, &object, port).unwrap()
    });
    let mut object = scene.object("web");
    object["spec"]["ports"] = json!([{"protocol": "TCP", "port": 80, "targetPort": "web"}]);
    let service = scene.namespace.service(&object).unwrap();
    serves_at(&service, 80, &[TCP4, TCP6], &[&pods[0], &pods[1]]);
}

#[test]
fn b12_the_type_of_a_service_changes_under_traffic() {
    let scene = Scene::new("b18");
    let pod = scene.pod(0, "a");
    let mut service = scene.service("web");
    serves(&service, &[&pod]);
    let types = [
        json!({"type": "NodePort"}),
        json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"], "externalTrafficPolicy": "Local"}),
        json!({"loadBalancerSourceRanges": ["0.0.0.0/0"], "externalTrafficPolicy": "Cluster"}),
        json!({"type": "NodePort", "loadBalancerSourceRanges": null}),
        json!({"type": "ClusterIP"}),
    ];
    let undisturbed = Undisturbed::start(&service, &pod);
    for spec in types {
        service.patch(&json!({ "spec": spec })).unwrap();
        serves(&service, &[&pod]);
    }
    undisturbed.end();
}

#[test]
fn b25_status_annotations_and_finalizers_disturb_nothing() {
    let scene = Scene::new("b25");
    let pod = scene.pod(2, "a");
    let mut service = scene.service("web");
    serves(&service, &[&pod]);
    let undisturbed = Undisturbed::start(&service, &pod);
    for round in 0..5 {
        let condition = json!({
            "type": format!("Round{round}"), "status": "True", "reason": "Test", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let status = format!("{}/status", service.path());
        cluster().api().merge(&status, &json!({"status": {"conditions": [condition]}})).unwrap();
        service
            .patch(&json!({"metadata": {
                "annotations": {"example.org/round": round.to_string()},
                "finalizers": [format!("example.org/round-{round}")],
            }}))
            .unwrap();
    }
    serves(&service, &[&pod]);
    undisturbed.end();
    // A Service that waits for its finalizer is served until it is gone.
    service.delete().unwrap();
    assert!(ask(cluster().client(0).unwrap(), &service, TCP4).is_ok());
    service.patch(&json!({"metadata": {"finalizers": null}})).unwrap();
    gone(&scene, "web");
}

/// Requests from the pod itself, none of which may fail.
struct Undisturbed<'a>(&'a RunningPod<'a>);

impl<'a> Undisturbed<'a> {
    fn start(service: &Service<'_>, client: &'a RunningPod<'_>) -> Self {
        client.start_load(Load { to: service.at(0, 80).unwrap(), clients: 2, rate: 100 }).unwrap();
        Self(client)
    }

    fn end(self) {
        let report = self.0.stop_load().unwrap();
        assert!(report.failed.is_empty() && report.sent() > 0, "{:?}", report.failed.first());
    }
}

#[test]
fn b23_affinity_is_switched_and_lasts_three_hours_unless_told_otherwise() {
    let scene = Scene::new("b23");
    let pods = [scene.pod(0, "a"), scene.pod(1, "b"), scene.pod(2, "c")];
    let all: Vec<&RunningPod<'_>> = pods.iter().collect();
    let mut service = scene.service("web");
    serves(&service, &all);
    let seconds = |wanted: u64| {
        eventually("the timeout is shown", || match scene.shown(0, "web") {
            Ok(ports) if ports.iter().all(|port| port["session_affinity_seconds"] == wanted) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    service.patch(&json!({"spec": {"sessionAffinity": "ClientIP"}})).unwrap();
    seconds(10_800);
    for way in WAYS {
        let client = cluster().client(0).unwrap();
        let answers: BTreeSet<_> = (0..15).map(|_| ask(client, &service, way).unwrap().pod).collect();
        assert_eq!(answers.len(), 1, "{way:?}: {answers:?}");
    }
    let timeout = json!({"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}});
    service.patch(&timeout).unwrap();
    seconds(600);
    service.patch(&json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": null}})).unwrap();
    serves(&service, &all);
}
