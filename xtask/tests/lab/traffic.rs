//! Who answers, and whom it sees: {IPv4, IPv6} × {TCP, UDP} × {pod, host} × {pod, hairpin, other node} ×
//! {socket-lb all, host}.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use xtask::lab::helper::wire::Socket;
use xtask::lab::{Node, Pod};

use crate::support::{Case, Mode, WAYS, World, worlds};

#[test]
fn b36_b75_pods_and_hosts_reach_backends_of_this_node_and_keep_their_address() {
    reaches("b75-own", |world| &world.a);
}

#[test]
fn b36_b75_pods_and_hosts_reach_backends_of_other_nodes_and_keep_their_address() {
    reaches("b75-remote", |world| &world.remote);
}

fn reaches(name: &str, backend: fn(&World) -> &Pod) {
    for world in worlds() {
        let backend = backend(world);
        let service = world.service(name, &[backend]);
        for (client_name, client, addresses) in world.clients() {
            for way in WAYS {
                let case = Case(world, client_name, way);
                // Twice: the second connection meets whatever the first has left.
                for _ in 0..2 {
                    let (pod, seen) = case.answered(service.ask(client, way));
                    assert_eq!((pod.as_str(), seen), (backend.name(), addresses[way.family]), "{case}");
                }
            }
        }
    }
}

#[test]
fn b74_a_pod_reaches_itself_as_the_node() {
    for world in worlds() {
        let service = world.service("b74", &[&world.a]);
        for way in WAYS {
            let case = Case(world, "the backend itself", way);
            let (pod, seen) = case.answered(service.ask(&world.a, way));
            // A socket that is translated at connect() talks to itself: a listed difference of the socket path.
            let by_socket = world.mode == Mode::All && way.socket == Socket::Tcp;
            let expected = if by_socket { world.a.ips() } else { Node::addresses() };
            assert_eq!((pod.as_str(), seen), ("a", expected[way.family]), "{case}");
        }
    }
}

#[test]
fn b37_the_nth_connection_goes_to_the_nth_backend() {
    for world in worlds() {
        let service = world.service("b37", &[&world.a, &world.b, &world.remote]);
        for way in WAYS {
            // Clients alternate, and take part in the same round.
            let clients = world.clients();
            let asked = clients.iter().cycle().take(30);
            let answers: Vec<_> = asked
                .map(|(name, client, _)| Case(world, name, way).answered(service.ask(client, way)).0)
                .collect();
            let mut counts = BTreeMap::new();
            for pod in &answers {
                *counts.entry(pod.as_str()).or_insert(0) += 1;
            }
            let case = Case(world, "both", way);
            assert_eq!(counts, BTreeMap::from([("a", 10), ("b", 10), ("remote", 10)]), "{case}");
            assert!(
                answers.iter().zip(&answers[3..]).all(|(this, later)| this == later),
                "{case}: {answers:?}"
            );
        }
    }
}

#[test]
fn b48_two_services_of_one_backend_work_from_one_client_port() {
    for world in worlds() {
        let services = [world.service("b48-one", &[&world.a]), world.service("b48-two", &[&world.a])];
        let (client, addresses) = (&world.client, world.client.ips());
        // A socket that is translated at connect() has the backend as its peer: there the second is the kernel's to refuse.
        let by_packets = WAYS.into_iter().filter(|way| world.mode == Mode::Host || way.socket == Socket::Udp);
        for way in by_packets {
            let case = Case(world, "pod", way);
            let from = SocketAddr::new(addresses[way.family], 45_000);
            let connections = [&services[0], &services[1]].map(|service| {
                let opened = client.open_from(way.socket, Some(from), Some(service.at(way)));
                opened.unwrap_or_else(|error| panic!("{case}: {error}"))
            });
            let answers = [0, 1, 0, 1].map(|index| connections[index].ask().unwrap());
            for (index, answer) in answers.iter().enumerate() {
                assert_eq!((answer.pod.as_str(), answer.client.ip()), ("a", from.ip()), "{case}");
                assert_eq!(answer.client, answers[index % 2].client, "{case}: a connection keeps its port");
            }
            assert_eq!(answers[0].client.port(), from.port(), "{case}: the first keeps its own");
            assert_ne!(answers[1].client.port(), from.port(), "{case}: the second gets another one");
        }
    }
}
