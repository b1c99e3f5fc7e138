//! EndpointSlices that somebody writes by hand, and Endpoints that are mirrored.

use std::net::SocketAddr;

use serde_json::{Value, json};
use xtask::lab::helper::wire::Socket;

use super::jig::{Jig, SLICES, TARGETS, clients, patiently, port, spot};
use super::svc::{Svc, reach};
use crate::support::cluster;

/// A Service without a selector, single-stack.
fn by_hand<'j>(jig: &'j Jig, ports: &[Value]) -> Svc<'j> {
    let spec = json!({"selector": null, "ipFamilyPolicy": "SingleStack", "ports": ports});
    jig.service("example-custom-endpoints", &spec)
}

/// Asserts that `port` leads to these endpoints, each a place and a port of it.
fn leads_to(svc: &Svc<'_>, port: u16, endpoints: &[(&str, u16)]) {
    let at = endpoints.iter().map(|(name, target)| SocketAddr::new(spot(name).pod.ipv4().into(), *target));
    svc.settled(0, "TCP", port, 0, &at.collect());
    let names = endpoints
        .iter()
        .map(|(name, target)| if *target == TARGETS[1] { format!("{name}:2") } else { (*name).to_owned() });
    reach(clients(0)[0], Socket::Tcp, svc.at(0, port), &names.collect());
}

#[test]
fn should_support_a_service_with_multiple_ports_specified_in_multiple_endpointslices() {
    let jig = Jig::new("slice-ports");
    let svc = by_hand(&jig, &[port("port80", "TCP", 80, &json!(80)), port("port81", "TCP", 81, &json!(81))]);
    // One address, in a slice for each port.
    jig.slice(&svc.name, "example-1", &["1a"], &[("port80", TARGETS[0])]);
    jig.slice(&svc.name, "example-2", &["1a"], &[("port81", TARGETS[1])]);
    leads_to(&svc, 80, &[("1a", TARGETS[0])]);
    leads_to(&svc, 81, &[("1a", TARGETS[1])]);
}

#[test]
fn should_support_a_service_with_multiple_endpoint_ips_specified_in_multiple_endpointslices() {
    let jig = Jig::new("slice-ips");
    let svc = by_hand(&jig, &[port("port80", "TCP", 80, &json!(80)), port("port81", "TCP", 81, &json!(81))]);
    let ports = [("port80", TARGETS[0]), ("port81", TARGETS[1])];
    jig.slice(&svc.name, "example-1", &["1a"], &ports);
    jig.slice(&svc.name, "example-2", &["2a"], &ports);
    leads_to(&svc, 80, &[("1a", TARGETS[0]), ("2a", TARGETS[0])]);
    leads_to(&svc, 81, &[("1a", TARGETS[1]), ("2a", TARGETS[1])]);
}

#[test]
fn should_create_and_delete_endpointslices_for_a_service_with_a_selector_that_matches_no_pods() {
    let jig = Jig::new("slices-empty");
    let svc = jig.service("example-empty-selector", &json!({"selector": {"does-not-match-anything": "yes"}}));
    patiently(|| !jig.slices(&svc.name).is_empty()).unwrap();
    for slice in jig.slices(&svc.name) {
        let by = &slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
        assert_eq!(by, "endpointslice-controller.k8s.io");
        assert_eq!(slice["endpoints"].as_array().map_or(0, Vec::len), 0);
    }
    svc.refused(0);
    svc.delete();
    svc.gone();
    patiently(|| jig.slices(&svc.name).is_empty()).unwrap();
}

#[test]
fn should_create_endpoints_and_endpointslices_for_pods_matching_a_service() {
    let jig = Jig::new("slices-pods");
    let pod = |name: &str, app: &str, target: u16| {
        let ports = json!([{"name": "example-name", "containerPort": target}]);
        let labels = json!({"metadata": {"labels": {"shared12": "on"}}});
        let containers = json!([{"name": "container1", "image": "none", "ports": ports}]);
        let over = json!({"metadata": labels["metadata"], "spec": {"containers": containers}});
        jig.pod_with(app, spot(name), app, &over)
    };
    let _pods = [pod("1a", "pod1", TARGETS[0]), pod("2a", "pod2", TARGETS[1])];
    let one = jig.service(
        "example-int-port",
        &json!({
            "ipFamilyPolicy": "SingleStack", "selector": {"app": "pod1"}, "publishNotReadyAddresses": true,
        }),
    );
    let both = jig.service("example-named-port", &json!({
        "ipFamilyPolicy": "SingleStack", "selector": {"app": null, "shared12": "on"}, "publishNotReadyAddresses": true,
        "ports": [port("http", "TCP", 80, &json!("example-name"))],
    }));
    leads_to(&one, 80, &[("1a", TARGETS[0])]);
    let named = || leads_to(&both, 80, &[("1a", TARGETS[0]), ("2a", TARGETS[1])]);
    named();
    // One slice for each number that the name stands for.
    let slices = jig.slices(&both.name);
    assert_eq!(slices.len(), 2);
    for slice in &slices {
        cluster().api().delete(&jig.path(SLICES, slice["metadata"]["name"].as_str().unwrap())).unwrap();
    }
    let old: Vec<_> = slices.iter().map(|slice| &slice["metadata"]["uid"]).collect();
    let is_new = |slice: &Value| !old.contains(&&slice["metadata"]["uid"]);
    patiently(|| jig.slices(&both.name).iter().filter(|slice| is_new(slice)).count() == 2).unwrap();
    jig.barrier(0);
    named();
}

#[test]
fn should_support_creating_endpointslice_api_operations() {
    let jig = Jig::new("slices-api");
    let api = cluster().api();
    let svc = by_hand(&jig, &[port("example", "TCP", 80, &json!(80))]);
    let slice = jig.slice(&svc.name, "e2e-example", &["1a"], &[("example", TARGETS[0])]);
    leads_to(&svc, 80, &[("1a", TARGETS[0])]);
    assert_eq!(api.get(&slice).unwrap()["metadata"]["name"], "e2e-example");
    let named = |list: &Value| {
        let mut items = list["items"].as_array().unwrap().iter();
        items.any(|it| {
            it["metadata"]["name"] == "e2e-example" && it["metadata"]["namespace"] == jig.namespace()
        })
    };
    assert!(named(&api.get("/apis/discovery.k8s.io/v1/endpointslices").unwrap()));
    assert_eq!(jig.slices(&svc.name).len(), 1);
    let patched = api.merge(&slice, &json!({"metadata": {"annotations": {"patched": "true"}}})).unwrap();
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    api.merge(&slice, &json!({"endpoints": [{"addresses": [spot("2a").pod.ipv4()]}]})).unwrap();
    leads_to(&svc, 80, &[("2a", TARGETS[0])]);
    api.delete(&slice).unwrap();
    assert!(api.get(&slice).is_err());
    svc.refused(0);
    jig.slice(&svc.name, "e2e-example", &["1a"], &[("example", TARGETS[0])]);
    leads_to(&svc, 80, &[("1a", TARGETS[0])]);
    let all = format!("{}?labelSelector=kubernetes.io/service-name%3D{}", jig.path(SLICES, ""), svc.name);
    api.delete(&all).unwrap();
    assert!(jig.slices(&svc.name).is_empty());
    svc.refused(0);
}

/// Endpoints of the Service.
fn mirrored(jig: &Jig, subsets: &Value) -> String {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "example-custom-endpoints", "namespace": jig.namespace()},
        "subsets": subsets,
    });
    cluster().api().apply(&object).unwrap();
    jig.path("endpoints", "example-custom-endpoints")
}

#[test]
fn should_mirror_a_custom_endpoints_resource_through_create_update_and_delete() {
    let jig = Jig::new("mirror");
    let svc = by_hand(&jig, &[port("example", "TCP", 80, &json!(80))]);
    let subset = |name: &str, number: u16| json!([{"addresses": [{"ip": spot(name).pod.ipv4()}], "ports": [{"name": "example", "port": number}]}]);
    mirrored(&jig, &subset("1a", TARGETS[0]));
    leads_to(&svc, 80, &[("1a", TARGETS[0])]);
    let slices = jig.slices(&svc.name);
    let by = &slices[0]["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
    assert_eq!(by, "endpointslicemirroring-controller.k8s.io");
    let path = mirrored(&jig, &subset("2a", TARGETS[1]));
    leads_to(&svc, 80, &[("2a", TARGETS[1])]);
    cluster().api().delete(&path).unwrap();
    patiently(|| jig.slices(&svc.name).is_empty()).unwrap();
    svc.refused(0);
}

#[test]
fn should_mirror_a_custom_endpoint_with_multiple_subsets_and_same_ip_address() {
    let jig = Jig::new("mirror-subsets");
    let svc = by_hand(&jig, &[port("port80", "TCP", 80, &json!(80)), port("port81", "TCP", 81, &json!(81))]);
    let subset = |name: &str, number: u16| json!({"addresses": [{"ip": spot("1a").pod.ipv4()}], "ports": [{"name": name, "port": number}]});
    mirrored(&jig, &json!([subset("port80", TARGETS[0]), subset("port81", TARGETS[1])]));
    leads_to(&svc, 80, &[("1a", TARGETS[0])]);
    leads_to(&svc, 81, &[("1a", TARGETS[1])]);
}
