//! Node ports, LoadBalancer and external addresses at the socket hooks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::{FrontendKind, Proto, Reason};
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::socket::Socket;
use lb_ebpf::testing::tables::Service;

use super::{Came, HOST, POD, connect, counted, peer, scenes, world};

const NODE_PORT: u16 = 30_080;

/// Where the Service is reached beside its ClusterIP: an external address, one of a load balancer, the node.
fn externals(scene: &Scene) -> [SocketAddr; 3] {
    [scene.external(2, 80), scene.external(1, 80), scene.node(NODE_PORT)]
}

/// The usual Service, there as well.
fn service(scene: &Scene, endpoints: u8) -> Service {
    let [external, balanced, node] = externals(scene);
    scene
        .service(endpoints)
        .at(FrontendKind::ExternalIp, external)
        .at(FrontendKind::LoadBalancer, balanced)
        .at(FrontendKind::NodePort, node)
}

fn loopback(scene: &Scene) -> SocketAddr {
    let addr = if scene.v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    SocketAddr::new(addr, NODE_PORT)
}

#[test]
fn b36_b40_b41_b42_the_host_and_pods_reach_every_frontend() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let world = world(&scene, &[service(&scene, 1)]);
            let cpu = world.on_cpu(0);
            for (cookie, to) in (1..).zip(externals(&scene)) {
                for (netns, cookie) in [(HOST, cookie), (POD, cookie + 10)] {
                    if netns == POD && proto == Proto::Udp {
                        continue;
                    }
                    let socket = Socket::new(cookie, netns);
                    assert_eq!(connect(&cpu, &socket, proto, to), Came::To(scene.endpoint(1)), "{to}");
                    let accesses = cpu.take_accesses();
                    assert_eq!((accesses.address, accesses.frontend, accesses.range), (1, 1, 0), "{to}");
                    assert_eq!(peer(&cpu, &socket, scene.endpoint(1)), Came::To(to));
                }
            }
        }
    }
}

#[test]
fn ports_that_nobody_serves_are_left_to_whoever_has_the_address() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let world = world(&scene, &[service(&scene, 1)]);
            let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
            for to in [scene.external(2, 81), scene.external(1, NODE_PORT), scene.node(22)] {
                assert_eq!(connect(&cpu, &socket, proto, to), Came::Left, "{to}");
            }
            counted(&world, Reason::SockNotService, 3);
        }
    }
}

#[test]
fn b39_the_hosts_sockets_alone_are_served_at_loopback_addresses() {
    for scene in scenes(Proto::Tcp) {
        let world = world(&scene, &[service(&scene, 1)]);
        let (cpu, to) = (world.on_cpu(0), loopback(&scene));
        let came = connect(&cpu, &Socket::new(1, HOST), Proto::Tcp, to);
        assert_eq!(came, Came::To(scene.endpoint(1)));
        assert_eq!(connect(&cpu, &Socket::new(2, POD), Proto::Tcp, to), Came::Left, "its own loopback");
    }
}

/// Another node's address is in no table, so what is meant for it leaves (B56).
#[test]
fn b55_the_host_uses_the_cluster_scope_and_pods_are_left_to_the_packet_path() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let world = world(&scene, &[service(&scene, 2).local(&[scene.endpoint(2)]).external_local()]);
            let cpu = world.on_cpu(0);
            for (cookie, to) in (1..).zip(externals(&scene)) {
                let expected = scene.endpoint(if cookie % 2 == 1 { 1 } else { 2 });
                let came = connect(&cpu, &Socket::new(cookie, HOST), proto, to);
                assert_eq!(came, Came::To(expected), "{to}");
                assert_eq!(connect(&cpu, &Socket::new(cookie + 10, POD), proto, to), Came::Left, "{to}");
            }
            counted(&world, Reason::SockLeft, 3);
            if proto == Proto::Tcp {
                let came = connect(&cpu, &Socket::new(20, POD), proto, scene.web());
                assert_eq!(came, Came::To(scene.endpoint(2)), "B57: the ClusterIP has a policy of its own");
            }
        }
    }
}

#[test]
fn b43_ranges_hold_for_the_host_and_for_pods() {
    let single = |scene: &Scene, addr: SocketAddr| (addr.ip(), if scene.v6 { 128 } else { 32 });
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let guarded = service(&scene, 1).ranges(&[single(&scene, scene.pod(7, 0))]);
            let [external, balanced, node] = externals(&scene);
            let world = world(&scene, &[guarded]);
            let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
            let (came, reason) = match proto {
                // Silence: it is dropped where it leaves the node.
                Proto::Tcp => (Came::Left, Reason::SockNotInRange),
                _ => (Came::Refused, Reason::SockNotInRangeRefused),
            };
            assert_eq!(connect(&cpu, &socket, proto, balanced), came);
            assert_eq!(cpu.take_accesses().range, 1);
            counted(&world, reason, 1);
            for to in [external, node, scene.web()] {
                assert_eq!(connect(&cpu, &socket, proto, to), Came::To(scene.endpoint(1)), "{to}");
            }
            if proto == Proto::Tcp {
                let unbound = Socket::new(2, POD);
                assert_eq!(connect(&cpu, &unbound, proto, balanced), Came::Left);
                counted(&world, Reason::SockLeft, 1);
                let admitted = Socket::new(3, POD).bound_to(scene.pod(7, 0).ip());
                assert_eq!(connect(&cpu, &admitted, proto, balanced), Came::To(scene.endpoint(1)));
                let other = Socket::new(4, POD).bound_to(scene.pod(8, 0).ip());
                assert_eq!(connect(&cpu, &other, proto, balanced), Came::Left);
                counted(&world, Reason::SockNotInRange, 2);
            }
        }
    }
}

#[test]
fn b44_the_host_is_served_where_its_address_is_in_range() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let range = (scene.node(0).ip(), if scene.v6 { 64 } else { 24 });
            let world = world(&scene, &[service(&scene, 1).ranges(&[range])]);
            let came = connect(&world.on_cpu(0), &Socket::new(1, HOST), proto, scene.external(1, 80));
            assert_eq!(came, Came::To(scene.endpoint(1)));
        }
    }
}

#[test]
fn b45_b67_no_endpoints_is_a_refusal_only_in_range() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let guarded = service(&scene, 0).ranges(&[(scene.pod(7, 0).ip(), 8)]);
            let [external, balanced, node] = externals(&scene);
            let world = world(&scene, &[guarded]);
            let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
            for to in [external, node] {
                assert_eq!(connect(&cpu, &socket, proto, to), Came::Refused, "{to}");
            }
            counted(&world, Reason::SockNoEndpoints, 2);
            let silent = if proto == Proto::Tcp { Came::Left } else { Came::Refused };
            assert_eq!(connect(&cpu, &socket, proto, balanced), silent);
            counted(&world, Reason::SockNoEndpoints, 2);
        }
    }
}
