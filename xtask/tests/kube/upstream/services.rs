//! Services of type ClusterIP and their changes.

use serde_json::json;
use xtask::lab::helper::wire::Socket;

use super::jig::{Jig, TARGETS, client, clients, patiently, port, spot};
use super::svc::{ANSWERED, Svc, curl, reach};
use crate::dns;
use crate::support::cluster;

/// The endpoints of a Service, as its slices have them: address and port, each with the name of the port.
fn endpoints(jig: &Jig, service: &str) -> Vec<String> {
    let mut all = Vec::new();
    for slice in jig.slices(service) {
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            for port in slice["ports"].as_array().into_iter().flatten() {
                all.push(format!("{} {} {}", endpoint["addresses"][0], port["name"], port["port"]));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn should_serve_a_basic_endpoint_from_pods() {
    let jig = Jig::new("basic");
    let svc = jig.service("endpoint-test2", &json!({}));
    svc.refused(0);
    let pod1 = jig.pod("pod1", spot("1a"), &svc.name);
    svc.up(0, &["1a"]);
    let pod2 = jig.pod("pod2", spot("2a"), &svc.name);
    svc.up(0, &["1a", "2a"]);
    pod1.delete();
    svc.up(0, &["2a"]);
    pod2.delete();
    svc.refused(0);
    assert_eq!(endpoints(&jig, &svc.name), [""; 0]);
}

#[test]
fn should_serve_multiport_endpoints_from_pods() {
    let jig = Jig::new("multiport");
    let ports = [port("portname1", "TCP", 80, &json!("svc1")), port("portname2", "TCP", 81, &json!("svc2"))];
    let svc = jig.service("multi-endpoint-test", &json!({"ports": ports}));
    let with = |name: &str, number: u16| {
        let container =
            json!({"name": "server", "image": "none", "ports": [{"name": name, "containerPort": number}]});
        json!({"spec": {"containers": [container]}})
    };
    let pod1 = jig.pod_with("pod1", spot("1a"), &svc.name, &with("svc1", TARGETS[0]));
    let pod2 = jig.pod_with("pod2", spot("2a"), &svc.name, &with("svc2", TARGETS[1]));
    svc.port_up(0, Socket::Tcp, 80, TARGETS[0], &["1a"]);
    svc.port_up(0, Socket::Tcp, 81, TARGETS[1], &["2a"]);
    pod1.delete();
    svc.refused(0);
    svc.port_up(0, Socket::Tcp, 81, TARGETS[1], &["2a"]);
    pod2.delete();
    patiently(|| endpoints(&jig, &svc.name).is_empty()).unwrap();
}

#[test]
fn should_be_updated_after_adding_or_deleting_ports() {
    let jig = Jig::new("edit-ports");
    let (first, second) =
        (port("portname1", "TCP", 80, &json!(TARGETS[0])), port("portname2", "TCP", 81, &json!(TARGETS[1])));
    let mut svc = jig.service("edit-port-test", &json!({"ports": [first]}));
    jig.pods("edit-port-test", &["1a", "2a"]);
    svc.up(0, &["1a", "2a"]);
    svc.update(&json!({"spec": {"ports": [first, second]}}));
    svc.port_up(0, Socket::Tcp, 81, TARGETS[1], &["1a", "2a"]);
    svc.up(0, &["1a", "2a"]);
    svc.update(&json!({"spec": {"ports": [first]}}));
    svc.no_port(0, Socket::Tcp, 81);
    svc.up(0, &["1a", "2a"]);
}

#[test]
fn should_preserve_source_pod_ip_for_traffic_thru_service_cluster_ip() {
    let jig = Jig::new("source-ip");
    let svc = jig.service("sourceip-test", &json!({}));
    jig.pods("sourceip-test", &["1a"]);
    for index in [0, 1] {
        svc.up(index, &["1a"]);
        for family in svc.families() {
            let client = client(index);
            let answer = client.ask(Socket::Tcp, svc.at(family, 80)).unwrap();
            assert_eq!(answer.client.ip(), client.ips()[family]);
        }
    }
}

#[test]
fn should_allow_pods_to_hairpin_back_to_themselves_through_services() {
    let jig = Jig::new("hairpin");
    let svc = jig.service(
        "hairpin-test",
        &json!({"ports": [
            port("tcp", "TCP", 80, &json!(TARGETS[0])),
            port("udp", "UDP", 80, &json!(TARGETS[0])),
        ]}),
    );
    jig.pods("hairpin-test", &["1a"]);
    for socket in [Socket::Tcp, Socket::Udp] {
        svc.port_up(0, socket, 80, TARGETS[0], &["1a"]);
        for family in svc.families() {
            reach(&spot("1a").pod, socket, svc.at(family, 80), &["1a".to_owned()].into());
        }
    }
}

#[test]
fn should_be_able_to_up_and_down_services() {
    let jig = Jig::new("up-and-down");
    let (first, second) = (jig.service("up-down-1", &json!({})), jig.service("up-down-2", &json!({})));
    let pods = jig.pods("up-down-1", &["1a", "2a", "3a"]);
    jig.pods("up-down-2", &["1b", "2b", "3b"]);
    first.up(0, &["1a", "2a", "3a"]);
    second.up(0, &["1b", "2b", "3b"]);
    for pod in &pods {
        pod.delete();
    }
    first.delete();
    first.down(0);
    second.up(0, &["1b", "2b", "3b"]);
    let third = jig.service("up-down-3", &json!({}));
    assert_ne!(second.ip(0), third.ip(0));
    jig.pods("up-down-3", &["1a", "2a", "3a"]);
    second.up(0, &["1b", "2b", "3b"]);
    third.up(0, &["1a", "2a", "3a"]);
}

#[test]
fn should_work_after_the_service_has_been_recreated() {
    let jig = Jig::new("recreated");
    let svc = jig.service("service-deletion", &json!({}));
    jig.pods("service-deletion", &["2a"]);
    svc.up(0, &["2a"]);
    svc.delete();
    svc.gone();
    jig.service("service-deletion", &json!({})).up(0, &["2a"]);
}

#[test]
fn should_serve_endpoints_on_same_port_and_different_protocols() {
    let jig = Jig::new("protocols");
    let (tcp, udp) =
        (port("tcp-port", "TCP", 80, &json!(TARGETS[0])), port("udp-port", "UDP", 80, &json!(TARGETS[0])));
    let mut svc = jig.service("multiprotocol-test", &json!({"ports": [tcp, udp]}));
    jig.pods("multiprotocol-test", &["1a"]);
    let up = |svc: &Svc<'_>, socket| svc.port_up(0, socket, 80, TARGETS[0], &["1a"]);
    up(&svc, Socket::Tcp);
    up(&svc, Socket::Udp);
    svc.update(&json!({"spec": {"ports": [tcp]}}));
    svc.no_port(0, Socket::Udp, 80);
    up(&svc, Socket::Tcp);
    svc.update(&json!({"spec": {"ports": [udp]}}));
    svc.no_port(0, Socket::Tcp, 80);
    up(&svc, Socket::Udp);
}

#[test]
fn should_serve_endpoints_on_same_port_and_different_protocol_for_internal_traffic_on_type_loadbalancer() {
    let jig = Jig::new("protocols-lb");
    let svc = jig.service(
        "multiprotocol-lb-test",
        &json!({"type": "LoadBalancer", "ports": [
            port("portname1", "TCP", 80, &json!("svc1")),
            port("portname2", "UDP", 80, &json!("svc2")),
        ]}),
    );
    let ports = json!([
        {"name": "svc1", "protocol": "TCP", "containerPort": TARGETS[1]},
        {"name": "svc2", "protocol": "UDP", "containerPort": TARGETS[1]},
    ]);
    let containers = json!([{"name": "server", "image": "none", "ports": ports}]);
    jig.pod_with("pod1", spot("1a"), &svc.name, &json!({"spec": {"containers": containers}}));
    for socket in [Socket::Tcp, Socket::Udp] {
        svc.port_up(0, socket, 80, TARGETS[1], &["1a"]);
    }
}

/// An ExternalName Service.
fn external_name(jig: &Jig, name: &str) {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "ExternalName", "externalName": "foo.example.com"},
    });
    cluster().api().post(&jig.path("services", ""), &object).unwrap();
}

#[test]
fn should_be_able_to_change_the_type_from_externalname_to_clusterip() {
    let jig = Jig::new("from-name");
    external_name(&jig, "externalname-service");
    jig.pods("externalname-service", &["1a", "2a"]);
    let mut svc = jig.known("externalname-service");
    assert_eq!(svc.object["spec"].get("clusterIP"), None);
    svc.update(&json!({"spec": {
        "type": "ClusterIP",
        "externalName": null,
        "ipFamilyPolicy": "PreferDualStack",
        "selector": {"app": "externalname-service"},
        "ports": [port("http", "TCP", 80, &json!(TARGETS[0]))],
    }}));
    svc.up(0, &["1a", "2a"]);
    dns::reach(0, &jig.name_of("externalname-service"), &["1a", "2a"]);
}

/// From `kind` to ExternalName: the name leads to another Service, the old address to nobody.
fn to_external_name(jig: &Jig, kind: &str) {
    let other = jig.service("externalsvc", &json!({}));
    jig.pods("externalsvc", &["1b", "2b"]);
    let mut svc = jig.service("service", &json!({"type": kind}));
    jig.pods("service", &["1a"]);
    svc.up(0, &["1a"]);
    dns::reach(0, &jig.name_of("service"), &["1a"]);
    let old = svc.at(0, 80);
    svc.update(&json!({"spec": {"type": "ExternalName", "externalName": jig.name_of("externalsvc")}}));
    assert_eq!(svc.object["spec"].get("clusterIP"), None);
    svc.gone();
    for client in clients(0) {
        assert_ne!(curl(client, old), ANSWERED);
    }
    other.up(0, &["1b", "2b"]);
    dns::reach(0, &jig.name_of("service"), &["1b", "2b"]);
}

#[test]
fn should_be_able_to_change_the_type_from_clusterip_to_externalname() {
    to_external_name(&Jig::new("cluster-ip-to-name"), "ClusterIP");
}

#[test]
fn should_be_able_to_change_the_type_from_nodeport_to_externalname() {
    to_external_name(&Jig::new("node-port-to-name"), "NodePort");
}
