//! Ways out of the node, and uplinks, that are known from packets before.

use std::net::SocketAddr;

use lb_common::maps::WAYS;
use lb_common::{Addr4, CpuRecord, FrontendKind, Point, Proto, Reason, WayRecord};
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::packet::{FROM_POD, Macs, Packet};
use lb_ebpf::testing::routes::{
    ACROSS, BEYOND, NARROW, Net, OTHER, PODS_AWAY, PODS_NARROW, UPLINK, address_of,
};
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::world::{Counters, Sizes, Uplinks, World};
use lb_ebpf::verdict::Verdict;

/// Longer than a way is kept.
const LONG: u64 = (WayRecord::LASTS as u64 + 1) * WayRecord::UNIT;

/// A node whose node port leads to an endpoint of another node.
struct Node {
    scene: Scene,
    world: World,
    port: SocketAddr,
}

impl Node {
    fn new(scene: Scene, uplinks: Uplinks, net: Net) -> Self {
        let world = World::new(scene.config(), Sizes::default(), &Schedule::default()).uplinks(uplinks);
        let port = scene.node(30_080);
        let endpoint = SocketAddr::new(net.host(port.is_ipv6(), 101), 8_000);
        let service = Service::new(scene.proto, scene.web()).at(FrontendKind::NodePort, port);
        world.program(&Tables::of(&[service.endpoints(&[endpoint])]));
        Self { scene, world, port }
    }

    fn client(&self, port: u16) -> SocketAddr {
        self.scene.outside(7, port)
    }

    /// Lets a packet in: what was said, by which interface it left, and whether a route was asked for.
    fn send(&self, packet: &Packet) -> (Verdict, Option<u32>, bool) {
        let (cpu, asked) = (self.world.on_cpu(0), self.world.asked());
        let verdict = cpu.run(Point::OutwardIngress, &mut Bytes::of(packet).by(UPLINK));
        (verdict, cpu.take_sent(), self.world.asked() != asked)
    }

    /// A client's next packet.
    fn next(&self, port: u16) -> (Verdict, Option<u32>, bool) {
        self.send(&self.scene.data(self.client(port), self.port))
    }
}

fn everywhere(net: Net, play: impl Fn(&Node)) {
    for uplinks in [Uplinks::Tc, Uplinks::Xdp] {
        with(uplinks, net, &play);
    }
}

fn with(uplinks: Uplinks, net: Net, play: impl Fn(&Node)) {
    for v6 in [false, true] {
        for proto in [Proto::Tcp, Proto::Udp, Proto::Sctp] {
            let scene = Scene::ALL.into_iter().find(|scene| scene.v6 == v6 && scene.proto == proto);
            play(&Node::new(scene.expect("a scene"), uplinks, net));
        }
    }
}

const ASKED: (Verdict, Option<u32>, bool) = (Verdict::Route, Some(UPLINK), true);
const KNOWN: (Verdict, Option<u32>, bool) = (Verdict::Route, Some(UPLINK), false);

/// The route is asked for the first packet, and for one after; then it is known for a while.
#[test]
fn a_way_is_known_for_a_while() {
    everywhere(PODS_AWAY, |node| {
        assert_eq!(node.send(&node.scene.first(node.client(40_000), node.port)), ASKED);
        assert_eq!([node.next(40_000), node.next(40_000), node.next(40_000)], [ASKED, KNOWN, KNOWN]);
        node.world.advance(LONG);
        assert_eq!([node.next(40_000), node.next(40_000)], [ASKED, KNOWN]);
    });
}

/// Whoever asks for a connection again may have had no answer for a neighbour that has moved, for which the kernel asks.
#[test]
fn what_opens_a_connection_asks_again() {
    everywhere(PODS_AWAY, |node| {
        let first = node.scene.first(node.client(40_000), node.port);
        node.send(&first);
        assert_eq!([node.next(40_000), node.next(40_000)], [ASKED, KNOWN]);
        // The first datagram is like any other.
        let again = if node.scene.proto == Proto::Udp { KNOWN } else { ASKED };
        assert_eq!([node.send(&first), node.next(40_000)], [again, KNOWN]);
    });
}

/// A route that has changed is followed once that time is over.
#[test]
fn a_way_that_changes_is_followed() {
    everywhere(PODS_AWAY, |node| {
        node.send(&node.scene.first(node.client(40_000), node.port));
        node.next(40_000);
        node.world.move_routes();
        assert_eq!(node.next(40_000), KNOWN);
        node.world.advance(LONG);
        let across = |asked| (Verdict::Route, Some(ACROSS), asked);
        assert_eq!([node.next(40_000), node.next(40_000)], [across(true), across(false)]);
    });
}

/// Of a device that the programs know nothing of the link-layer addresses may be of another kind: those of tunnels with many
/// ends are IP addresses.
#[test]
fn a_way_by_a_device_that_nobody_knows_is_asked_for_each_time() {
    everywhere(PODS_AWAY, |node| {
        let client = SocketAddr::new(BEYOND.host(node.port.is_ipv6(), 7), 40_000);
        assert_eq!(node.send(&node.scene.first(client, node.port)), ASKED);
        let endpoint = SocketAddr::new(PODS_AWAY.host(node.port.is_ipv6(), 101), 8_000);
        let answer = node.scene.data(endpoint, node.scene.node(Scene::first_port(1)));
        let asked = (Verdict::Route, Some(OTHER), true);
        assert_eq!([0, 1, 2].map(|_| node.send(&answer)), [asked; 3]);
    });
}

/// Two flows at one place take turns, each by its own way.
#[test]
fn flows_that_share_a_place_have_ways_of_their_own() {
    everywhere(PODS_AWAY, |node| {
        node.send(&node.scene.first(node.client(40_000), node.port));
        node.next(40_000);
        let skip = |cpu: &mut CpuRecord| cpu.pairs += u64::from(WAYS) - 1;
        <lb_ebpf::testing::world::Cpu<'_> as lb_ebpf::env::Tables<Addr4>>::with_cpu(
            &node.world.on_cpu(0),
            skip,
        );
        node.send(&node.scene.first(node.client(40_001), node.port));
        assert_eq!([node.next(40_001), node.next(40_001)], [ASKED, KNOWN]);
        assert_eq!([node.next(40_000), node.next(40_000), node.next(40_001)], [ASKED, KNOWN, ASKED]);
    });
}

/// What is too long for a way that is known is answered as ever.
#[test]
fn what_is_too_long_asks() {
    everywhere(PODS_NARROW, |node| {
        node.send(&node.scene.first(node.client(40_000), node.port));
        assert_eq!([node.next(40_000), node.next(40_000)], [ASKED, KNOWN]);
        let long = node.scene.data(node.client(40_000), node.port).data(vec![0; NARROW as usize]);
        let before = node.world.counters();
        assert!(node.send(&long).2);
        let count = |counters: &Counters| counters.reasons.get(&Reason::PacketTooBig).copied().unwrap_or(0);
        assert_eq!(count(&node.world.counters()), count(&before) + 1);
    });
}

/// XDP looks at an uplink once for a while, and leaves alone what is for another machine meanwhile. By another uplink the same
/// flow has it look at that.
#[test]
fn an_uplink_is_known_for_a_while() {
    with(Uplinks::Xdp, PODS_AWAY, |node| {
        let met = |interface, owner| {
            let macs = Macs { dst: address_of(owner), ..FROM_POD };
            let packet = node.scene.data(node.client(40_000), node.port).macs(macs);
            let cpu = node.world.on_cpu(0);
            cpu.run(Point::OutwardIngress, &mut Bytes::of(&packet).by(interface));
            let early = cpu.take_early().expect("XDP");
            (early.verdict, early.accesses.interface)
        };
        node.send(&node.scene.first(node.client(40_000), node.port));
        node.next(40_000);
        assert_eq!(met(UPLINK, UPLINK), (Verdict::Redirect, 0));
        assert_eq!(met(UPLINK, ACROSS), (Verdict::Pass, 0));
        assert_eq!(met(ACROSS, UPLINK), (Verdict::Pass, 1));
        // Whether frames may leave by the first one is asked, too, and then known.
        assert_eq!([met(ACROSS, ACROSS), met(ACROSS, ACROSS)], [(Verdict::Route, 1), (Verdict::Route, 0)]);
        assert_eq!(
            [met(UPLINK, UPLINK), met(UPLINK, UPLINK)],
            [(Verdict::Redirect, 1), (Verdict::Redirect, 0)]
        );
        node.world.advance(LONG);
        assert_eq!(
            [met(UPLINK, UPLINK), met(UPLINK, UPLINK)],
            [(Verdict::Redirect, 1), (Verdict::Redirect, 0)]
        );
    });
}
