//! What the sweep removes, when, and where the traffic of what it removes is counted.

use lb_common::{Addr4, Addr6, FlowKey, Point, Proto, Reason, ServiceStats};
use lb_ebpf::env::{FlowTable, Tables as _};
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::{Checksum, Packet, flags};
use lb_ebpf::testing::pairs::Faults;
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::tables::Tables;
use lb_ebpf::testing::world::{Sizes, World};

const SECOND: u64 = 1_000_000_000;
const SYN: u8 = flags::SYN;
const SYN_ACK: u8 = flags::SYN | flags::ACK;
const ACK: u8 = flags::ACK;
const FIN: u8 = flags::FIN | flags::ACK;
const RST: u8 = flags::RST;

/// A packet from the client (or, if false, from the backend) with these flags.
type Packets = &'static [(bool, u8)];

/// How each phase is reached, and the seconds that it may idle (B103: conntrack's as kube-proxy sets them).
const PHASES: &[(Proto, Packets, u64)] = &[
    (Proto::Tcp, &[(true, SYN)], 120),
    (Proto::Tcp, &[(true, SYN), (false, SYN_ACK)], 60),
    (Proto::Tcp, &[(true, SYN), (false, SYN_ACK), (true, ACK)], 86_400),
    (Proto::Tcp, &[(true, SYN), (false, SYN_ACK), (true, ACK), (true, FIN)], 3_600),
    (Proto::Tcp, &[(true, SYN), (false, SYN_ACK), (true, ACK), (false, FIN)], 3_600),
    (Proto::Tcp, &[(true, SYN), (false, SYN_ACK), (true, FIN), (false, FIN), (true, ACK)], 120),
    (Proto::Tcp, &[(true, SYN), (false, RST)], 10),
    (Proto::Tcp, &[(true, SYN), (false, SYN_ACK), (true, ACK), (true, RST)], 10),
    (Proto::Tcp, &[(true, SYN), (false, SYN_ACK), (true, ACK), (true, RST), (true, ACK)], 86_400),
    (Proto::Tcp, &[(true, ACK)], 120),
    (Proto::Tcp, &[(true, ACK), (false, ACK)], 86_400),
    (Proto::Udp, &[(true, 0)], 30),
    (Proto::Udp, &[(true, 0), (true, 0)], 30),
    (Proto::Udp, &[(true, 0), (false, 0)], 120),
];

fn scene(v6: bool, proto: Proto) -> Scene {
    Scene { v6, proto, checksum: Checksum::Complete }
}

fn world(scene: &Scene) -> World {
    let world = World::new(scene.config(), Sizes::default(), &Schedule::default());
    world.program(&Tables::of(&[scene.service(1)]));
    world
}

/// Sends `packet`; returns its bytes from the network header on, as they are counted.
fn send(world: &World, point: Point, packet: &Packet) -> u64 {
    let mut bytes = Bytes::of(packet);
    host::run(&world.on_cpu(0), point, &mut bytes);
    bytes.data().len() as u64 - 14
}

fn play(world: &World, scene: &Scene, packets: Packets) -> ServiceStats {
    let mut traffic = ServiceStats::default();
    for (client, flags) in packets {
        if *client {
            let packet = scene.packet(scene.client(), scene.web(), *flags);
            traffic.packets_in += 1;
            traffic.bytes_in += send(world, Point::PodIngress, &packet);
        } else {
            let packet = scene.packet(scene.endpoint(1), scene.client(), *flags);
            traffic.packets_out += 1;
            traffic.bytes_out += send(world, Point::PodEgress, &packet);
        }
    }
    traffic.connections = 1;
    traffic
}

fn entries(world: &World) -> usize {
    let tables = [FlowTable::Main, FlowTable::Lru];
    tables.map(|table| world.flows4(table).len() + world.flows6(table).len()).iter().sum()
}

/// Sweeps everything; returns how many pairs and how many orphans went.
fn sweep(world: &World) -> (u64, u64) {
    let cpu = world.on_cpu(1);
    let reports = [cpu.sweep::<Addr4>(), cpu.sweep::<Addr6>()];
    (reports.iter().map(|report| report.expired).sum(), reports.iter().map(|report| report.orphans).sum())
}

#[test]
fn b103_each_phase_has_its_lifetime_and_its_traffic_is_counted_when_it_ends() {
    for v6 in [false, true] {
        for (proto, packets, lifetime) in PHASES {
            let scene = scene(v6, *proto);
            let world = world(&scene);
            let traffic = play(&world, &scene, packets);
            world.advance(lifetime * SECOND);
            assert_eq!((sweep(&world), entries(&world)), ((0, 0), 2), "{scene} {packets:?}: too early");
            assert!(Faults::of(&world).none());
            world.advance(1);
            assert_eq!((sweep(&world), entries(&world)), ((1, 0), 0), "{scene} {packets:?}: too late");
            let counters = world.counters();
            assert_eq!(counters.services[&1], traffic, "{scene} {packets:?}");
            assert_eq!(counters.backends[&1], traffic, "{scene} {packets:?}");
        }
    }
}

#[test]
fn either_direction_keeps_a_pair_alive() {
    let scene = scene(false, Proto::Udp);
    for (point, packet) in [
        (Point::PodIngress, scene.data(scene.client(), scene.web())),
        (Point::PodEgress, scene.data(scene.endpoint(1), scene.client())),
    ] {
        let world = world(&scene);
        play(&world, &scene, &[(true, 0), (false, 0)]);
        for _ in 0..4 {
            world.advance(100 * SECOND);
            send(&world, point, &packet);
            assert_eq!((sweep(&world), entries(&world)), ((0, 0), 2), "{point:?}");
        }
        assert!(Faults::of(&world).none());
    }
}

#[test]
fn b98_traffic_keeps_a_flow_alive_while_no_endpoint_serves() {
    for v6 in [false, true] {
        let scene = scene(v6, Proto::Udp);
        let world = world(&scene);
        let mut traffic = play(&world, &scene, &[(true, 0)]);
        let mut none = scene.service(0);
        none.retired = vec![scene.endpoint(1)];
        world.program(&Tables::of(&[none]));
        for _ in 0..4 {
            world.advance(20 * SECOND);
            let more = play(&world, &scene, &[(true, 0)]);
            traffic.packets_in += more.packets_in;
            traffic.bytes_in += more.bytes_in;
            assert_eq!((sweep(&world), entries(&world)), ((0, 0), 2));
        }
        world.advance(31 * SECOND);
        assert_eq!(sweep(&world), (1, 0));
        assert_eq!(world.counters().services[&1], traffic);
    }
}

#[test]
fn an_orphan_does_not_keep_its_own_flow_from_coming_back() {
    let scene = scene(false, Proto::Tcp);
    let world = world(&scene);
    play(&world, &scene, &[(true, SYN)]);
    let flows = world.flows4(FlowTable::Main);
    let forward: &FlowKey<_> =
        flows.keys().find(|key| key.tuple.dport.number() == 80).expect("the forward entry");
    world.on_cpu(0).delete_flow(FlowTable::Main, forward);
    world.advance(6 * SECOND);
    play(&world, &scene, &[(true, SYN), (false, SYN_ACK), (true, ACK)]);
    let reasons = world.counters().reasons;
    assert_eq!((reasons[&Reason::FlowOpened], entries(&world)), (2, 2));
    assert!(Faults::of(&world).none());
}

#[test]
fn a_reverse_entry_without_forward_entry_goes_after_five_seconds() {
    let scene = scene(false, Proto::Tcp);
    let world = world(&scene);
    let traffic = play(&world, &scene, &[(true, SYN), (false, SYN_ACK)]);
    let flows = world.flows4(FlowTable::Main);
    let forward: &FlowKey<_> =
        flows.keys().find(|key| key.tuple.dport.number() == 80).expect("the forward entry");
    world.on_cpu(0).delete_flow(FlowTable::Main, forward);
    world.advance(5 * SECOND);
    assert_eq!((sweep(&world), entries(&world)), ((0, 0), 1));
    world.advance(1);
    assert_eq!((sweep(&world), entries(&world)), ((0, 1), 0));
    let counted = world.counters().services[&1];
    assert_eq!(
        (counted.packets_out, counted.bytes_out),
        (traffic.packets_out, traffic.bytes_out),
        "what it carried counts"
    );
}

#[test]
fn a_flow_whose_forward_entry_was_evicted_comes_back() {
    let scene = scene(false, Proto::Tcp);
    let world = world(&scene);
    play(&world, &scene, &[(true, ACK)]);
    let flows = world.flows4(FlowTable::Lru);
    let forward: &FlowKey<_> =
        flows.keys().find(|key| key.tuple.dport.number() == 80).expect("the forward entry");
    world.on_cpu(0).delete_flow(FlowTable::Lru, forward);
    // Its own reverse entry stands in the way: that one's tuple is used, and nothing is made.
    play(&world, &scene, &[(true, ACK)]);
    assert_eq!((world.counters().reasons[&Reason::FlowForward], entries(&world)), (1, 1));
    world.advance(6 * SECOND);
    assert_eq!(sweep(&world), (0, 1));
    play(&world, &scene, &[(true, ACK)]);
    assert_eq!((world.counters().reasons[&Reason::FlowAdopted], entries(&world)), (2, 2));
    assert!(Faults::of(&world).none());
}

#[test]
fn a_flow_whose_reverse_entry_was_evicted_comes_back() {
    for (proto, packets) in
        [(Proto::Tcp, &[(true, ACK), (false, ACK)] as Packets), (Proto::Udp, &[(true, 0), (false, 0)])]
    {
        let scene = scene(false, proto);
        // The flow table is too small for a pair.
        let sizes = Sizes { main: 1, lru: 8 };
        let world = World::new(scene.config(), sizes, &Schedule::default());
        world.program(&Tables::of(&[scene.service(1)]));
        play(&world, &scene, packets);
        let flows = world.flows4(FlowTable::Lru);
        let reverse: &FlowKey<_> =
            flows.keys().find(|key| key.tuple.sport.number() == 8080).expect("the reverse entry");
        world.on_cpu(0).delete_flow(FlowTable::Lru, reverse);
        play(&world, &scene, packets);
        assert_eq!((world.counters().reasons[&Reason::FlowReverse], entries(&world)), (2, 2));
        assert!(Faults::of(&world).none());
    }
}

#[test]
fn a_syn_replaces_a_flow_that_lost_its_reverse_entry() {
    let scene = scene(true, Proto::Tcp);
    let world = world(&scene);
    play(&world, &scene, &[(true, SYN)]);
    let flows = world.flows6(FlowTable::Main);
    let reverse: &FlowKey<_> =
        flows.keys().find(|key| key.tuple.sport.number() == 8080).expect("the reverse entry");
    world.on_cpu(0).delete_flow(FlowTable::Main, reverse);
    play(&world, &scene, &[(true, SYN), (false, SYN_ACK)]);
    let reasons = world.counters().reasons;
    assert_eq!((reasons[&Reason::FlowReopened], reasons[&Reason::FlowReverse]), (1, 1));
    assert!(Faults::of(&world).none());
}
