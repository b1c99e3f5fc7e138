//! The node around the Services: its own processes as endpoints, its addresses, and traffic that is no Service's.

use std::net::SocketAddr;

use xtask::lab::Node;
use xtask::lab::helper::wire::{Load, Socket, Transport};
use xtask::lab::manifest::{self, Endpoint, Port, slice};
use xtask::lab::wait_for;

use crate::support::{Case, Mode, SOON, Svc, TARGET, WAYS, World, worlds};

#[test]
fn b35_endpoints_may_be_processes_of_the_host() {
    const HOST_TARGET: u16 = 8035;
    for world in worlds() {
        for transport in [Transport::Tcp, Transport::Udp] {
            world.node.host().serve(transport, HOST_TARGET, "node").unwrap();
        }
        let ports = [Transport::Tcp, Transport::Udp].map(|transport| Port::new(transport, 80, HOST_TARGET));
        let service =
            Svc { world, name: "b35".to_owned(), addresses: world.new_addresses(), ports: ports.to_vec() };
        let slices = [0, 1].map(|family| {
            let endpoint = Endpoint::ready(Node::addresses()[family]);
            slice(&format!("b35-{family}"), "b35", &service.ports, &[endpoint])
        });
        service.write(&slices);
        wait_for(SOON, || service.ask(&world.client, WAYS[0]).is_ok()).unwrap();
        world.everywhere(|case, client, way| {
            case.answered_by("node", service.ask(client, way));
        });
    }
}

#[test]
fn b118_traffic_that_is_no_services_is_left_alone() {
    for world in worlds() {
        let pods = [&world.a, &world.remote];
        for (name, client, addresses) in world.clients() {
            for way in WAYS {
                let case = Case(world, name, way);
                for pod in pods {
                    let to = SocketAddr::new(pod.ips()[way.family], TARGET);
                    let (answered, seen) = case.answered(client.ask(way.socket, to));
                    assert_eq!((answered.as_str(), seen), (pod.name(), addresses[way.family]), "{case}");
                }
                // Nobody listens there: the answer is the endpoint's own.
                case.refused(client.ask(way.socket, SocketAddr::new(world.a.ips()[way.family], 1)));
            }
        }
    }
}

#[test]
fn b115_a_hairpin_follows_the_nodes_addresses() {
    let world = World::new("b115", Mode::Host, &[]);
    let service = world.service("b115", &[&world.a]);
    let seen = |way| service.ask(&world.a, way).map(|answer| answer.client.ip().to_string()).ok();
    assert_eq!(seen(WAYS[0]), Some(Node::addresses()[0].to_string()));
    let [v4, v6] = Node::addresses();
    world
        .node
        .host()
        .ip(&format!(
            "addr add 172.18.0.77/32 dev up0\naddr add fd00:172:18::77/64 dev up0 nodad\n\
             addr del {v4}/24 dev up0\naddr del {v6}/64 dev up0\n"
        ))
        .unwrap();
    for (way, new) in [(WAYS[0], "172.18.0.77"), (WAYS[1], "172.18.0.77"), (WAYS[3], "fd00:172:18::77")] {
        wait_for(SOON, || seen(way).as_deref() == Some(new)).unwrap_or_else(|error| {
            panic!("{way:?} {error}: {:?}\n{}", seen(way), world.log());
        });
    }
}

#[test]
fn b120_names_are_resolved_while_resolvers_come_and_go() {
    for world in worlds() {
        let ports = [Transport::Tcp, Transport::Udp].map(|transport| Port::new(transport, 53, TARGET));
        let service =
            Svc { world, name: "b120".to_owned(), addresses: world.new_addresses(), ports: ports.to_vec() };
        service.set(&[&world.a, &world.b]);
        let at = |family: usize| SocketAddr::new(service.addresses[family], 53);
        world.c.start_load(Load { to: at(0), clients: 2, rate: 200 }).unwrap();
        let rounds = [[&world.b, &world.remote], [&world.remote, &world.a], [&world.a, &world.b]];
        for round in rounds.iter().cycle().take(12) {
            service.set(round);
            for (name, client, _) in world.clients() {
                for way in WAYS {
                    let (pod, _) = Case(world, name, way).answered(client.ask(way.socket, at(way.family)));
                    assert!(round.iter().any(|backend| backend.name() == pod), "{pod} is no endpoint now");
                }
            }
        }
        let report = world.c.stop_load().unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed.first());
    }
}

#[test]
fn b122_a_node_that_is_not_ready_keeps_its_endpoints() {
    let world = World::new("b122", Mode::All, &[]);
    let service = world.service("b122", &[&world.a, &world.remote]);
    let mut node = manifest::node(world.node.name(), &Node::addresses());
    node["status"]["conditions"] = serde_json::json!([{"type": "Ready", "status": "False"}]);
    node["spec"] = serde_json::json!({"unschedulable": true});
    world.node.write("node.json", &node).unwrap();
    let mut other = node.clone();
    other["metadata"]["name"] = "other".into();
    world.node.write("other.json", &other).unwrap();
    let marker = world.service("b122-marker", &[&world.b]);
    assert_eq!(marker.ask(&world.client, WAYS[0]).unwrap().pod, "b");
    service.wait(&[&world.a, &world.remote]);
    for _ in 0..2 {
        assert!(service.ask(&world.client, WAYS[0]).is_ok());
    }
    // The host's sockets as well.
    assert!(world.node.host().ask(Socket::Udp, service.at(WAYS[1])).is_ok());
}
