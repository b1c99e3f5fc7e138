//! Node ports, external addresses, and the external policy.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;

use serde_json::{Value, json};
use xtask::lab::helper::wire::Socket;

use super::jig::{Jig, TARGETS, clients, node, patiently, port, spot};
use super::svc::{ANSWERED, Place, SILENT, Svc, curl, reach};
use crate::support::cluster;

pub(super) fn names(spots: &[&str]) -> BTreeSet<String> {
    spots.iter().map(|name| (*name).to_owned()).collect()
}

/// Waits until all machines choose among `spots`, and asks from the first one for all of them at the node ports of the
/// first and of the second.
fn up(svc: &Svc<'_>, socket: Socket, spots: &[&str]) {
    for index in [0, 1] {
        svc.port_settled(index, socket, 80, TARGETS[0], spots);
    }
    for family in svc.families() {
        for client in clients(0) {
            for index in [0, 1] {
                reach(client, socket, svc.to(Place::NodePort(index), family), &names(spots));
            }
        }
    }
}

#[test]
fn should_be_able_to_create_a_functioning_nodeport_service() {
    let jig = Jig::new("nodeport");
    let svc = jig.service("nodeport-test", &json!({"type": "NodePort"}));
    jig.pods("nodeport-test", &["1a", "2a"]);
    svc.up(0, &["1a", "2a"]);
    up(&svc, Socket::Tcp, &["1a", "2a"]);
}

#[test]
fn should_be_able_to_change_the_type_from_externalname_to_nodeport() {
    let jig = Jig::new("name-to-nodeport");
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "externalname-service"},
        "spec": {"type": "ExternalName", "externalName": "foo.example.com"},
    });
    cluster().api().post(&jig.path("services", ""), &object).unwrap();
    jig.pods("externalname-service", &["1a", "2a"]);
    let mut svc = jig.known("externalname-service");
    svc.update(&json!({"spec": {
        "type": "NodePort",
        "externalName": null,
        "ipFamilyPolicy": "PreferDualStack",
        "selector": {"app": "externalname-service"},
        "ports": [port("http", "TCP", 80, &json!(TARGETS[0]))],
    }}));
    svc.up(0, &["1a", "2a"]);
    up(&svc, Socket::Tcp, &["1a", "2a"]);
}

#[test]
fn should_be_possible_to_connect_to_a_service_via_externalip_when_the_external_ip_is_not_assigned_to_a_node()
{
    let jig = Jig::new("external-ip");
    let addresses = ["203.0.113.250", "fd02::250"];
    let svc = jig.service("external-ip", &json!({"externalIPs": addresses}));
    jig.pods("external-ip", &["1a", "2a"]);
    svc.up(0, &["1a", "2a"]);
    for client in clients(0) {
        for addr in addresses {
            let to = SocketAddr::new(addr.parse::<IpAddr>().unwrap(), 80);
            reach(client, Socket::Tcp, to, &names(&["1a", "2a"]));
        }
    }
}

#[test]
fn should_be_able_to_update_service_type_to_nodeport_listening_on_same_port_number_but_different_protocols() {
    let jig = Jig::new("nodeport-update");
    let mut svc = jig.service("nodeport-update-service", &json!({}));
    jig.pods("nodeport-update-service", &["1a", "2a"]);
    svc.up(0, &["1a", "2a"]);
    let tcp = port("tcp-port", "TCP", 80, &json!(TARGETS[0]));
    svc.update(&json!({"spec": {"type": "NodePort", "ports": [tcp]}}));
    up(&svc, Socket::Tcp, &["1a", "2a"]);
    let mut ports = svc.object["spec"]["ports"].as_array().unwrap().clone();
    let mut udp = port("udp-port", "UDP", 80, &json!(TARGETS[0]));
    udp["nodePort"] = svc.node_port().into();
    ports.push(udp);
    svc.update(&json!({"spec": {"ports": ports}}));
    for socket in [Socket::Tcp, Socket::Udp] {
        up(&svc, socket, &["1a", "2a"]);
    }
}

/// Asserts that the host of the third machine hears nothing at the node port of the machine `index`.
fn silent(svc: &Svc<'_>, index: usize) {
    let [_, host] = clients(2);
    thread::scope(|scope| {
        for family in svc.families() {
            let to = svc.to(Place::NodePort(index), family);
            scope.spawn(move || assert_eq!(curl(host, to), SILENT, "{to}"));
        }
    });
}

#[test]
fn should_support_externaltrafficpolicy_local_for_type_nodeport() {
    let jig = Jig::new("etp-nodeport");
    let svc = jig
        .service("external-local-nodeport", &json!({"type": "NodePort", "externalTrafficPolicy": "Local"}));
    jig.pods("external-local-nodeport", &["1a"]);
    svc.settle(0, &["1a"]);
    let [pod, host] = clients(2);
    for family in svc.families() {
        for (client, ip) in [(host, node(2).ips()), (pod, super::jig::client(2).ips())] {
            let answer = client.ask(Socket::Tcp, svc.to(Place::NodePort(0), family)).unwrap();
            assert_eq!(
                (answer.pod.as_str(), answer.client.ip()),
                ("1a", ip[family]),
                "the client's address stays"
            );
        }
    }
    jig.barrier(1);
    silent(&svc, 1);
}

/// The health check node port.
pub(super) fn health_port(svc: &Svc<'_>) -> u16 {
    u16::try_from(svc.object["spec"]["healthCheckNodePort"].as_u64().unwrap()).unwrap()
}

/// What the machine `index` says at the health check node port `port`; `None`: nobody listens.
pub(super) fn health(index: usize, port: u16) -> Option<u16> {
    let [_, host] = clients(2);
    host.get(SocketAddr::new(node(index).ips()[0], port), "/").ok().map(|(code, _)| code)
}

#[test]
fn should_implement_nodeport_and_healthchecknodeport_correctly_when_externaltrafficpolicy_changes() {
    let jig = Jig::new("etp-changes");
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let mut svc = jig.service("external-local-update", &spec);
    jig.pods("external-local-update", &["1a"]);
    let first = health_port(&svc);
    for (policy, port) in [("Local", None), ("Cluster", Some(first)), ("Local", None)] {
        svc.update(&json!({"spec": {"externalTrafficPolicy": policy}}));
        let local = policy == "Local";
        let expected: [Option<u16>; 2] = if local { [Some(200), Some(503)] } else { [None; 2] };
        let port = port.unwrap_or_else(|| health_port(&svc));
        patiently(|| [0, 1].map(|index| health(index, port)) == expected).unwrap_or_else(|error| {
            panic!("{policy} {error}: {:?}", [0, 1].map(|index| health(index, port)))
        });
        for index in [0, 1] {
            svc.settle(index, &["1a"]);
            patiently(|| policy_of(&svc, index) == local).unwrap();
        }
        let [_, host] = clients(2);
        for family in svc.families() {
            reach(host, Socket::Tcp, svc.to(Place::NodePort(0), family), &names(&["1a"]));
            // B55: the node itself is spared.
            let [_, own] = clients(1);
            assert_eq!(curl(own, svc.to(Place::NodePort(1), family)), ANSWERED);
            if !local {
                reach(host, Socket::Tcp, svc.to(Place::NodePort(1), family), &names(&["1a"]));
            }
        }
        if local {
            silent(&svc, 1);
        }
    }
}

/// Whether the machine `index` has the Service with an external policy Local.
fn policy_of(svc: &Svc<'_>, index: usize) -> bool {
    let name = format!("{}/{}", svc.jig.namespace(), svc.name);
    let shown = node(index).sluice_json(&["service", "show", &name]).unwrap_or(Value::Null);
    shown[0]["external_policy"] == "Local"
}

#[test]
fn should_fail_health_check_node_port_if_there_are_only_terminating_endpoints() {
    let jig = Jig::new("terminating-health");
    let svc = jig
        .service("svc-proxy-terminating", &json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}));
    let pod = jig.pod("echo-hostname-0", spot("1a"), &svc.name);
    let port = health_port(&svc);
    patiently(|| health(0, port) == Some(200)).unwrap();
    pod.terminate();
    patiently(|| health(0, port) == Some(503)).unwrap();
    for family in svc.families() {
        reach(clients(0)[0], Socket::Tcp, svc.to(Place::NodePort(0), family), &names(&["1a"]));
    }
}

/// A Service with this external policy whose only endpoint, on the first machine, is terminating, as all machines know.
fn terminating<'j>(jig: &'j Jig, policy: &str) -> Svc<'j> {
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": policy});
    let svc = jig.service("svc-proxy-terminating", &spec);
    let pod = jig.pod("echo-hostname-0", spot("1a"), &svc.name);
    svc.up(0, &["1a"]);
    pod.terminate();
    jig.wait_endpoint(&svc.name, &|it| it["conditions"]["terminating"] == true);
    for index in [0, 1] {
        jig.barrier(index);
    }
    for family in svc.families() {
        for index in [0, 1] {
            reach(clients(index)[0], Socket::Tcp, svc.to(Place::NodePort(0), family), &names(&["1a"]));
        }
    }
    svc
}

#[test]
fn should_fallback_to_terminating_endpoints_when_there_are_no_ready_endpoints_with_externalltrafficpolicy_cluster()
 {
    terminating(&Jig::new("terminating-cluster"), "Cluster");
}

#[test]
fn should_fallback_to_local_terminating_endpoints_when_there_are_no_ready_endpoints_with_externaltrafficpolicy_local()
 {
    let jig = Jig::new("terminating-external");
    let svc = terminating(&jig, "Local");
    // Upstream's client is a pod whose traffic to nodes its network masquerades.
    silent(&svc, 1);
}
