//! Source ports: who asks from the same as another, and what happens when there are none left.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};
use xtask::lab::helper::wire::Socket;
use xtask::lab::wait_for;

use super::scene::Scene;
use super::service::{Front, Svc};
use super::shared;
use crate::floods::{Flood, SWEPT};
use crate::support::{Mode, TARGET, WAYS, long};

#[test]
fn b79_clients_outside_with_equal_ports_do_not_collide() {
    shared().for_each(equal_ports);
}

fn equal_ports(scene: &Scene) {
    let svc = Svc { name: "equal", number: 64 };
    let clients = scene.clients();
    // Nobody of the first machine: all come in by its uplink.
    let clients: Vec<_> = clients.iter().filter(|client| client.machine != Some(0)).collect();
    for (backend, front) in [((&scene.there, 1), Front::NodePort(0)), ((&scene.here, 0), Front::NodePort(0))]
    {
        scene.serve(svc, &[backend], &json!({}));
        for way in WAYS {
            let connections: Vec<_> = clients
                .iter()
                .map(|client| {
                    let from =
                        SocketAddr::new(client.ips[way.family], 45_000 + u16::try_from(backend.1).unwrap());
                    let to = svc.at(scene, front, way);
                    (from, client.space.open_from(way.socket, Some(from), Some(to)).unwrap())
                })
                .collect();
            let mut seen = BTreeSet::new();
            for (from, connection) in &connections {
                let answer = connection.ask().unwrap();
                assert_eq!(answer.pod, backend.0.name());
                assert!(seen.insert(answer.client), "{from} is seen as another was: {}", answer.client);
                let node = scene.first().ips()[way.family];
                if backend.1 == 0 {
                    assert_eq!(answer.client, *from, "{way:?}");
                } else {
                    assert_eq!(answer.client.ip(), node, "{way:?}");
                }
                assert_eq!(connection.ask().unwrap().client, answer.client, "a connection keeps its port");
            }
        }
    }
}

#[test]
fn b48_two_addresses_of_one_backend_are_asked_from_one_port_outside() {
    shared().for_each(one_port);
}

fn one_port(scene: &Scene) {
    let svc = Svc { name: "twice", number: 65 };
    let outside = &scene.clients()[0];
    for (backend, node) in [((&scene.there, 1), true), ((&scene.here, 0), false)] {
        scene.serve(svc, &[backend], &json!({}));
        for way in WAYS {
            let from = SocketAddr::new(outside.ips[way.family], 45_010 + u16::from(node));
            let connections = [Front::ExternalIp, Front::LoadBalancer].map(|front| {
                let to = svc.at(scene, front, way);
                outside.space.open_from(way.socket, Some(from), Some(to)).unwrap()
            });
            let seen = [0, 1, 0, 1].map(|index| connections[index].ask().unwrap().client);
            assert_ne!(seen[0], seen[1], "{way:?}");
            assert_eq!((seen[0], seen[1]), (seen[2], seen[3]), "{way:?}");
            let ip = if node { scene.first().ips()[way.family] } else { from.ip() };
            assert!(seen.iter().all(|client| client.ip() == ip), "{way:?}: {seen:?}");
        }
    }
}

#[test]
fn b79_sockets_of_the_node_and_flows_have_no_port_in_common() {
    shared().for_each(keep_apart);
}

/// Sockets of the first machine are bound by number to ports that flows have, or would have next, and are connected to
/// the endpoint of these.
fn keep_apart(scene: &Scene) {
    let svc = Svc { name: "apart", number: 70 };
    let outside = scene.network.outside();
    scene.serve(svc, &[(&scene.there, 1)], &json!({}));
    for way in WAYS {
        let front = svc.at(scene, Front::NodePort(0), way);
        let endpoint = SocketAddr::new(scene.there.ips()[way.family], TARGET);
        let mut conversations = Vec::new();
        let mut open = |from: Option<SocketAddr>| {
            let (space, to) =
                if from.is_some() { (scene.first().host(), endpoint) } else { (outside, front) };
            let connection = space.open_from(way.socket, from, Some(to)).unwrap();
            let seen = connection.ask().unwrap().client;
            conversations.push((connection, seen));
            seen
        };
        let flow = open(None);
        let late = open(Some(flow));
        assert_eq!(late.ip(), flow.ip(), "{way:?}");
        assert_ne!(late.port(), flow.port(), "{way:?}");
        let next = SocketAddr::new(flow.ip(), late.port() + 1);
        assert_eq!(open(Some(next)), next, "{way:?}: nobody has it");
        let other = open(None);
        assert_eq!(other, SocketAddr::new(flow.ip(), next.port() + 1), "{way:?}");
        for (connection, seen) in conversations.iter().chain(&conversations) {
            let answer = connection.ask().unwrap_or_else(|failure| panic!("{way:?}, {seen}: {failure}"));
            assert_eq!((answer.pod.as_str(), answer.client), ("there", *seen), "{way:?}");
        }
    }
}

/// How many source ports there are towards a backend.
const ALL: u64 = 33_512;

/// What `stats` says of the ports that connections to the backends of `svc` by `proto` have.
fn in_use(scene: &Scene, proto: &str) -> Vec<u64> {
    let stats = scene.first().sluice_json(&["stats"]).unwrap();
    let backends = scene.there.ips().map(|ip| ip.to_string());
    let of = |row: &&Value| {
        row["proto"] == proto
            && backends.iter().any(|ip| row["backend"] == ip.as_str())
            && row["ports"] == ALL
    };
    stats["nat"].as_array().unwrap().iter().filter(of).filter_map(|row| row["in_use"].as_u64()).collect()
}

fn counted(scene: &Scene, reason: &str) -> u64 {
    let stats = scene.first().sluice_json(&["stats"]).unwrap();
    let rows = stats["reasons"].as_array().unwrap();
    rows.iter().filter(|row| row["reason"] == reason).filter_map(|row| row["count"].as_u64()).sum()
}

#[test]
fn b79_a_backend_whose_ports_are_used_up_is_told_and_has_them_back() {
    let (scene, svc) = used_up(false);
    if long() {
        reclaimed(&scene, svc);
    }
}

#[test]
fn b79_a_backend_whose_ports_are_used_up_before_the_host_stack_has_them_back() {
    used_up(true);
}

/// A scene in which the Service has had no source port left, and has them all again.
fn used_up(xdp: bool) -> (Scene, Svc) {
    // Room for all of them beside those that are not confirmed.
    let flags = [
        "--max-flows",
        "262144",
        "--sweep-interval",
        "1",
        "--flow-lifetime",
        "udp-unreplied=20,udp-replied=20",
    ];
    let scene = Scene::with_xdp("used-up", Mode::Host, xdp, &flags);
    let (svc, other) = (Svc { name: "used", number: 66 }, Svc { name: "unused", number: 67 });
    scene.serve(svc, &[(&scene.there, 1)], &json!({}));
    scene.serve(other, &[(&scene.here, 0)], &json!({}));
    let (client, way) = (&scene.clients()[0], WAYS[1]);
    // A pod of the other machine asks at the first one, from more ports than there are.
    let to = WAYS.map(|way| svc.at(&scene, Front::NodePort(0), way));
    // The queue of an interface with XDP is short: what did not get through once is sent again.
    wait_for(SWEPT, || {
        let flood = Flood::of(&scene.pods[1], "udp", [to[1], to[3]], (40_000, 0));
        assert!(flood.sent() >= 80_000);
        counted(&scene, "snat_ports_exhausted") > 0
    })
    .unwrap();
    let ports = in_use(&scene, "UDP");
    assert!(
        ports.iter().all(|ports| *ports <= ALL) && ports.iter().any(|ports| *ports > ALL / 2),
        "{ports:?}"
    );
    let events = scene.first().sluice_json(&["event", "list"]).unwrap();
    let backends = scene.there.ips().map(|ip| ip.to_string());
    let told = |event: &&Value| {
        event["reason"] == "snat_ports_exhausted"
            && event["service"] == svc.name
            && backends.iter().any(|ip| event["backend"] == ip.as_str())
            && event["backend_port"] == TARGET
    };
    assert!(events.as_array().unwrap().iter().any(|event| told(&event)), "{events:#}");
    // Neither another protocol nor another backend is concerned.
    assert_eq!(scene.ask(client.space, (svc, Front::NodePort(0), WAYS[0])).unwrap().pod, "there");
    assert_eq!(scene.ask(client.space, (other, Front::NodePort(0), way)).unwrap().pod, "here");
    // Once they have idled out everybody is served again.
    wait_for(SWEPT * 3, || {
        WAYS.into_iter().all(|way| scene.ask(client.space, (svc, Front::NodePort(0), way)).is_ok())
    })
    .unwrap();
    (scene, svc)
}

/// Connections that are over give up their ports long before they idle out.
fn reclaimed(scene: &Scene, svc: Svc) {
    let to = svc.at(scene, Front::NodePort(0), WAYS[0]);
    let [outside, _, _, pod, ..] = scene.clients();
    // One client has fewer ports than that, as it remembers its connections.
    let clients = [outside.space, pod.space].into_iter().cycle();
    for (number, client) in (0..ALL + 1000).zip(clients) {
        let answer = client.ask(Socket::Tcp, to);
        assert!(answer.is_ok(), "connection {number}: {answer:?}");
    }
}
