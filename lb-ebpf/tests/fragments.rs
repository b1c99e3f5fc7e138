//! Fragments in any order, of packets that share numbers.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::{Point, Proto};
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::{Checksum, Packet};
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Sizes, World};
use lb_ebpf::verdict::Verdict;
use proptest::prelude::*;

/// A fragment of a packet from one of three ports to one of three others, the last of which nobody serves.
#[derive(Clone, Copy, Debug)]
struct Sent {
    later: bool,
    client: u16,
    port: u16,
    number: u16,
}

prop_compose! {
    fn sent()(later in any::<bool>(), client in 0..3_u16, port in 80..83_u16, number in 0..3_u16) -> Sent {
        Sent { later, client, port, number }
    }
}

fn scene() -> impl Strategy<Value = Scene> {
    // SCTP's checksum cannot follow a change of port in a fragment.
    let checksum = |scene: Scene| match scene.proto {
        Proto::Sctp => Scene { checksum: Checksum::Absent, ..scene },
        Proto::Tcp | Proto::Udp => Scene { checksum: Checksum::Complete, ..scene },
    };
    prop::sample::select(Scene::ALL.map(checksum).to_vec())
}

/// Two Services at one address, with endpoints of their own.
fn world(scene: &Scene) -> World {
    let service = |port, endpoints: [u8; 2]| {
        Service::new(scene.proto, scene.vip(10, port)).endpoints(&endpoints.map(|n| scene.endpoint(n)))
    };
    let world = World::new(scene.config(), Sizes::default(), &Schedule::default());
    world.program(&Tables::of(&[service(80, [1, 2]), service(81, [3, 4])]));
    world
}

fn run(world: &World, packet: &Packet) -> (Verdict, IpAddr) {
    let mut bytes = Bytes::of(packet);
    let verdict = host::run(&world.on_cpu(0), Point::PodIngress, &mut bytes);
    (verdict, wire::parse(bytes.data()).expect("a packet").dst)
}

proptest! {
    /// A later fragment goes where the last first fragment of its number went, and nowhere if that went nowhere.
    #[test]
    fn b106_a_later_fragment_follows_the_last_first_one_of_its_number(
        scene in scene(),
        all in prop::collection::vec(sent(), 1..60),
    ) {
        let world = world(&scene);
        let mut last: HashMap<u16, Option<IpAddr>> = HashMap::new();
        for Sent { later, client, port, number } in all {
            let packet = scene.first(scene.pod(7, 40_000 + client), scene.vip(10, port));
            let packet = packet.data(vec![7; 100]).label(number);
            let pieces = packet.fragments(64);
            let (verdict, dst) = run(&world, &pieces[usize::from(later)]);
            if later {
                let expected = last.get(&number).copied().flatten();
                prop_assert_eq!((verdict == Verdict::Pass).then_some(dst), expected);
                prop_assert!(expected.is_some() || verdict == Verdict::Drop);
            } else {
                prop_assert_eq!(verdict == Verdict::Pass, port != 82);
                last.insert(number, (verdict == Verdict::Pass).then_some(dst));
            }
        }
    }
}
