//! One packet of any bytes, at any hook, over tables in which much is going on.

use std::net::SocketAddr;

use lb_common::{FrontendKind, Point, Proto};
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::{self, Scene, Step};
use lb_ebpf::testing::packet::{Checksum, Packet, flags};
use lb_ebpf::testing::routes::{self, PODS_AWAY};
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::world::{Sizes, Uplinks, World};
use lb_ebpf::testing::{host, invariants, wire};

/// Room for what [`node`] does and a little more.
const SIZES: Sizes = Sizes { main: 64, lru: 16 };

/// Lets the packet `input` through the datapath: its first byte says where and how it comes, the rest is the packet.
///
/// # Panics
/// If something does not hold that holds for every packet.
pub fn run(input: &[u8]) {
    let Some((how, data)) = input.split_first() else { return };
    let uplinks = [Uplinks::Tc, Uplinks::Xdp, Uplinks::Bare, Uplinks::Bare][usize::from(how >> 3 & 3)];
    let world = node().uplinks(uplinks);
    let point = Point::from_number(how & 3).unwrap_or(Point::PodIngress);
    let before = arrived(data, how & 4 != 0).by(routes::at(point));
    // Twice: the second finds what the first has left.
    for _ in 0..2 {
        let mut after = before.clone();
        let outcome = host::observe(&world, point, &mut after)
            .and_then(|(verdict, reason)| invariants::check(&before, &after, verdict, reason));
        if let Err(fault) = outcome {
            panic!("{point:?}: {fault}");
        }
    }
}

/// The packet in the state in which it comes: summed by the device or not; with a sum that the hardware is to complete if
/// that is how it looks.
fn arrived(data: &[u8], summed: bool) -> Bytes {
    let partial = |packet: &Packet| packet.checksum == Checksum::Partial && packet.build() == data;
    match wire::parse(data) {
        _ if summed => Bytes::summed_by_device(data.to_vec()),
        Ok(packet) if partial(&packet) => Bytes::of(&packet),
        _ => Bytes::new(data.to_vec()),
    }
}

/// A node with a Service of three endpoints, one without any, one whose policy finds none here, and one with frontends of
/// every kind and an endpoint on another node, of each family and protocol; and connections of each kind.
fn node() -> World {
    let scenes = [(false, Proto::Tcp), (false, Proto::Udp), (true, Proto::Tcp), (true, Proto::Udp)];
    let scenes = scenes.map(|(v6, proto)| Scene { v6, proto, checksum: Checksum::Complete });
    let services = |scene: &Scene| {
        let none = Service::new(scene.proto, scene.vip(20, 80));
        let elsewhere = Service::new(scene.proto, scene.vip(21, 80)).endpoints(&[scene.endpoint(1)]);
        let away = SocketAddr::new(PODS_AWAY.host(scene.v6, 101), 8080);
        let everywhere = Service::new(scene.proto, scene.vip(22, 80))
            .at(FrontendKind::NodePort, scene.node(30_080))
            .at(FrontendKind::LoadBalancer, scene.external(1, 80))
            .at(FrontendKind::ExternalIp, scene.external(2, 80))
            .endpoints(&[away, scene.endpoint(1)])
            .ranges(&[(scene.outside(7, 0).ip(), 8)]);
        [scene.service(3), none, elsewhere.internal_local(), everywhere]
    };
    let world = World::new(scenes[0].config(), SIZES, &Schedule::default());
    world.program(&Tables::of(&scenes.iter().flat_map(services).collect::<Vec<_>>()));
    let send = |point, packet: &Packet| {
        host::run(&world.on_cpu(0), point, &mut Bytes::of(packet).by(routes::at(point)))
    };
    for scene in scenes {
        let web = scene.web();
        send(Point::PodIngress, &scene.first(scene.client(), web));
        send(Point::PodEgress, &scene.answer(scene.endpoint(1), scene.client()));
        send(Point::PodIngress, &scene.data(scene.client(), web));
        // The second endpoint talks to itself; a segment comes from the middle of another connection.
        send(Point::PodIngress, &scene.first(scene.pod(102, 40_000), web));
        send(Point::PodIngress, &scene.packet(scene.pod(8, 40_000), web, flags::ACK));
        // Two connections from outside, one of them masqueraded, and one of the host's own from a node port.
        for port in [40_000, 40_001] {
            send(Point::OutwardIngress, &scene.first(scene.outside(7, port), scene.node(30_080)));
        }
        send(Point::OutwardEgress, &scene.first(scene.node(30_080), scene.outside(8, 443)));
    }
    world
}

/// The packets of the fixtures.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = std::collections::BTreeSet::new();
    for step in fixtures::all().into_iter().flat_map(|fixture| fixture.steps) {
        if let Step::Packet(exchange) = step {
            let mut seed = vec![exchange.point as u8];
            seed.extend(exchange.input.data());
            seeds.insert(seed);
        }
    }
    seeds.into_iter().collect()
}
