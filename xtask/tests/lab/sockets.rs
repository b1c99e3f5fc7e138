//! What an application sees of the Service on its own socket: the addresses, kinds and states that sockets have.

use std::net::{IpAddr, SocketAddr};

use xtask::lab::helper::wire::Socket;

use crate::support::{Case, WAYS, Way, worlds};

#[test]
fn getpeername_names_the_service() {
    for world in worlds() {
        let service = world.service("peername", &[&world.a]);
        world.everywhere(|case, client, way| {
            let socket = client.open(way.socket, Some(service.at(way))).unwrap();
            assert_eq!(socket.peer(), Some(service.at(way)), "{case}");
            case.answered_by("a", socket.ask());
        });
    }
}

#[test]
fn an_unconnected_socket_is_answered_by_the_service() {
    for world in worlds() {
        let service = world.service("recvmsg", &[&world.a, &world.b]);
        for (name, client, addresses) in world.clients() {
            for way in WAYS.into_iter().filter(|way| way.socket == Socket::Udp) {
                let case = Case(world, name, way);
                let from = SocketAddr::new(addresses[way.family], 0);
                let socket = client.open_from(Socket::Udp, Some(from), None).unwrap();
                let answers =
                    [0; 4].map(|_| socket.ask_to(service.at(way)).unwrap_or_else(|e| panic!("{case}: {e}")));
                for answer in &answers {
                    assert_eq!(answer.from, Some(service.at(way)), "{case}");
                    assert_eq!(answer.pod, answers[0].pod, "{case}: one socket, one backend");
                }
                // The same socket, without the Service in between.
                let direct = SocketAddr::new(world.c.ips()[way.family], crate::support::TARGET);
                assert_eq!(socket.ask_to(direct).unwrap().from, Some(direct), "{case}");
            }
        }
    }
}

#[test]
fn one_unconnected_socket_uses_two_services_of_one_backend() {
    for world in worlds() {
        let services =
            [world.service("shared-one", &[&world.a]), world.service("shared-two", &[&world.a, &world.b])];
        for (name, client, addresses) in world.clients() {
            for way in WAYS.into_iter().filter(|way| way.socket == Socket::Udp) {
                let case = Case(world, name, way);
                let from = SocketAddr::new(addresses[way.family], 0);
                let socket = client.open_from(Socket::Udp, Some(from), None).unwrap();
                for service in services.iter().chain(&services) {
                    let answer =
                        socket.ask_to(service.at(way)).unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert_eq!(answer.from, Some(service.at(way)), "{case}");
                }
            }
        }
    }
}

#[test]
fn ipv6_sockets_reach_ipv4_services() {
    for world in worlds() {
        let service = world.service("mapped", &[&world.a]);
        let IpAddr::V4(addr) = service.addresses[0] else { panic!("IPv4 comes first") };
        let to = SocketAddr::new(addr.to_ipv6_mapped().into(), 80);
        for (name, client, addresses) in world.clients() {
            for socket in [Socket::Tcp, Socket::Udp] {
                let case = Case(world, name, Way { socket, family: 0 });
                let connection =
                    client.open(socket, Some(to)).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(connection.peer(), Some(to), "{case}");
                assert_eq!(case.answered(connection.ask()), ("a".to_owned(), addresses[0]), "{case}");
            }
            let any = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0);
            let socket = client.open_from(Socket::Udp, Some(any), None).unwrap();
            let answer = socket.ask_to(to).unwrap_or_else(|error| panic!("{:?} {name}: {error}", world.mode));
            assert_eq!(answer.from, Some(to), "{:?} {name}, unconnected", world.mode);
        }
    }
}

#[test]
fn mptcp_sockets_reach_services() {
    let [world, _] = worlds();
    if let Err(error) = world.client.open(Socket::Mptcp, None)
        && error.text.starts_with("socket:")
    {
        eprintln!("skipped: this kernel has no MPTCP: {error}");
        return;
    }
    for world in worlds() {
        let service = world.service("mptcp", &[&world.a]);
        for (name, client, addresses) in world.clients() {
            for way in WAYS.into_iter().filter(|way| way.socket == Socket::Tcp) {
                let case = Case(world, name, way);
                let connection = client.open(Socket::Mptcp, Some(service.at(way)));
                let connection = connection.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(
                    case.answered(connection.ask()),
                    ("a".to_owned(), addresses[way.family]),
                    "{case}"
                );
            }
        }
    }
}
