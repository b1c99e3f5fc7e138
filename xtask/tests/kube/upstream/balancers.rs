//! Load balancers, as a cloud that hands packets on leaves them to the nodes.

use serde_json::json;
use xtask::lab::Network;
use xtask::lab::helper::wire::Socket;

use super::affinity;
use super::cloud::{admitted, another, outside, service, three};
use super::conntrack::{cycle, udp};
use super::edge::{health, health_port, names};
use super::jig::{Jig, TARGETS, client, clients, node, patiently, port, spot};
use super::svc::{Place, Svc, reach};
use crate::support::cluster;

/// Waits until `pod` answers there from a pod, or from outside at a load balancer; and until that fails without one.
fn follows(svc: &Svc<'_>, socket: Socket, places: &[Place], pod: Option<&str>) {
    for (place, family) in
        places.iter().flat_map(|place| svc.families().into_iter().map(move |it| (*place, it)))
    {
        let client = if matches!(place, Place::Balancer) { outside() } else { clients(0)[0] };
        let mut last = None;
        patiently(|| {
            last = Some(client.ask(socket, svc.to(place, family)));
            match (&last, pod) {
                (Some(Ok(answer)), Some(pod)) => answer.pod == pod,
                (Some(asked), None) => asked.is_err(),
                _ => false,
            }
        })
        .unwrap_or_else(|error| panic!("{place:?} {error}: {last:?}, not {pod:?}"));
    }
}

/// `another`: a node port of those that the API server does not give by itself.
fn changes(name: &str, socket: Socket, another: u16) {
    const NODES: [Place; 3] = [Place::ClusterIp, Place::NodePort(0), Place::NodePort(1)];
    const ALL: [Place; 4] = [Place::ClusterIp, Place::NodePort(0), Place::NodePort(1), Place::Balancer];
    let protocol = if socket == Socket::Udp { "UDP" } else { "TCP" };
    let jig = Jig::new(name);
    let ports = [port("port", protocol, 80, &json!(TARGETS[0]))];
    let mut svc = jig.service("mutability-test", &json!({ "ports": ports }));
    let pod = jig.pod("pod", spot("1a"), &svc.name);
    follows(&svc, socket, &[Place::ClusterIp], Some("1a"));
    svc.update(&json!({"spec": {"type": "NodePort"}}));
    let number = svc.node_port();
    follows(&svc, socket, &NODES, Some("1a"));
    svc.update(&json!({"spec": {"type": "LoadBalancer"}}));
    svc.provision();
    assert_eq!(svc.node_port(), number);
    follows(&svc, socket, &ALL, Some("1a"));
    let (balancer, mut ports) = (svc.object["status"].clone(), svc.object["spec"]["ports"].clone());
    ports[0]["nodePort"] = another.into();
    svc.update(&json!({"spec": {"ports": ports}}));
    assert_ne!(svc.node_port(), number);
    follows(&svc, socket, &ALL, Some("1a"));
    ports[0]["port"] = 81.into();
    svc.update(&json!({"spec": {"ports": ports}}));
    assert_eq!(svc.object["status"], balancer);
    follows(&svc, socket, &ALL, Some("1a"));
    pod.delete();
    follows(&svc, socket, &[Place::Balancer], None);
    jig.pod("pod", spot("2a"), &svc.name);
    follows(&svc, socket, &ALL, Some("2a"));
    let old: Vec<_> = svc.families().into_iter().map(|family| svc.to(Place::Balancer, family)).collect();
    svc.update(&json!({"spec": {"type": "ClusterIP"}}));
    assert_eq!(svc.node_port(), None);
    for to in old {
        patiently(|| outside().ask(socket, to).is_err()).unwrap();
    }
    follows(&svc, socket, &[Place::ClusterIp], Some("2a"));
}

#[test]
fn should_be_able_to_change_the_type_and_ports_of_a_tcp_service() {
    changes("lb-tcp", Socket::Tcp, 30_002);
}

#[test]
fn should_be_able_to_change_the_type_and_ports_of_a_udp_service() {
    changes("lb-udp", Socket::Udp, 30_003);
}

#[test]
fn should_only_allow_access_from_service_loadbalancer_source_ranges() {
    let jig = Jig::new("lb-ranges");
    let mut svc = service(&jig, "lb-sourcerange", json!({}));
    jig.pods(&svc.name, &["3a"]);
    let [accepted, dropped, far] = three();
    admitted(&svc, &[accepted, dropped, far], &[]);
    let ranges = |svc: &mut Svc<'_>, ranges: &[String]| {
        svc.update(&json!({"spec": {"loadBalancerSourceRanges": ranges}}));
    };
    let addresses = [client(0).ips(), node(0).ips()];
    let own =
        addresses.as_flattened().iter().map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }));
    ranges(&mut svc, &own.collect::<Vec<_>>());
    admitted(&svc, &[accepted], &[dropped, far]);
    ranges(&mut svc, &["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"].map(str::to_owned));
    admitted(&svc, &[accepted, dropped, far], &[]);
    ranges(&mut svc, &["255.0.0.0/32", "ffff::/128"].map(str::to_owned));
    admitted(&svc, &[], &[accepted, dropped, far]);
    svc.update(&json!({"spec": {"loadBalancerSourceRanges": null}}));
    admitted(&svc, &[accepted, dropped, far], &[]);
}

/// A Service with affinity and this external policy; its load balancer leads to the first machine.
fn sticky<'j>(jig: &'j Jig, policy: &str) -> Svc<'j> {
    const PODS: [&str; 3] = ["1a", "1b", "2a"];
    let spec = json!({"sessionAffinity": "ClientIP", "externalTrafficPolicy": policy});
    let svc = service(jig, "affinity-lb", spec);
    jig.pods(&svc.name, &PODS);
    svc.settle(0, &PODS);
    svc
}

#[test]
fn should_have_session_affinity_work_for_loadbalancer_service_with_local_traffic_policy() {
    let jig = Jig::new("lb-affinity-local");
    affinity::check(&sticky(&jig, "Local"), &[outside()], Place::Balancer, true);
}

#[test]
fn should_have_session_affinity_work_for_loadbalancer_service_with_cluster_traffic_policy() {
    let jig = Jig::new("lb-affinity-cluster");
    affinity::check(&sticky(&jig, "Cluster"), &[outside()], Place::Balancer, true);
}

#[test]
fn should_be_able_to_switch_session_affinity_for_loadbalancer_service_with_local_traffic_policy() {
    let jig = Jig::new("lb-switch-local");
    affinity::switch(&mut sticky(&jig, "Local"), &[outside()], Place::Balancer);
}

#[test]
fn should_be_able_to_switch_session_affinity_for_loadbalancer_service_with_cluster_traffic_policy() {
    let jig = Jig::new("lb-switch-cluster");
    affinity::switch(&mut sticky(&jig, "Cluster"), &[outside()], Place::Balancer);
}

#[test]
fn should_be_able_to_create_loadbalancer_service_without_nodeport_and_change_it() {
    let jig = Jig::new("lb-without-port");
    let mut svc = service(&jig, "reallocate-nodeport-test", json!({"allocateLoadBalancerNodePorts": false}));
    jig.pods(&svc.name, &["2a"]);
    assert_eq!(svc.node_port(), None);
    follows(&svc, Socket::Tcp, &[Place::ClusterIp, Place::Balancer], Some("2a"));
    let status = svc.object["status"].clone();
    svc.update(&json!({"spec": {"allocateLoadBalancerNodePorts": true}}));
    assert!(svc.node_port().is_some());
    assert_eq!(svc.object["status"], status);
    follows(&svc, Socket::Tcp, &[Place::NodePort(0), Place::NodePort(1), Place::Balancer], Some("2a"));
}

/// A client outside keeps its source port while the server at the load balancer becomes another one.
fn udp_cycle(name: &str, servers: [&str; 2]) {
    let jig = Jig::new(name);
    let mut svc = udp(&jig, json!({"type": "LoadBalancer"}));
    svc.provision();
    cycle(&svc, (&another(name), 54321), Place::Balancer, servers);
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_loadbalancer_service_on_different_nodes()
 {
    udp_cycle("lb-udp-nodes", ["1a", "2a"]);
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_loadbalancer_service_on_the_same_nodes()
 {
    udp_cycle("lb-udp-node", ["1a", "1b"]);
}

/// A Service of type LoadBalancer with externalTrafficPolicy Local.
fn local<'j>(jig: &'j Jig, name: &str) -> Svc<'j> {
    service(jig, name, json!({"externalTrafficPolicy": "Local"}))
}

#[test]
fn should_work_for_type_loadbalancer() {
    let jig = Jig::new("lb-local");
    let mut svc = local(&jig, "external-local-lb");
    jig.pods(&svc.name, &["2a"]);
    // A node is healthy as soon as it has one of the families.
    svc.settle(1, &["2a"]);
    svc.leads_to_healthy(&[1]);
    for family in svc.families() {
        let answer = outside().ask(Socket::Tcp, svc.to(Place::Balancer, family)).unwrap();
        assert_eq!((answer.pod.as_str(), answer.client.ip()), ("2a", Network::outside_ips()[family]));
    }
    let port = health_port(&svc);
    svc.update(&json!({"spec": {"type": "ClusterIP"}}));
    for index in 0..cluster().nodes().len() {
        patiently(|| health(index, port).is_none()).unwrap();
    }
}

#[test]
fn should_only_target_nodes_with_endpoints() {
    let jig = Jig::new("lb-local-nodes");
    let svc = local(&jig, "external-local-nodes");
    for (index, name) in ["1a", "2a", "3a"].into_iter().enumerate() {
        let pod = jig.pod(name, spot(name), &svc.name);
        svc.leads_to_healthy(&[index]);
        follows(&svc, Socket::Tcp, &[Place::Balancer], Some(name));
        pod.delete();
    }
}

#[test]
fn should_target_all_nodes_with_endpoints() {
    let jig = Jig::new("lb-local-all");
    let svc = local(&jig, "external-local-update");
    jig.pods(&svc.name, &["1a", "2a"]);
    svc.leads_to_healthy(&[0, 1]);
    for (index, name) in [(0, "1a"), (1, "2a")] {
        svc.leads_to(index);
        follows(&svc, Socket::Tcp, &[Place::Balancer], Some(name));
    }
}

#[test]
fn should_work_from_pods() {
    let jig = Jig::new("lb-local-pods");
    let svc = local(&jig, "external-local-pods");
    jig.pods(&svc.name, &["1a"]);
    for index in [0, 2] {
        svc.settle(index, &["1a"]);
        for family in svc.families() {
            let (pod, to) = (client(index), svc.to(Place::Balancer, family));
            reach(pod, Socket::Tcp, to, &names(&["1a"]));
            assert_eq!(pod.ask(Socket::Tcp, to).unwrap().client.ip(), pod.ips()[family]);
        }
    }
}
