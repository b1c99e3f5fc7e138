//! What holds for every packet.

use std::net::SocketAddr;

use lb_common::{Effect, Point, Proto, Reason};
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::{Checksum, FROM_POD, Packet, Transport, flags};
use lb_ebpf::testing::routes;
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Sizes, World};
use lb_ebpf::verdict::Verdict;
use proptest::prelude::*;

/// A node with a Service of three endpoints, one without any, and one whose policy finds none here.
fn world(scene: &Scene) -> World {
    let empty = Service::new(scene.proto, scene.vip(20, 80));
    let remote =
        Service::new(scene.proto, scene.vip(21, 80)).endpoints(&[scene.endpoint(1)]).internal_local();
    let world = World::new(scene.config(), Sizes::default(), &Schedule::default());
    world.program(&Tables::of(&[scene.service(3), empty, remote]));
    world
}

/// The parts of a packet that the datapath must not care about.
#[derive(Clone, Debug)]
struct Dress {
    class: u8,
    hop_limit: u8,
    label: u16,
    options: usize,
    extensions: Vec<(u8, usize)>,
    numbers: [u32; 2],
    window: u16,
    tcp_options: usize,
    data: Vec<u8>,
}

impl Dress {
    fn put_on(&self, mut packet: Packet) -> Packet {
        (packet.class, packet.hop_limit, packet.label) = (self.class, self.hop_limit, self.label);
        if packet.src.is_ipv4() {
            packet.options = vec![1; self.options * 4];
        } else {
            for (number, units) in &self.extensions {
                packet = packet.extension(*number, vec![0; 6 + 8 * units]);
            }
        }
        if let Transport::Tcp { seq, ack, window, options, .. } = &mut packet.transport {
            [*seq, *ack] = self.numbers;
            *window = self.window;
            *options = vec![1; self.tcp_options * 4];
        }
        packet.data(self.data.clone())
    }
}

prop_compose! {
    fn dress()(
        (class, hop_limit, label) in any::<(u8, u8, u16)>(),
        options in 0_usize..=10,
        extensions in prop::collection::vec((prop::sample::select(&[0_u8, 43, 60]), 0_usize..5), 0..=5),
        numbers in any::<[u32; 2]>(),
        window in any::<u16>(),
        tcp_options in 0_usize..=10,
        data in prop::collection::vec(any::<u8>(), 0..300),
    ) -> Dress {
        Dress { class, hop_limit, label, options, extensions, numbers, window, tcp_options, data }
    }
}

fn scene() -> impl Strategy<Value = Scene> {
    prop::sample::select(&Scene::ALL)
}

/// How a packet arrives: with a complete or partial checksum as it is, without one, or summed by the device.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    AsIs,
    Bare,
    Summed,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop::sample::select(&[Arrival::AsIs, Arrival::Bare, Arrival::Summed])
}

impl Arrival {
    fn packet(self, scene: &Scene, packet: Packet) -> Packet {
        match self {
            Self::Bare if scene.proto == Proto::Udp && !scene.v6 => packet.checksum(Checksum::Absent),
            Self::Summed => packet.checksum(Checksum::Complete),
            Self::AsIs | Self::Bare => packet,
        }
    }

    fn bytes(self, packet: &Packet) -> Bytes {
        match self {
            Self::Summed => Bytes::summed_by_device(packet.build()),
            Self::AsIs | Self::Bare => Bytes::of(packet),
        }
    }
}

/// What came out, parsed, which recomputes every checksum.
fn parsed(bytes: &Bytes) -> Result<Packet, TestCaseError> {
    wire::parse(bytes.data()).map_err(TestCaseError::fail)
}

fn reversed(packet: &Packet) -> Packet {
    match (packet.source(), packet.destination()) {
        (Some(src), Some(dst)) => packet.clone().between(dst, src),
        _ => panic!("no ports"),
    }
}

fn only_reason(world: &World) -> Reason {
    let reasons = world.counters().reasons;
    assert_eq!(reasons.values().sum::<u64>(), 1, "one packet, one reason: {reasons:?}");
    *reasons.keys().next().expect("one reason")
}

proptest! {
    /// The parser agrees with the builder, or nothing else here means anything.
    #[test]
    fn parsing_undoes_building(scene in scene(), dress in dress(), arrival in arrival()) {
        let packet = scene.data(scene.client(), scene.web());
        let packet = arrival.packet(&scene, dress.put_on(packet));
        prop_assert_eq!(wire::parse(&packet.build()), Ok(packet));
    }

    /// Translated and translated back a packet is the original, but for who sent it; in between only its destination
    /// changed, and all its checksums are what a full computation gives.
    #[test]
    fn back_translation_gives_the_original(
        scene in scene(),
        dress in dress(),
        arrival in arrival(),
        client in 1..=u16::MAX,
    ) {
        let world = world(&scene);
        let cpu = world.on_cpu(0);
        let client = scene.pod(7, client);
        let original = arrival.packet(&scene, dress.put_on(scene.first(client, scene.web())));

        let mut bytes = arrival.bytes(&original);
        prop_assert_eq!(host::run(&cpu, Point::PodIngress, &mut bytes), Verdict::Pass);
        prop_assert!(bytes.device_sum_holds());
        let there = parsed(&bytes)?;
        prop_assert_eq!(&there, &original.clone().between(client, scene.endpoint(1)));

        let reply = reversed(&there);
        let mut bytes = arrival.bytes(&reply);
        prop_assert_eq!(host::run(&cpu, Point::PodEgress, &mut bytes), Verdict::Pass);
        prop_assert!(bytes.device_sum_holds());
        prop_assert_eq!(parsed(&bytes)?, reversed(&original));
    }

    /// The same for a hairpin, whose source changes too and which goes back.
    #[test]
    fn b74_back_translation_of_a_hairpin_gives_the_original(
        scene in scene(),
        dress in dress(),
        arrival in arrival(),
        client in 1..=u16::MAX,
    ) {
        let world = world(&scene);
        let cpu = world.on_cpu(0);
        let client = scene.pod(101, client);
        let original = arrival.packet(&scene, dress.put_on(scene.first(client, scene.web())));

        let mut bytes = arrival.bytes(&original);
        prop_assert_eq!(host::run(&cpu, Point::PodIngress, &mut bytes), Verdict::Redirect);
        let there = parsed(&bytes)?;
        let masqueraded = original.clone().between(scene.node(Scene::first_port(1)), scene.endpoint(1));
        prop_assert_eq!(&there, &masqueraded.macs(original.macs.swapped()));

        let reply = reversed(&there).macs(original.macs);
        let mut bytes = arrival.bytes(&reply);
        prop_assert_eq!(host::run(&cpu, Point::PodIngress, &mut bytes), Verdict::Redirect);
        prop_assert_eq!(parsed(&bytes)?, reversed(&original).macs(original.macs.swapped()));
    }

    /// An ICMP error about what was translated, however much of it is quoted, becomes the same error about what was sent.
    #[test]
    fn b104_errors_tell_what_was_sent(
        scene in scene(),
        (inner, outer) in (dress(), dress()),
        summed in any::<bool>(),
        len in any::<prop::sample::Index>(),
    ) {
        let world = world(&scene);
        let cpu = world.on_cpu(0);
        let (client, web, endpoint) = (scene.client(), scene.web(), scene.endpoint(1));
        let _ = host::run(&cpu, Point::PodIngress, &mut Bytes::of(&scene.first(client, web)));

        // The quoted checksum of SCTP stays as it was.
        let checksum = if scene.proto == Proto::Sctp { Checksum::Absent } else { Checksum::Complete };
        let quoted = |to| inner.put_on(scene.data(client, to)).checksum(checksum);
        let told = quoted(web).transport_offset() - 14 + 8;
        let len = told + len.index(quoted(web).build().len() - 14 - told + 1);
        prop_assume!(scene.proto != Proto::Tcp || len != told + 9, "half a checksum stays as it was");
        let error = |to| {
            let kind = if scene.v6 { [2, 0] } else { [3, 4] };
            let header = Transport::Icmp { kind, word: [0, 0, 5, 0xb4] };
            let packet = Packet::new(scene.node(0).ip(), client.ip(), header);
            let mut quote = quoted(to).build()[14..].to_vec();
            quote.truncate(len);
            outer.put_on(packet).data(quote)
        };
        let original = error(endpoint).build();
        let mut bytes = if summed { Bytes::summed_by_device(original) } else { Bytes::new(original) };
        prop_assert_eq!(host::run(&cpu, Point::PodEgress, &mut bytes), Verdict::Pass);
        prop_assert!(world.counters().reasons.contains_key(&Reason::ErrorTranslated));
        prop_assert!(bytes.device_sum_holds());
        prop_assert_eq!(parsed(&bytes)?, error(web));
    }

    /// A refusal is a valid packet, addressed to whoever is refused, and an ICMP error quotes what was sent.
    #[test]
    fn b67_b68_refusals_are_valid(scene in scene(), dress in dress(), arrival in arrival(), tcp_flags in any::<u8>()) {
        let world = world(&scene);
        let packet = scene.packet(scene.client(), scene.vip(20, 80), tcp_flags & !flags::RST);
        let packet = arrival.packet(&scene, dress.put_on(packet));
        let mut bytes = arrival.bytes(&packet);
        let verdict = host::run(&world.on_cpu(0), Point::PodIngress, &mut bytes);
        if verdict == Verdict::Drop {
            // The headers are too long to be quoted.
            prop_assert_eq!(only_reason(&world), Reason::RejectFailed);
            prop_assert!(packet.transport_offset() > 14 + 160 - 20);
            return Ok(());
        }
        prop_assert_eq!((verdict, only_reason(&world)), (Verdict::Redirect, Reason::NoEndpoints));
        let answer = parsed(&bytes)?;
        prop_assert_eq!((answer.src, answer.dst), (packet.dst, packet.src));
        prop_assert_eq!(answer.macs, packet.macs.swapped());
        match answer.transport {
            Transport::Icmp { .. } => {
                // Also if the hardware completes what is quoted.
                let completed = wire::parse(&bytes.completed()).map(|answer| answer.checksum);
                prop_assert_eq!(completed, Ok(Checksum::Complete));
                prop_assert!(packet.build()[14..].starts_with(&answer.data));
            }
            _ => prop_assert_eq!(answer, scene.reset(&packet)),
        }
    }

    /// No bytes make the datapath panic, and what it does not translate it does not touch.
    #[test]
    fn random_bytes_pass_untouched(data in prop::collection::vec(any::<u8>(), 0..200), v6 in any::<bool>(), point in 0..4_u8) {
        let mut data = data;
        if let Some(ether_type) = data.get_mut(12..15) {
            ether_type.copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[0x08, 0x00, 0x45] });
        }
        if let Some(to) = data.get_mut(..6) {
            to.copy_from_slice(&FROM_POD.dst);
        }
        let world = world(&Scene::ALL[0]);
        let point = Point::from_number(point).expect("below 4");
        let mut bytes = Bytes::new(data.clone()).by(routes::at(point));
        let verdict = host::run(&world.on_cpu(0), point, &mut bytes);
        let effect = only_reason(&world).effect();
        prop_assert_eq!((verdict, effect, bytes.data()), (Verdict::Pass, Effect::Pass, &data[..]));
    }

    /// Neither do packets that are nearly right.
    #[test]
    fn damaged_packets_do_no_harm(
        scene in scene(),
        dress in dress(),
        arrival in arrival(),
        service in 10..23_u8,
        tcp_flags in any::<u8>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        fragment in prop::option::of((0..3_u16, any::<bool>())),
    ) {
        let world = world(&scene);
        let packet = scene.packet(scene.client(), scene.vip(service, 80), tcp_flags);
        let mut packet = arrival.packet(&scene, dress.put_on(packet));
        if let Some((offset, more)) = fragment {
            packet = packet.fragment(offset, more);
        }
        let mut data = packet.build();
        for (index, value) in damage {
            let index = index.index(data.len());
            data[index] = value;
        }
        if let Some(cut) = cut {
            data.truncate(cut.index(data.len()));
        }
        let before = wire::parse(&data);
        let mut bytes = Bytes::new(data.clone());
        let verdict = host::run(&world.on_cpu(0), Point::PodIngress, &mut bytes);
        let reason = only_reason(&world);
        match (verdict, reason.effect()) {
            (Verdict::Pass, Effect::Pass) => prop_assert_eq!(bytes.data(), &data[..]),
            (Verdict::Drop, Effect::Drop | Effect::Reject) => {}
            (Verdict::Pass, Effect::Translate) | (Verdict::Redirect, Effect::Reject) => {
                let after = wire::parse(bytes.data());
                if let (Ok(before), Ok(after)) = (&before, &after) && before.checksum == Checksum::Complete {
                    prop_assert_eq!(after.checksum, Checksum::Complete);
                }
                prop_assert!(before.is_err() || after.is_ok(), "{before:?} became {after:?}");
            }
            other => prop_assert!(false, "{other:?} for {reason:?}"),
        }
        let _ = host::run(&world.on_cpu(0), Point::PodEgress, &mut Bytes::new(data));
    }

    /// A kernel that refuses a write or a change of length costs the packet, with a reason, and nothing else.
    #[test]
    fn refused_helpers_drop(scene in scene(), service in prop::sample::select(&[10_u8, 20]), tcp_flags in any::<u8>()) {
        let packet = scene.packet(scene.client(), scene.vip(service, 80), tcp_flags & !flags::RST);
        for bytes in [Bytes::of(&packet).read_only(), Bytes::of(&packet).read_only().fixed_size()] {
            let world = world(&scene);
            let verdict = host::run(&world.on_cpu(0), Point::PodIngress, &mut bytes.clone());
            let expected = if service == 10 { Reason::RewriteFailed } else { Reason::RejectFailed };
            prop_assert_eq!((verdict, only_reason(&world)), (Verdict::Drop, expected));
        }
    }

    /// Whatever flags and numbers a segment of a living connection has: out of the window, or of a connection that its
    /// end thinks closed. Untranslated it would have the client's kernel reset the backend.
    #[test]
    fn b102_stray_segments_never_reach_a_client_untranslated(
        v6 in any::<bool>(),
        past in prop::collection::vec((any::<bool>(), 0_u8..64), 0..6),
        last in 0_u8..64,
        dress in dress(),
    ) {
        let scene = Scene { v6, proto: Proto::Tcp, checksum: Checksum::Complete };
        let world = world(&scene);
        let send = |point, packet: &Packet| {
            let mut bytes = Bytes::of(packet);
            host::run(&world.on_cpu(0), point, &mut bytes);
            bytes
        };
        let opened = parsed(&send(Point::PodIngress, &scene.first(scene.client(), scene.web())))?;
        let (from, to) = (SocketAddr::new(opened.dst, scene.endpoint(1).port()), scene.client());
        for (answer, bits) in past {
            if answer {
                send(Point::PodEgress, &scene.packet(from, to, bits));
            } else {
                // With a SYN alone it would begin another connection, to another backend.
                send(Point::PodIngress, &scene.packet(to, scene.web(), bits | flags::ACK));
            }
        }
        let stray = dress.put_on(scene.packet(from, to, last));
        let seen = parsed(&send(Point::PodEgress, &stray))?;
        let expected = dress.put_on(scene.packet(scene.web(), to, last));
        prop_assert_eq!((seen.src, seen.dst, seen.transport), (expected.src, expected.dst, expected.transport));
    }
}
