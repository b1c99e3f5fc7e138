//! ICMP: errors reach those whom they concern, whatever name these know the other side by (B104, B105, B107); echo, and
//! what is refused or silent besides (B73).

use std::net::IpAddr;
use std::process::{Command, Stdio};

use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::manifest::Port;
use xtask::lab::{Node, Owned, Pod, Space, wait_for};

use crate::support::{Case, SOON, Svc, TARGET, WAYS, Way, World, serve, worlds};

/// Where nobody listens.
const NOBODY: u16 = 9;
/// Where servers of these tests listen, beside the ports that other tests use.
const PORT: u16 = 9104;
const HELD: u16 = 9173;
/// Of the hop in front of the pod that is far away.
const NARROW: &str = "1300";

pub(crate) fn command(space: &Space, args: &[&str]) -> Command {
    let mut command = space.command("python3");
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/icmp/icmp.py")).args(args);
    command
}

/// Runs a verb of the script, and fails with what it says.
fn run(world: &World, space: &Space, args: &[&str]) {
    let output = command(space, args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "--socket-lb {:?}, {args:?}: {error}\n{}", world.mode, counters(world));
}

fn counters(world: &World) -> String {
    world.node.sluice_json(&["stats"]).map(|stats| stats.to_string()).unwrap_or_default()
}

/// How often packets have left with this reason.
fn counted(world: &World, reason: &str) -> u64 {
    let stats = world.node.sluice_json(&["stats"]).unwrap();
    let rows = stats["reasons"].as_array().or(stats.as_array()).unwrap();
    rows.iter().filter(|row| row["reason"] == reason).filter_map(|row| row["count"].as_u64()).sum()
}

/// A Service with UDP and TCP port 80 at this port of its backends.
fn service<'w>(world: &'w World, name: &str, target: u16, backends: &[&Pod]) -> Svc<'w> {
    let mut service = world.service(name, &[]);
    service.ports =
        [Transport::Tcp, Transport::Udp].map(|transport| Port::new(transport, 80, target)).to_vec();
    service.set(backends);
    service
}

fn text(addr: IpAddr) -> String {
    addr.to_string()
}

#[test]
fn b104_a_backend_that_does_not_listen_refuses_the_client_of_its_service() {
    for world in worlds() {
        for backend in [&world.a, &world.remote] {
            let service = service(world, "b104-refused", NOBODY, &[backend]);
            for way in WAYS.into_iter().filter(|way| way.socket == Socket::Udp) {
                let mut clients = vec![&*world.client];
                if backend.name() == world.a.name() {
                    clients.push(backend);
                }
                for client in clients {
                    Case(world, "pod", way).refused(service.ask(client, way));
                }
            }
        }
    }
}

#[test]
fn b105_a_client_that_has_gone_refuses_what_its_backend_answers() {
    for world in worlds() {
        let service = service(world, "b105", PORT, &[]);
        for backend in [&world.b, &world.remote] {
            service.set(&[backend]);
            for family in [0, 1] {
                let mut server = abandoned(backend, family);
                run(world, &world.client, &["leave", &text(service.addresses[family]), "80"]);
                // Lets it answer.
                drop(server.stdin.take());
                let status = server.wait().unwrap();
                assert!(status.success(), "--socket-lb {:?}: {status}\n{}", world.mode, counters(world));
            }
        }
    }
}

/// A server that waits for one datagram.
fn abandoned(pod: &Pod, family: usize) -> Owned {
    let (addr, port) = (text(pod.ips()[family]), PORT.to_string());
    Owned::ready(command(pod, &["abandoned", &addr, &port]).stdin(Stdio::piped())).unwrap()
}

#[test]
fn b104_b107_the_way_to_a_backend_is_measured_through_its_service() {
    const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/bulk/peer.py");
    for world in worlds() {
        // Routes of its own: other tests use the same uplink.
        let far = world.node.remote_pod("far").unwrap();
        serve(&far);
        let [v4, v6] = far.ips();
        world
            .node
            .host()
            .ip(&format!(
                "route add {v4}/32 via 172.18.0.1 mtu lock {NARROW}\n\
                 route add {v6}/128 via fd00:172:18::1 mtu lock {NARROW}\n"
            ))
            .unwrap();
        let short = service(world, "b104-narrow", TARGET, &[&far]);
        let stream = service(world, "b104-stream", PORT, &[&far]);
        for family in [0, 1] {
            run(world, &world.client, &["narrow", &text(short.addresses[family]), "80", NARROW]);
            let (addr, port) = (text(far.ips()[family]), PORT.to_string());
            let _peer = Owned::start(far.command("python3").args([PEER, "serve", &addr, &port])).unwrap();
            let to = text(stream.addresses[family]);
            let output =
                world.client.command("python3").args([PEER, "ask", &to, "80", "2"]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "--socket-lb {:?}, stream to {to}: {error}", world.mode);
        }
    }
}

#[test]
fn b104_a_router_on_the_way_is_told_from_the_service() {
    for world in worlds() {
        let service = service(world, "b104-hops", TARGET, &[&world.remote]);
        for family in [0, 1] {
            // The node takes the first hop; on IPv6 by the address of the interface that faces the pod, if it has one.
            let router = text(Node::addresses()[family]);
            run(world, &world.client, &["hops", &text(service.addresses[family]), "80", &router]);
        }
    }
}

#[test]
fn b73_a_cluster_ip_answers_an_echo_request_and_refuses_other_protocols() {
    for world in worlds() {
        let service = service(world, "b73-portless", TARGET, &[]);
        for addr in service.addresses {
            run(world, &world.client, &["ping", &text(addr)]);
            run(world, &world.client, &["protocol", &text(addr)]);
        }
    }
}

#[test]
fn b67_a_refusal_needs_no_checksum_offload() {
    for world in worlds() {
        let pod = world.node.pod("plain").unwrap();
        run(world, world.node.host(), &["offload", pod.interface()]);
        let service = world.service("b67-plain", &[]);
        for way in WAYS.into_iter().filter(|way| way.socket == Socket::Udp) {
            // The interface is new.
            let refused = || service.ask(&pod, way).is_err_and(|failure| failure.refused_at_once());
            wait_for(SOON, refused).unwrap_or_else(|error| panic!("{}: {error}", Case(world, "pod", way)));
        }
    }
}

#[test]
fn b73_an_unallocated_address_is_silent() {
    let ranges = "10.96.0.0/16,fd00:10:96::/108";
    let world =
        World::new("unallocated", crate::support::Mode::Host, &["--service-cluster-ip-range", ranges]);
    let service = world.service("b73-allocated", &[&world.a]);
    for (addr, nobody) in service.addresses.into_iter().zip(["10.96.200.1", "fd00:10:96::c801"]) {
        run(&world, &world.client, &["ping", &text(addr)]);
        let before = counted(&world, "address_unallocated");
        run(&world, &world.client, &["silent", nobody, "80"]);
        assert_eq!(counted(&world, "address_unallocated"), before + 2, "{nobody}: {}", counters(&world));
    }
}

#[test]
fn b73_an_address_that_the_node_has_is_served_by_the_node() {
    for world in worlds() {
        let host = world.node.host();
        for transport in [Transport::Tcp, Transport::Udp] {
            host.serve(transport, HELD, "node").unwrap();
        }
        let mut service = world.service("held-served", &[]);
        service.ports =
            [Transport::Tcp, Transport::Udp].map(|transport| Port::new(transport, HELD, TARGET)).to_vec();
        service.set(&[&world.a]);
        let asked = |by: &str| {
            world.everywhere(|case, client, way: Way| {
                let to = (service.addresses[way.family], HELD).into();
                wait_for(SOON, || client.ask(way.socket, to).is_ok_and(|answer| answer.pod == by))
                    .unwrap_or_else(|error| panic!("{case}, by {by}: {error}\n{}", counters(world)));
            });
        };
        asked("a");
        let [v4, v6] = service.addresses;
        host.ip(&format!("addr add {v4}/32 dev lo\naddr add {v6}/128 dev lo nodad\n")).unwrap();
        asked("node");
        host.ip(&format!("addr del {v4}/32 dev lo\naddr del {v6}/128 dev lo\n")).unwrap();
        asked("a");
    }
}
