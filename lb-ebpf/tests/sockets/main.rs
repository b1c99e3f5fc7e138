//! The socket hooks: what a socket is told, and what it remembers.

mod affinity;
mod binds;
mod external;

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    Addr4, Addr6, Address, Config, Endpoint, EventRecord, Port, Proto, Reason, SockCall, config_flags,
};
use lb_ebpf::sock::{self, Call};
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::packet::Checksum;
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::socket::Socket;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::world::{Cpu, Sizes, World};

/// The host's network namespace, and a pod's.
const HOST: u64 = 1;
const POD: u64 = 2;

fn scenes(proto: Proto) -> [Scene; 2] {
    [false, true].map(|v6| Scene { v6, proto, checksum: Checksum::Complete })
}

fn world_with(scene: &Scene, services: &[Service], flags: u32) -> World {
    let config = Config { netns_cookie: HOST, flags, ..scene.config() };
    let world = World::new(config, Sizes::default(), &Schedule::default());
    world.program(&Tables::of(services));
    world
}

fn world(scene: &Scene, services: &[Service]) -> World {
    world_with(scene, services, 0)
}

/// What a call came to, with the family out of sight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    Left,
    To(SocketAddr),
    Refused,
}

/// Makes a call with the address `addr` in the family that it has.
fn call(
    addr: SocketAddr,
    v4: impl FnOnce(&mut Endpoint<Addr4>) -> Call,
    v6: impl FnOnce(&mut Endpoint<Addr6>) -> Call,
) -> Came {
    fn made<A: Address>(addr: A, port: u16, call: impl FnOnce(&mut Endpoint<A>) -> Call) -> Came {
        let before = Endpoint::new(addr, Port::new(port));
        let mut endpoint = before;
        match call(&mut endpoint) {
            Call::Leave => {
                assert_eq!(endpoint, before);
                Came::Left
            }
            Call::Translate => Came::To(SocketAddr::new(endpoint.addr.into(), endpoint.port.number())),
            Call::Refuse => Came::Refused,
        }
    }
    match addr.ip() {
        IpAddr::V4(ip) => made(ip.into(), addr.port(), v4),
        IpAddr::V6(ip) => made(ip.into(), addr.port(), v6),
    }
}

fn connect(cpu: &Cpu<'_>, socket: &Socket, proto: Proto, to: SocketAddr) -> Came {
    let socket = socket.calling();
    call(to, |to| sock::connect(cpu, &socket, proto, to), |to| sock::connect(cpu, &socket, proto, to))
}

fn send(cpu: &Cpu<'_>, socket: &Socket, to: SocketAddr) -> Came {
    let socket = socket.calling();
    call(to, |to| sock::sendmsg(cpu, &socket, to), |to| sock::sendmsg(cpu, &socket, to))
}

fn receive(cpu: &Cpu<'_>, socket: &Socket, from: SocketAddr) -> Came {
    let socket = socket.calling();
    call(from, |from| sock::recvmsg(cpu, &socket, from), |from| sock::recvmsg(cpu, &socket, from))
}

fn peer(cpu: &Cpu<'_>, socket: &Socket, peer: SocketAddr) -> Came {
    let socket = socket.calling();
    call(peer, |peer| sock::getpeername(cpu, &socket, peer), |peer| sock::getpeername(cpu, &socket, peer))
}

fn release(cpu: &Cpu<'_>, socket: &Socket) {
    sock::release::<Addr4, _, _>(cpu, &socket.calling());
    sock::release::<Addr6, _, _>(cpu, &socket.calling());
}

/// `reason` was counted `count` times.
fn counted(world: &World, reason: Reason, count: u64) {
    assert_eq!(world.counters().reasons.get(&reason).copied().unwrap_or(0), count, "{reason:?}");
}

#[test]
fn tcp_of_host_and_pods_goes_round_the_backends_and_asks_for_the_service() {
    for scene in scenes(Proto::Tcp) {
        let world = world(&scene, &[scene.service(3)]);
        let cpu = world.on_cpu(0);
        for (cookie, netns, n) in [(1, HOST, 1), (2, POD, 2), (3, HOST, 3), (4, POD, 1)] {
            let (socket, backend) = (Socket::new(cookie, netns), scene.endpoint(n));
            assert_eq!(connect(&cpu, &socket, Proto::Tcp, scene.web()), Came::To(backend));
            let accesses = cpu.take_accesses();
            assert_eq!((accesses.address, accesses.frontend, accesses.flow), (1, 1, 0));
            assert_eq!(peer(&cpu, &socket, backend), Came::To(scene.web()));
            assert_eq!(peer(&cpu, &socket, scene.pod(9, 9)), Came::Left, "connected elsewhere since");
        }
        counted(&world, Reason::SockConnected, 4);
        assert_eq!(world.counters().services[&1].connections, 4);
        assert_eq!(world.counters().backends[&1].connections, 2);
        assert_eq!(peer(&cpu, &Socket::new(9, HOST), scene.endpoint(1)), Came::Left, "never translated");
    }
}

#[test]
fn socket_lb_host_leaves_pods_to_the_packet_path_and_so_is_their_udp() {
    for scene in scenes(Proto::Tcp) {
        let world = world_with(&scene, &[scene.service(1)], config_flags::SOCKET_LB_HOST);
        let cpu = world.on_cpu(0);
        assert_eq!(connect(&cpu, &Socket::new(1, POD), Proto::Tcp, scene.web()), Came::Left);
        assert_eq!(
            connect(&cpu, &Socket::new(2, HOST), Proto::Tcp, scene.web()),
            Came::To(scene.endpoint(1))
        );
        counted(&world, Reason::SockLeft, 1);
    }
    for scene in scenes(Proto::Udp) {
        let world = world(&scene, &[scene.service(1)]);
        let (cpu, pod) = (world.on_cpu(0), Socket::new(1, POD));
        assert_eq!(connect(&cpu, &pod, Proto::Udp, scene.web()), Came::Left);
        assert_eq!(send(&cpu, &pod, scene.web()), Came::Left);
        assert_eq!(receive(&cpu, &pod, scene.endpoint(1)), Came::Left);
        counted(&world, Reason::SockLeft, 3);
    }
}

#[test]
fn b67_b69_what_cannot_be_served_is_refused_or_left() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let empty = Service::new(proto, scene.vip(20, 80));
            let remote =
                Service::new(proto, scene.vip(21, 80)).endpoints(&[scene.endpoint(1)]).internal_local();
            let world = world(&scene, &[empty, remote]);
            let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
            let connect = |to| connect(&cpu, &socket, proto, to);
            assert_eq!(connect(scene.vip(20, 80)), Came::Refused);
            counted(&world, Reason::SockNoEndpoints, 1);
            assert_eq!(connect(scene.vip(20, 81)), Came::Refused);
            counted(&world, Reason::SockPortNotServed, 1);
            assert_eq!(connect(scene.pod(8, 80)), Came::Left);
            counted(&world, Reason::SockNotService, 1);
            if proto == Proto::Tcp {
                assert_eq!(connect(scene.vip(21, 80)), Came::Left);
                counted(&world, Reason::SockNoLocalEndpoints, 1);
            } else {
                assert_eq!(connect(scene.vip(21, 80)), Came::Refused);
                counted(&world, Reason::SockNoLocalRefused, 1);
            }
            assert_eq!(world.sock_udp(), 0);
            assert_eq!(peer_of(&world.events(), Reason::SockNoEndpoints), [scene.vip(20, 80)]);
            assert_eq!(peer_of(&world.events(), Reason::SockPortNotServed), [scene.vip(20, 81)]);
            assert_eq!(world.events().len(), if proto == Proto::Tcp { 2 } else { 3 }, "refusals alone");
        }
    }
}

/// The addresses that were asked for in the calls that were refused for `reason`, by what was recorded of them.
fn peer_of(events: &[EventRecord], reason: Reason) -> Vec<SocketAddr> {
    let events = events.iter().filter(|event| event.reason == reason as u8);
    events
        .map(|event| {
            assert_eq!((event.cookie, event.party, event.comm), (1, Socket::PROCESS, Socket::THREAD));
            let addr = Addr4::from_mapped(&event.dst).map_or_else(|| event.dst.into(), IpAddr::from);
            SocketAddr::new(addr, event.dport.number())
        })
        .collect()
}

#[test]
fn every_refused_call_is_recorded_as_what_it_was() {
    for scene in scenes(Proto::Udp) {
        let world = world(&scene, &[Service::new(Proto::Udp, scene.web())]);
        let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
        assert_eq!(connect(&cpu, &socket, Proto::Udp, scene.web()), Came::Refused);
        assert_eq!(send(&cpu, &socket, scene.web()), Came::Refused);
        let calls: Vec<_> = world.events().iter().map(|event| (event.point, event.proto)).collect();
        let of = |call: SockCall| (call as u8, Proto::Udp as u8);
        assert_eq!(calls, [of(SockCall::Connect), of(SockCall::Sendmsg)]);
    }
}

#[test]
fn an_address_that_the_node_has_is_left_to_it() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let world = world(&scene, &[scene.service(1)]);
            let (cpu, socket, late) = (world.on_cpu(0), Socket::new(1, HOST), Socket::new(2, HOST));
            assert_eq!(connect(&cpu, &socket, proto, scene.web()), Came::To(scene.endpoint(1)));
            world.program(&Tables::of(&[scene.service(1).held()]));
            assert_eq!(connect(&cpu, &late, proto, scene.web()), Came::Left);
            assert_eq!(connect(&cpu, &late, proto, scene.vip(10, 81)), Came::Left);
            counted(&world, Reason::SockHeldByNode, 2);
            if proto == Proto::Udp {
                assert_eq!(send(&cpu, &late, scene.web()), Came::Left);
                assert_eq!(
                    send(&cpu, &socket, scene.web()),
                    Came::To(scene.endpoint(1)),
                    "what was begun goes on"
                );
            }
        }
    }
}

#[test]
fn no_room_to_remember_is_a_refusal() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let world = world(&scene, &[scene.service(1)]);
            let socket = Socket::new(1, HOST).without_room();
            assert_eq!(connect(&world.on_cpu(0), &socket, proto, scene.web()), Came::Refused);
            counted(&world, Reason::SockStateFull, 1);
            assert_eq!(peer_of(&world.events(), Reason::SockStateFull), [scene.web()], "not the backend");
        }
    }
}

#[test]
fn a_datagram_socket_keeps_its_backend_per_service_and_its_end_ends_all() {
    for scene in scenes(Proto::Udp) {
        let mut second = scene.service(3);
        second.frontends = vec![scene.vip(11, 80)];
        let world = world(&scene, &[scene.service(3), second]);
        let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
        for _ in 0..3 {
            assert_eq!(send(&cpu, &socket, scene.web()), Came::To(scene.endpoint(1)));
            // The first backend is taken by the other Service address of this socket.
            assert_eq!(send(&cpu, &socket, scene.vip(11, 80)), Came::To(scene.endpoint(2)));
        }
        assert_eq!(receive(&cpu, &socket, scene.endpoint(1)), Came::To(scene.web()));
        assert_eq!(receive(&cpu, &socket, scene.endpoint(2)), Came::To(scene.vip(11, 80)));
        assert_eq!(receive(&cpu, &socket, scene.endpoint(3)), Came::Left);
        assert_eq!(receive(&cpu, &Socket::new(2, HOST), scene.endpoint(1)), Came::Left, "another socket");
        assert_eq!(world.counters().services[&1].connections, 1);
        assert_eq!(world.sock_udp(), 4);
        release(&cpu, &socket);
        assert_eq!(world.sock_udp(), 0);
    }
}

#[test]
fn a_connected_datagram_socket_asks_for_the_service() {
    for scene in scenes(Proto::Udp) {
        let world = world(&scene, &[scene.service(1)]);
        let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
        assert_eq!(connect(&cpu, &socket, Proto::Udp, scene.web()), Came::To(scene.endpoint(1)));
        assert_eq!(peer(&cpu, &socket, scene.endpoint(1)), Came::To(scene.web()));
        assert_eq!(receive(&cpu, &socket, scene.endpoint(1)), Came::To(scene.web()));
    }
}

#[test]
fn a_socket_that_connects_to_the_backend_itself_is_told_so() {
    for proto in [Proto::Tcp, Proto::Udp] {
        for scene in scenes(proto) {
            let world = world(&scene, &[scene.service(1)]);
            let (cpu, socket, backend) = (world.on_cpu(0), Socket::new(1, HOST), scene.endpoint(1));
            for _ in 0..2 {
                assert_eq!(connect(&cpu, &socket, proto, scene.web()), Came::To(backend));
                assert_eq!(connect(&cpu, &socket, proto, scene.vip(10, 81)), Came::Refused);
                assert_eq!(peer(&cpu, &socket, backend), Came::To(scene.web()), "as before");
                assert_eq!(connect(&cpu, &socket, proto, backend), Came::Left);
                assert_eq!(peer(&cpu, &socket, backend), Came::Left);
            }
        }
    }
}

#[test]
fn b96_a_datagram_socket_chooses_again_when_its_backend_stops_serving() {
    for scene in scenes(Proto::Udp) {
        let world = world(&scene, &[scene.service(2)]);
        let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
        assert_eq!(send(&cpu, &socket, scene.web()), Came::To(scene.endpoint(1)));
        let mut moved = scene.service(2);
        moved.cluster.remove(0);
        moved.retired = vec![scene.endpoint(1)];
        world.program(&Tables::of(&[moved.clone()]));
        assert_eq!(send(&cpu, &socket, scene.web()), Came::To(scene.endpoint(1)), "it serves still (B97)");
        moved.serving.remove(0);
        world.program(&Tables::of(&[moved.clone()]));
        assert_eq!(send(&cpu, &socket, scene.web()), Came::To(scene.endpoint(2)));
        assert_eq!(receive(&cpu, &socket, scene.endpoint(1)), Came::Left);
        assert_eq!(receive(&cpu, &socket, scene.endpoint(2)), Came::To(scene.web()));
        moved.retired = vec![scene.endpoint(1), scene.endpoint(2)];
        moved.cluster.clear();
        moved.serving.clear();
        world.program(&Tables::of(&[moved]));
        assert_eq!(send(&cpu, &socket, scene.web()), Came::To(scene.endpoint(2)), "none serves (B98)");
        release(&cpu, &socket);
        assert_eq!(world.sock_udp(), 0);
    }
}

/// Where two Service addresses have one backend only, the one asked last has the replies; when the other one moves away, it
/// takes nothing that is no longer its own.
#[test]
fn of_two_services_with_one_backend_the_one_asked_last_has_the_replies() {
    for scene in scenes(Proto::Udp) {
        let other = scene.vip(11, 80);
        let mut second = scene.service(1);
        second.frontends = vec![other];
        let world = world(&scene, &[second.clone(), scene.service(1)]);
        let (cpu, socket) = (world.on_cpu(0), Socket::new(1, HOST));
        assert_eq!(send(&cpu, &socket, scene.web()), Came::To(scene.endpoint(1)));
        assert_eq!(send(&cpu, &socket, other), Came::To(scene.endpoint(1)));
        assert_eq!(receive(&cpu, &socket, scene.endpoint(1)), Came::To(other));
        for to in [scene.web(), other] {
            assert_eq!(send(&cpu, &socket, to), Came::To(scene.endpoint(1)));
            assert_eq!(receive(&cpu, &socket, scene.endpoint(1)), Came::To(to), "asked last");
        }
        assert_eq!(world.sock_udp(), 3);
        let mut moved = scene.service(0).endpoints(&[scene.endpoint(5)]);
        moved.retired = vec![scene.endpoint(1)];
        world.program(&Tables::of(&[second, moved]));
        assert_eq!(send(&cpu, &socket, scene.web()), Came::To(scene.endpoint(5)));
        assert_eq!(receive(&cpu, &socket, scene.endpoint(5)), Came::To(scene.web()));
        assert_eq!(receive(&cpu, &socket, scene.endpoint(1)), Came::To(other));
        release(&cpu, &socket);
        assert_eq!(world.sock_udp(), 0);
    }
}
