//! Services of one family and of two, and everything by the secondary one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::{Owned, Space};

use super::jig::{Jig, PodObject, TARGETS, clients, node, port, spot};
use super::svc::{Place, Svc, reach};
use crate::support::cluster;

/// The family that Services of two families have second.
const SECONDARY: usize = 1;
const PODS: [&str; 3] = ["1a", "2a", "3a"];

/// Where Services are asked.
const PLACES: [Place; 3] = [Place::ClusterIp, Place::NodePort(0), Place::NodePort(1)];

/// A Service of these families (none: what the cluster gives) has an address of each, in this order, and endpoints of them
/// alone; and it answers.
fn families(name: &str, policy: &str, asked: &[&str], given: &[&str]) {
    let jig = Jig::new(name);
    let mut spec = json!({"ipFamilyPolicy": policy});
    if !asked.is_empty() {
        spec["ipFamilies"] = json!(asked);
    }
    let svc = jig.service("service", &spec);
    jig.pods("service", &["1a", "2a"]);
    assert_eq!(svc.object["spec"]["ipFamilies"], json!(given));
    assert_eq!(svc.object["spec"]["ipFamilyPolicy"], policy);
    let addresses = svc.object["spec"]["clusterIPs"].as_array().unwrap().iter();
    let addresses = addresses.map(|ip| if ip.as_str().unwrap().contains(':') { "IPv6" } else { "IPv4" });
    assert_eq!(addresses.collect::<Vec<_>>(), given);
    svc.up(0, &["1a", "2a"]);
    let types: BTreeSet<_> = jig.slices(&svc.name).iter().map(|it| it["addressType"].to_string()).collect();
    assert_eq!(types, given.iter().map(|family| format!("\"{family}\"")).collect());
}

#[test]
fn should_create_a_single_stack_service_with_cluster_ip_from_primary_service_range() {
    families("single", "SingleStack", &[], &["IPv4"]);
}

#[test]
fn should_create_service_with_ipv4_cluster_ip() {
    families("ipv4", "SingleStack", &["IPv4"], &["IPv4"]);
}

#[test]
fn should_create_service_with_ipv6_cluster_ip() {
    families("ipv6", "SingleStack", &["IPv6"], &["IPv6"]);
}

#[test]
fn should_create_service_with_ipv4_v6_cluster_ip() {
    families("ipv4-ipv6", "RequireDualStack", &["IPv4", "IPv6"], &["IPv4", "IPv6"]);
}

#[test]
fn should_create_service_with_ipv6_v4_cluster_ip() {
    families("ipv6-ipv4", "RequireDualStack", &["IPv6", "IPv4"], &["IPv6", "IPv4"]);
}

/// Port 80 of a protocol, at the port `target` of the endpoints.
fn of_protocol<'j>(jig: &'j Jig, socket: Socket, target: u16, mut spec: Value) -> Svc<'j> {
    let protocol = if socket == Socket::Udp { "UDP" } else { "TCP" };
    spec["ports"] = json!([port("port", protocol, 80, &json!(target))]);
    jig.service("granular", &spec)
}

/// A Service with three pods, settled on the first machine.
fn granular<'j>(jig: &'j Jig, socket: Socket) -> (Svc<'j>, Vec<PodObject>) {
    let svc = of_protocol(jig, socket, TARGETS[0], json!({"type": "NodePort"}));
    let pods = jig.pods("granular", &PODS);
    svc.port_settled(0, socket, 80, TARGETS[0], &PODS);
    (svc, pods)
}

fn names(pods: &[&str]) -> BTreeSet<String> {
    pods.iter().map(ToString::to_string).collect()
}

/// `client` reaches all pods by the secondary family, at the Service's address and at nodes.
fn functions(name: &str, client: &Space, socket: Socket) {
    let jig = Jig::new(name);
    let (svc, _) = granular(&jig, socket);
    svc.port_settled(1, socket, 80, TARGETS[0], &PODS);
    for place in PLACES {
        reach(client, socket, svc.to(place, SECONDARY), &names(&PODS));
    }
}

#[test]
fn should_function_for_pod_service_http() {
    functions("pod-http", clients(0)[0], Socket::Tcp);
}

#[test]
fn should_function_for_pod_service_udp() {
    functions("pod-udp", clients(0)[0], Socket::Udp);
}

#[test]
fn should_function_for_pod_service_sctp() {
    const TARGET: u16 = 9146;
    let jig = Jig::new("pod-sctp");
    let ports = [port("port", "SCTP", 80, &json!(TARGET))];
    let svc = jig.service("granular", &json!({"type": "NodePort", "ports": ports}));
    let (server, script) =
        (&spot("2a").pod, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/packets/sctp.py"));
    jig.pods("granular", &["2a"]);
    let endpoint = SocketAddr::new(server.ips()[SECONDARY], TARGET);
    for index in [0, 1] {
        svc.settled(index, "SCTP", 80, SECONDARY, &[endpoint].into());
    }
    // The kernel's own SCTP need not be there: packets by hand.
    let run = |space: &Space, words: [&str; 3]| {
        let mut command = space.command("python3");
        command.args(["-B", script]).args(words).stdin(Stdio::null());
        command
    };
    let mut serve = run(server, ["serve", &endpoint.ip().to_string(), &TARGET.to_string()]);
    let _server = Owned::ready(&mut serve).unwrap();
    for place in PLACES {
        let to = svc.to(place, SECONDARY);
        let words = ["ask", &to.ip().to_string(), &to.port().to_string()];
        let output = run(clients(0)[0], words).output().unwrap();
        assert!(output.status.success(), "{place:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn should_function_for_node_service_http() {
    functions("node-http", clients(0)[1], Socket::Tcp);
}

#[test]
fn should_function_for_node_service_udp() {
    functions("node-udp", clients(0)[1], Socket::Udp);
}

#[test]
fn should_function_for_endpoint_service_http() {
    functions("endpoint-http", &spot("1a").pod, Socket::Tcp);
}

#[test]
fn should_function_for_endpoint_service_udp() {
    functions("endpoint-udp", &spot("1a").pod, Socket::Udp);
}

fn updates(name: &str, socket: Socket) {
    let jig = Jig::new(name);
    let (svc, pods) = granular(&jig, socket);
    reach(clients(0)[0], socket, svc.at(SECONDARY, 80), &names(&PODS));
    pods[0].delete();
    svc.port_settled(0, socket, 80, TARGETS[0], &PODS[1..]);
    reach(clients(0)[0], socket, svc.at(SECONDARY, 80), &names(&PODS[1..]));
}

#[test]
fn should_update_endpoints_http() {
    updates("update-http", Socket::Tcp);
}

#[test]
fn should_update_endpoints_udp() {
    updates("update-udp", Socket::Udp);
}

fn affinity(name: &str, socket: Socket) {
    let jig = Jig::new(name);
    let svc = of_protocol(&jig, socket, TARGETS[0], json!({"sessionAffinity": "ClientIP"}));
    jig.pods("granular", &PODS);
    svc.port_settled(0, socket, 80, TARGETS[0], &PODS);
    let ask = |_| clients(0)[0].ask(socket, svc.at(SECONDARY, 80)).unwrap().pod;
    let answered: BTreeSet<_> = (0..10).map(ask).collect();
    assert_eq!(answered.len(), 1, "{answered:?}");
}

#[test]
fn should_function_for_client_ip_based_session_affinity_http() {
    affinity("affinity-http", Socket::Tcp);
}

#[test]
fn should_function_for_client_ip_based_session_affinity_udp() {
    affinity("affinity-udp", Socket::Udp);
}

fn script(space: &Space, words: &[&str]) -> Command {
    let mut command = space.command("python3");
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/upstream/echo.py")).args(words);
    command.stdin(Stdio::null());
    command
}

/// Sends 2000 bytes from `client` and wants them back.
fn asked(client: &Space, socket: Socket, to: SocketAddr) {
    let kind = if socket == Socket::Udp { "udp" } else { "http" };
    let output = script(client, &[kind, &to.ip().to_string(), &to.port().to_string()]).output().unwrap();
    assert!(output.status.success(), "{kind} {to}: {}", String::from_utf8_lossy(&output.stderr));
}

fn large(name: &str, socket: Socket, target: u16) {
    let jig = Jig::new(name);
    let mut serve = script(&spot("2a").pod, &["serve", &target.to_string()]);
    let _echo = Owned::ready(&mut serve).unwrap();
    let svc = of_protocol(&jig, socket, target, json!({}));
    jig.pods("granular", &["2a"]);
    svc.port_settled(0, socket, 80, target, &["2a"]);
    asked(clients(0)[0], socket, svc.at(SECONDARY, 80));
}

#[test]
fn should_be_able_to_handle_large_requests_http() {
    large("large-http", Socket::Tcp, 9001);
}

#[test]
fn should_be_able_to_handle_large_requests_udp() {
    large("large-udp", Socket::Udp, 9002);
}

#[test]
fn should_function_for_service_endpoints_using_hostnetwork() {
    const PORT: u16 = 10181;
    let jig = Jig::new("host-network");
    let [tcp, mut udp] =
        ["TCP", "UDP"].map(|protocol| port(&protocol.to_lowercase(), protocol, 80, &json!(PORT)));
    let mut svc = jig.service("granular", &json!({"type": "NodePort", "ports": [tcp]}));
    udp["nodePort"] = svc.node_port().into();
    svc.update(&json!({"spec": {"ports": [svc.object["spec"]["ports"][0], udp]}}));
    let all = 0..cluster().nodes().len();
    for index in all.clone() {
        for transport in [Transport::Tcp, Transport::Udp] {
            node(index).host().serve(transport, PORT, node(index).name()).unwrap();
        }
        jig.host_pod(&format!("netserver-{index}"), index, "granular");
    }
    let names: BTreeSet<_> = all.clone().map(|index| node(index).name().to_owned()).collect();
    for (proto, socket) in [("TCP", Socket::Tcp), ("UDP", Socket::Udp)] {
        let endpoints = all.clone().map(|index| SocketAddr::new(node(index).ips()[SECONDARY], PORT));
        let endpoints = endpoints.collect();
        for index in [0, 1] {
            svc.settled(index, proto, 80, SECONDARY, &endpoints);
        }
        for (client, place) in clients(0).into_iter().flat_map(|client| PLACES.map(|place| (client, place))) {
            reach(client, socket, svc.to(place, SECONDARY), &names);
        }
    }
}
