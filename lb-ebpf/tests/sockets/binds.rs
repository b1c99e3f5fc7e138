//! `bind` of ports at which Services are reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::{FrontendKind, Proto, Reason, SockCall};
use lb_ebpf::sock;
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::packet::Checksum;
use lb_ebpf::testing::socket::Socket;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::world::Cpu;

use super::{Came, HOST, POD, call, counted, scenes, world};

const NODE_PORT: u16 = 30_080;

fn bind(cpu: &Cpu<'_>, netns: u64, proto: Proto, to: SocketAddr) -> Came {
    let socket = Socket::new(1, netns);
    let socket = socket.calling();
    call(to, |to| sock::bind(cpu, &socket, proto, to), |to| sock::bind(cpu, &socket, proto, to))
}

/// The usual Service, at external addresses and at nodes as well.
fn service(scene: &Scene) -> Service {
    scene
        .service(1)
        .at(FrontendKind::ExternalIp, scene.external(2, 80))
        .at(FrontendKind::LoadBalancer, scene.external(1, 80))
        .at(FrontendKind::NodePort, scene.node(NODE_PORT))
}

fn any(v6: bool, port: u16) -> SocketAddr {
    let addr = if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    SocketAddr::new(addr, port)
}

#[test]
fn the_host_is_refused_what_a_service_has() {
    for (proto, other) in [(Proto::Tcp, Proto::Udp), (Proto::Udp, Proto::Tcp)] {
        for scene in scenes(proto) {
            let world = world(&scene, &[service(&scene)]);
            let cpu = world.on_cpu(0);
            let taken = [
                any(scene.v6, NODE_PORT),
                scene.node(NODE_PORT),
                scene.external(1, 80),
                scene.external(2, 80),
            ];
            for at in taken {
                assert_eq!(bind(&cpu, HOST, proto, at), Came::Refused, "{at}");
                assert_eq!(bind(&cpu, POD, proto, at), Came::Left, "{at}");
                assert_eq!(bind(&cpu, HOST, other, at), Came::Left, "{at}");
            }
            counted(&world, Reason::SockBindRefused, 4);
            assert!(world.events().iter().all(|event| event.point == SockCall::Bind as u8));
            // B89: what is no Service's is the host's, and so is what the kernel is to choose.
            for at in [
                any(scene.v6, 80),
                any(scene.v6, 0),
                scene.node(80),
                scene.node(30_999),
                scene.external(1, 81),
            ] {
                assert_eq!(bind(&cpu, HOST, proto, at), Came::Left, "{at}");
            }
        }
    }
}

#[test]
fn a_socket_of_both_families_is_refused_what_either_has() {
    let v4 = Scene { v6: false, proto: Proto::Tcp, checksum: Checksum::Complete };
    let world = world(&v4, &[service(&v4)]);
    let cpu = world.on_cpu(0);
    assert_eq!(bind(&cpu, HOST, Proto::Tcp, any(true, NODE_PORT)), Came::Refused);
    let own = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), NODE_PORT);
    assert_eq!(bind(&cpu, HOST, Proto::Tcp, own), Came::Left);
}

#[test]
fn a_service_address_that_the_node_has_may_be_bound() {
    for scene in scenes(Proto::Tcp) {
        let world = world(&scene, &[]);
        world.program(&Tables::of(&[scene.service(1).held()]));
        assert_eq!(bind(&world.on_cpu(0), HOST, Proto::Tcp, scene.web()), Came::Left);
    }
}
