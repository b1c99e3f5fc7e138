//! Whose address backends see where clients are masqueraded: `--masquerade-all`, and each way to tell local clients.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::manifest::{self, Port};
use xtask::lab::{Node, Owned, Pod, wait_for};

use crate::support::{Case, Mode, SOON, Svc, WAYS, Way, World};

const MODES: [Mode; 2] = [Mode::All, Mode::Host];

/// Asserts that the backends of `service` see `client` as `expected`, soon.
fn seen(service: &Svc<'_>, client: &Pod, way: Way, expected: [IpAddr; 2]) {
    let case = Case(service.world, client.name(), way);
    let mut last = None;
    let result = wait_for(SOON, || {
        last = Some(case.answered(service.ask(client, way)).1);
        last == Some(expected[way.family])
    });
    result
        .unwrap_or_else(|error| panic!("{case}: seen as {last:?}, not as {}: {error}", expected[way.family]));
}

/// The sum of the counters of these reasons.
fn counted(world: &World, reasons: &[&str]) -> u64 {
    let stats = world.node.sluice_json(&["stats"]).unwrap();
    let rows = stats["reasons"].as_array().or(stats.as_array()).unwrap().clone();
    let wanted = |row: &&Value| reasons.contains(&row["reason"].as_str().unwrap_or_default());
    rows.iter().filter(wanted).filter_map(|row| row["count"].as_u64()).sum()
}

#[test]
fn b78_b79_masquerade_all_shows_backends_the_node() {
    for mode in MODES {
        let world = World::new(&format!("masq-all-{mode:?}").to_lowercase(), mode, &["--masquerade-all"]);
        let uplinks = world.node.sluice_json(&["status"]).unwrap()["uplinks"].clone();
        assert_eq!(uplinks, json!(["up0"]));
        for backend in [&world.a, &world.remote] {
            let service = world.service(&format!("b78-{}", backend.name()), &[backend]);
            for way in WAYS {
                // Twice: the second connection meets whatever the first has left.
                for _ in 0..2 {
                    seen(&service, &world.client, way, Node::addresses());
                }
                let (_, host) = Case(&world, "host", way).answered(service.ask(world.node.host(), way));
                assert_eq!(host, Node::addresses()[way.family], "the host");
            }
            let flows =
                world.node.sluice_json(&["flow", "--service", &format!("default/{}", service.name)]).unwrap();
            let sources: Vec<IpAddr> = flows
                .as_array()
                .unwrap()
                .iter()
                .map(|flow| flow["source"].as_str().unwrap().parse().unwrap())
                .collect();
            let nodes = sources.iter().all(|source| Node::addresses().contains(source));
            assert!(nodes && !sources.is_empty(), "{sources:?}: {flows:#}");
        }
        let hairpin = world.service("b78-hairpin", &[&world.a]);
        for way in WAYS {
            seen(&hairpin, &world.a, way, Node::addresses());
        }
        assert!(counted(&world, &["sock_left"]) > 0, "sockets of pods are left to the packet path");
    }
}

#[test]
fn b78_a_backend_that_is_the_node_itself_sees_the_client() {
    let world = World::new("masq-self", Mode::Host, &["--masquerade-all"]);
    let host = world.node.host();
    for transport in [Transport::Tcp, Transport::Udp] {
        host.serve(transport, crate::support::TARGET, "node").unwrap();
    }
    let service = world.service("b78-node", &[]);
    let slices = [0, 1].map(|family| {
        let endpoint = manifest::Endpoint::ready(Node::addresses()[family]);
        manifest::slice(&format!("b78-node-{family}"), "b78-node", &service.ports, &[endpoint])
    });
    service.write(&slices);
    for way in WAYS {
        let mut last = None;
        wait_for(SOON, || {
            last = service.ask(&world.client, way).ok();
            last.is_some()
        })
        .unwrap();
        let answer = last.unwrap();
        assert_eq!((answer.pod.as_str(), answer.client.ip()), ("node", world.client.ips()[way.family]));
    }
}

#[test]
fn b79_clients_with_equal_source_ports_do_not_collide() {
    let world = World::new("masq-ports", Mode::Host, &["--masquerade-all"]);
    for backend in [&world.a, &world.remote] {
        let service = world.service(&format!("b79-{}", backend.name()), &[backend]);
        for way in WAYS {
            let connections = [&world.client, &world.b].map(|client| {
                let from = SocketAddr::new(client.ips()[way.family], 45_000);
                client.open_from(way.socket, Some(from), Some(service.at(way))).unwrap()
            });
            let answers = [0, 1, 0, 1].map(|index| connections[index].ask().unwrap().client);
            assert!(answers.iter().all(|client| client.ip() == Node::addresses()[way.family]));
            assert_ne!(answers[0].port(), answers[1].port(), "two connections");
            assert_eq!((answers[0], answers[1]), (answers[2], answers[3]), "each keeps its port");
        }
    }
}

/// Asserts that `local` keeps its address towards another node, `other` does not, and both do on this node.
fn told_apart(world: &World, name: &str, local: &Pod, other: &Pod) {
    let (away, here) = (
        world.service(&format!("{name}-away"), &[&world.remote]),
        world.service(&format!("{name}-here"), &[&world.c]),
    );
    for way in WAYS {
        seen(&away, local, way, local.ips());
        seen(&here, local, way, local.ips());
        seen(&here, other, way, other.ips());
        // Which the socket hook does not know: a listed difference.
        let by_socket = world.mode == Mode::All && way.socket == Socket::Tcp;
        seen(&away, other, way, if by_socket { other.ips() } else { Node::addresses() });
    }
}

fn name(base: &str, mode: Mode) -> String {
    format!("{base}-{mode:?}").to_lowercase()
}

#[test]
fn b80_cluster_cidr() {
    for mode in MODES {
        // The first pod of the node is `client`.
        let flags = ["--cluster-cidr", "10.244.1.1/32,fd00:10:244:1::1/128"];
        let world = World::new(&name("masq-cluster", mode), mode, &flags);
        told_apart(&world, "b80", &world.client, &world.a);
    }
}

#[test]
fn b80_node_cidr_follows_the_node_object() {
    for mode in MODES {
        let flags = ["--detect-local-mode", "NodeCIDR"];
        let world = World::new(&name("masq-node", mode), mode, &flags);
        let problems = || world.node.sluice_json(&["status"]).unwrap()["problems"].to_string();
        assert!(problems().contains("no spec.podCIDRs yet"), "{}", problems());
        let away = world.service("b80-unknown", &[&world.remote]);
        for way in WAYS {
            seen(&away, &world.a, way, world.a.ips());
        }
        let mut node = manifest::node(world.node.name(), &Node::addresses());
        node["spec"] = json!({"podCIDRs": ["10.244.1.1/32", "fd00:10:244:1::1/128"]});
        world.node.write("node.json", &node).unwrap();
        told_apart(&world, "b80", &world.client, &world.a);
        // The agent tells after it has done.
        wait_for(SOON, || !problems().contains("podCIDRs")).unwrap_or_else(|_| panic!("{}", problems()));
        node["spec"] = json!({"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]});
        world.node.write("node.json", &node).unwrap();
        for way in WAYS {
            seen(&away, &world.a, way, world.a.ips());
        }
    }
}

#[test]
fn b80_interface_name_prefix() {
    for mode in MODES {
        let flags = ["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "veth1"];
        let world = World::new(&name("masq-prefix", mode), mode, &flags);
        assert_eq!((world.client.interface(), world.a.interface()), ("veth1", "veth2"));
        told_apart(&world, "b80", &world.client, &world.a);
    }
}

/// Makes `pods` ports of the bridge `br0` of the node.
fn bridge(world: &World, pods: &[&Pod]) {
    let mut batch = String::from("link add br0 type bridge\nlink set br0 up\n");
    for pod in pods {
        let (interface, [v4, v6]) = (pod.interface(), pod.ips());
        let number = interface.trim_start_matches("veth").parse::<u8>().unwrap();
        let mac = format!("02:00:00:00:01:{number:02x}");
        batch += &format!(
            "link set {interface} master br0\n\
             route replace {v4}/32 dev br0\nneigh replace {v4} lladdr {mac} dev br0 nud permanent\n\
             route del {v6}/128 dev {interface}\n\
             route add {v6}/128 dev br0\nneigh replace {v6} lladdr {mac} dev br0 nud permanent\n"
        );
    }
    world.node.host().ip(&batch).unwrap();
}

#[test]
fn b80_bridge_interface() {
    for mode in MODES {
        let flags = ["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "br0"];
        let world = World::new(&name("masq-bridge", mode), mode, &flags);
        bridge(&world, &[&world.client, &world.c]);
        told_apart(&world, "b80", &world.client, &world.a);
    }
}

#[test]
fn b78_pods_on_a_bridge() {
    let world = World::new("masq-bridged", Mode::Host, &["--masquerade-all"]);
    bridge(&world, &[&world.client, &world.a]);
    for backend in [&world.a, &world.b, &world.remote] {
        let service = world.service(&format!("b78-{}", backend.name()), &[backend]);
        for way in WAYS {
            seen(&service, &world.client, way, Node::addresses());
        }
    }
}

/// Where a peer listens, which takes a stream and sends it back.
const PEER_PORT: u16 = 9178;
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/bulk/peer.py");

fn peer(pod: &Pod, family: usize) -> Owned {
    let (addr, port) = (pod.ips()[family].to_string(), PEER_PORT.to_string());
    Owned::start(pod.command("python3").args([PEER, "serve", &addr, &port])).unwrap()
}

#[test]
fn b107_streams_pass_a_way_that_takes_less_than_pods_send() {
    let world = World::new("masq-mtu", Mode::Host, &["--masquerade-all"]);
    let routes = "route add 10.244.2.0/24 via 172.18.0.1 mtu lock 1400\n\
                  route add fd00:10:244:2::/64 via fd00:172:18::1 mtu lock 1400\n";
    world.node.host().ip(routes).unwrap();
    let mut service = world.service("b107", &[]);
    service.ports = vec![Port::new(Transport::Tcp, 80, PEER_PORT)];
    service.set(&[&world.remote]);
    for family in [0, 1] {
        let _peer = peer(&world.remote, family);
        let addr = service.addresses[family].to_string();
        let output = world.client.command("python3").args([PEER, "ask", &addr, "80", "2"]).output().unwrap();
        assert!(output.status.success(), "{addr}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(counted(&world, &["packet_too_big"]) > 0, "nothing was too big");
}

#[test]
fn uplinks_come_and_go_and_cleanup_leaves_none() {
    let world = World::new("masq-uplinks", Mode::Host, &["--masquerade-all"]);
    let host = world.node.host();
    let uplinks = |expected: Value| {
        let mut last = Value::Null;
        wait_for(SOON, || {
            last = world.node.sluice_json(&["status"]).unwrap()["uplinks"].clone();
            last == expected
        })
        .unwrap_or_else(|error| panic!("{error}: {last}, should be {expected}\n{}", world.log()));
    };
    host.ip("link add up1 type veth peer name far1\nlink set up1 up\nlink set far1 up\n").unwrap();
    host.ip("route add default dev up1 metric 4000\n").unwrap();
    uplinks(json!(["up0", "up1"]));
    let links = world.node.sluice_json(&["link"]).unwrap().to_string();
    assert!(links.contains("outward_ingress-"), "{links}");
    host.ip("route del default dev up1 metric 4000\n").unwrap();
    uplinks(json!(["up0"]));
    world.take_agent().stop().unwrap();
    let status = world.node.sluice(&["cleanup"]).status().unwrap();
    assert!(status.success() && !world.node.pin_dir().exists());
}
