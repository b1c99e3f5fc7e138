//! Session affinity at the socket hooks.

use std::net::{IpAddr, SocketAddr};

use lb_common::{Addr4, Address, Config, Point, Proto, Reason};
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::host;
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::socket::Socket;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Sizes, World};
use lb_ebpf::verdict::Verdict;

use super::{Came, HOST, POD, connect, counted, peer, receive, release, scenes, send, world};

fn to(came: Came) -> SocketAddr {
    match came {
        Came::To(endpoint) => endpoint,
        other => panic!("{other:?}"),
    }
}

/// What is remembered, by whom.
fn memories(world: &World) -> Vec<IpAddr> {
    let clients = world.affinity().into_keys().map(|key| key.client);
    clients.map(|addr| Addr4::from_mapped(&addr).map_or(IpAddr::from(addr), IpAddr::from)).collect()
}

#[test]
fn b62_the_host_keeps_its_endpoint_by_the_address_of_its_node() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let world = world(&scene, &[scene.service(3).affinity(10)]);
            let cpu = world.on_cpu(0);
            for cookie in 1..5 {
                let socket = Socket::new(cookie, HOST);
                assert_eq!(connect(&cpu, &socket, proto, scene.web()), Came::To(scene.endpoint(1)));
                let accesses = cpu.take_accesses();
                assert_eq!((accesses.address, accesses.frontend), (1, 1));
                assert_eq!(accesses.affinity, if cookie == 1 { 2 } else { 1 });
                assert_eq!(peer(&cpu, &socket, scene.endpoint(1)), Came::To(scene.web()));
            }
            assert_eq!(memories(&world), [scene.node(0).ip()]);
            world.advance(11_000_000_000);
            let socket = Socket::new(9, HOST);
            assert_eq!(connect(&cpu, &socket, proto, scene.web()), Came::To(scene.endpoint(2)), "B64");
        }
    }
}

#[test]
fn b62_a_host_without_an_address_keeps_its_endpoint_too() {
    for scene in scenes(Proto::Tcp) {
        let config = Config { netns_cookie: HOST, ..Config::DEFAULT };
        let world = World::new(config, Sizes::default(), &Schedule::default());
        world.program(&Tables::of(&[scene.service(3).affinity(10)]));
        for cookie in 1..4 {
            let socket = Socket::new(cookie, HOST);
            let came = connect(&world.on_cpu(0), &socket, Proto::Tcp, scene.web());
            assert_eq!(came, Came::To(scene.endpoint(1)));
        }
    }
}

/// What address a pod's socket will have is not known yet, unless it is bound.
#[test]
fn b62_pods_are_left_to_the_packet_path_unless_they_are_bound() {
    for scene in scenes(Proto::Tcp) {
        let plain = Service::new(Proto::Tcp, scene.vip(11, 80)).endpoints(&[scene.endpoint(1)]);
        let world = world(&scene, &[scene.service(3).affinity(10), plain]);
        let cpu = world.on_cpu(0);
        let pod = Socket::new(1, POD);
        assert_eq!(connect(&cpu, &pod, Proto::Tcp, scene.vip(11, 80)), Came::To(scene.endpoint(1)));
        assert_eq!(connect(&cpu, &pod, Proto::Tcp, scene.web()), Came::Left);
        assert_eq!(peer(&cpu, &pod, scene.endpoint(1)), Came::Left, "what it was connected to before");
        counted(&world, Reason::SockLeft, 1);
        let addresses = [scene.pod(7, 0).ip(), scene.pod(8, 0).ip()];
        for (cookie, n) in [(2, 0), (3, 1), (4, 0), (5, 1)] {
            let bound = Socket::new(cookie, POD).bound_to(addresses[n]);
            let endpoint = scene.endpoint(n as u8 + 1);
            assert_eq!(connect(&cpu, &bound, Proto::Tcp, scene.web()), Came::To(endpoint));
            assert_eq!(peer(&cpu, &bound, endpoint), Came::To(scene.web()));
        }
        assert_eq!(memories(&world), addresses);
        // The same client on the packet path.
        let packet = scene.first(scene.pod(8, 1), scene.web());
        let mut bytes = Bytes::of(&packet);
        assert_eq!(host::run(&cpu, Point::PodIngress, &mut bytes), Verdict::Pass);
        let there = wire::parse(bytes.data()).unwrap();
        assert_eq!(there.destination(), Some(scene.endpoint(2)), "one memory for both paths");
    }
}

#[test]
fn b65_b96_a_datagram_socket_that_chooses_again_does_so_by_affinity() {
    for scene in scenes(Proto::Udp) {
        let before = scene.service(3).affinity(10);
        let world = world(&scene, std::slice::from_ref(&before));
        let (cpu, sockets) = (world.on_cpu(0), [1, 2].map(|cookie| Socket::new(cookie, HOST)));
        for socket in &sockets {
            assert_eq!(send(&cpu, socket, scene.web()), Came::To(scene.endpoint(1)));
        }
        let mut after = before.clone();
        after.cluster.remove(0);
        after.serving.remove(0);
        after.retired = before.cluster;
        world.program(&Tables::of(&[after]));
        let chosen = to(send(&cpu, &sockets[0], scene.web()));
        assert_ne!(chosen, scene.endpoint(1));
        assert_eq!(to(send(&cpu, &sockets[1], scene.web())), chosen);
        assert_eq!(receive(&cpu, &sockets[1], chosen), Came::To(scene.web()));
    }
}

/// Affinity has one answer: the socket shares it between its two Service addresses.
#[test]
fn b62_affinity_comes_before_a_backend_of_its_own() {
    for scene in scenes(Proto::Udp) {
        let mut second = scene.service(3).affinity(10);
        second.frontends = vec![scene.vip(11, 80)];
        let world = world(&scene, &[scene.service(3).affinity(10), second]);
        let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
        for vip in [scene.web(), scene.vip(11, 80), scene.web()] {
            assert_eq!(send(&cpu, &socket, vip), Came::To(scene.endpoint(1)));
            assert_eq!(receive(&cpu, &socket, scene.endpoint(1)), Came::To(vip), "asked last");
        }
        release(&cpu, &socket);
        assert_eq!(world.sock_udp(), 0);
    }
}
