//! Who answers, and whom it sees: {IPv4, IPv6} × {TCP, UDP} × {pod, host} × {pod, hairpin, other node} ×
//! {socket-lb all, host}.

use std::collections::BTreeMap;

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
                    assert_eq!(
                        (pod.as_str(), seen),
                        (backend.name(), addresses[way.family]),
                        "{case}"
                    );
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
            let expected = if by_socket {
                world.a.ips()
            } else {
                Node::addresses()
            };
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
            assert_eq!(
                counts,
                BTreeMap::from([("a", 10), ("b", 10), ("remote", 10)]),
                "{case}"
            );
            assert!(
                answers
                    .iter()
                    .zip(&answers[3..])
                    .all(|(this, later)| this == later),
                "{case}: {answers:?}"
            );
        }
    }
}

#[test]
fn b48_services_that_share_a_backend_work_from_one_client_port() {
    for world in worlds() {
        let services = [
            world.service("b48-one", &[&world.a]),
            world.service("b48-two", &[&world.a]),
        ];
        for (name, client, addresses) in world.clients() {
            for way in WAYS {
                let case = Case(world, name, way);
                let from = (addresses[way.family], 45_000).into();
                let open = |index: usize| {
                    let to = services[index].at(way);
                    client
                        .open_from(way.socket, Some(from), Some(to))
                        .unwrap_or_else(|error| panic!("{case}: {error}"))
                };
                let one = open(0);
                assert_eq!(case.answered(one.ask()).0, "a", "{case}");
                if way.socket == Socket::Udp || name == "host" {
                    // The same port cannot be bound twice; the collision of pods' sockets is tried by the datapath's own tests.
                    drop(one);
                    assert_eq!(case.answered(open(1).ask()).0, "a", "{case}");
                }
            }
        }
    }
}
