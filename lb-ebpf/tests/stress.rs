//! The pair protocol under threads: two CPUs, many colliding flows, a sweep that never rests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lb_common::{Addr4, Addr6, Config, Point, Reason};
use lb_ebpf::env::FlowTable;
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::{Checksum, Packet, flags};
use lb_ebpf::testing::pairs::{Faults, embryonic};
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Cpu, Sizes, World};
use lb_ebpf::verdict::Verdict;

const SECOND: u64 = 1_000_000_000;

/// Three Services, all of them with the same three endpoints: every reverse entry is contended.
fn world(scene: &Scene, sizes: Sizes, embryonic: u32) -> World {
    let endpoints = [1, 2, 3].map(|n| scene.endpoint(n));
    let services = [0, 1, 2].map(|n| Service::new(scene.proto, scene.vip(10 + n, 80)).endpoints(&endpoints));
    let config = Config { embryonic, ..scene.config() };
    let world = World::new(config, sizes, &Schedule::default());
    world.program(&Tables::of(&services));
    world
}

fn send(cpu: &Cpu<'_>, packet: &Packet) -> Option<Packet> {
    let mut bytes = Bytes::of(packet);
    let verdict = host::run(cpu, Point::PodIngress, &mut bytes);
    (verdict == Verdict::Pass).then(|| wire::parse(bytes.data()).expect("a valid packet"))
}

fn ports(addr: Option<SocketAddr>) -> SocketAddr {
    addr.expect("TCP and UDP have ports")
}

fn sweep(cpu: &Cpu<'_>) {
    let _ = (cpu.sweep::<Addr4>(), cpu.sweep::<Addr6>());
}

fn assert_whole(world: &World) {
    let faults = Faults::of(world);
    assert!(faults.none(), "{faults:#?}");
}

/// Runs `work` on two CPUs, each with its own order of things, while a third sweeps.
fn beside_a_sweep<R: Send>(world: &World, work: impl Fn(&Cpu<'_>, u16) -> R + Sync) -> Vec<R> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let cpu = world.on_cpu(2);
            while !done.load(Ordering::Relaxed) {
                sweep(&cpu);
            }
        });
        let workers = [0_u16, 1].map(|number| {
            let work = &work;
            scope.spawn(move || work(&world.on_cpu(number), number))
        });
        let results = workers.map(std::thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        sweeper.join().expect("the sweep");
        results.into_iter().map(|result| result.expect("a CPU")).collect()
    })
}

/// Two CPUs send the first packets of the same flows, three Services contending for each client port: whoever makes a
/// pair, both see one and the same, and no two flows share one.
fn both_see_one_pair(scene: &Scene) {
    let world = world(scene, Sizes { main: 4096, lru: 64 }, u32::MAX);
    let flows: Vec<(SocketAddr, SocketAddr)> =
        (0..1200_u16).map(|n| (scene.pod(7, 50_000 + n / 3), scene.vip(10 + (n % 3) as u8, 80))).collect();
    let seen = beside_a_sweep(&world, |cpu, number| {
        let mut seen = HashMap::new();
        for trio in flows.chunks(3) {
            let order = if number == 0 { [0, 1, 2] } else { [2, 1, 0] };
            for (client, vip) in order.map(|index| trio[index]) {
                let packet = scene.first(client, vip);
                let translated = send(cpu, &packet);
                seen.insert((client, vip), translated.map(|packet| (packet.source(), packet.destination())));
            }
        }
        seen
    });
    let reasons = world.counters().reasons;
    let mut used = HashMap::new();
    for flow in &flows {
        let tuples: Vec<_> = seen.iter().filter_map(|seen| seen[flow]).collect();
        assert!(!tuples.is_empty(), "dropped on both CPUs: {flow:?}, {reasons:?}");
        assert!(tuples.iter().all(|tuple| *tuple == tuples[0]), "{flow:?} seen as {tuples:?}");
        assert_eq!(used.insert(tuples[0], *flow), None, "{:?} serves two flows", tuples[0]);
    }
    assert_eq!(reasons[&Reason::FlowOpened], 1200, "{reasons:?}");
    assert_eq!(world.flows4(FlowTable::Main).len() + world.flows6(FlowTable::Main).len(), 2400);
    assert_whole(&world);
}

#[test]
fn both_cpus_see_one_pair() {
    for scene in Scene::ALL {
        both_see_one_pair(&scene);
    }
}

/// How long two CPUs and the sweep are let loose.
fn length() -> Duration {
    if std::env::var_os("SLUICE_TEST_LONG").is_some() {
        Duration::from_secs(20)
    } else {
        Duration::from_millis(500)
    }
}

/// Flows open, close, idle out, are swept and taken over, in tables that are too small for them, for a while.
fn churn(scene: &Scene, sizes: Sizes, embryonic: u32, duration: Duration) -> World {
    let world = world(scene, sizes, embryonic);
    let end = Instant::now() + duration;
    // A CPU that is held up for seconds between the two insertions of a pair would find its reverse entry swept: time
    // passes between packets only.
    let time = RwLock::new(());
    beside_a_sweep(&world, |cpu, number| {
        let mut random = u64::from(number) + 1;
        let mut rounds = 0;
        // However busy the machine is, enough must happen.
        while rounds < 10_000 || Instant::now() < end {
            rounds += 1;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let [a, b, c, d, ..] = random.to_be_bytes();
            let (client, vip) = (scene.pod(7, 50_000 + u16::from(a % 16)), scene.vip(10 + b % 3, 80));
            let kind = match c % 8 {
                0..=3 => flags::SYN,
                4 | 5 => flags::ACK,
                6 => flags::FIN | flags::ACK,
                _ => flags::RST,
            };
            let still = time.read().expect("no CPU has panicked");
            let translated = send(cpu, &scene.packet(client, vip, kind));
            if let (Some(there), 0..=99) = (&translated, d) {
                let back = scene.packet(ports(there.destination()), ports(there.source()), kind);
                let _ = host::run(cpu, Point::PodEgress, &mut Bytes::of(&back));
            }
            drop(still);
            if d >= 250 {
                let _passing = time.write().expect("no CPU has panicked");
                world.advance(20 * SECOND);
            }
        }
    });
    world
}

#[test]
fn churn_leaves_whole_pairs() {
    for scene in Scene::ALL.into_iter().filter(|scene| scene.checksum == Checksum::Complete) {
        let world = churn(&scene, Sizes { main: 64, lru: 0 }, u32::MAX, length());
        let reasons = world.counters().reasons;
        for reason in [Reason::FlowOpened, Reason::FlowReopened, Reason::FlowForward] {
            assert!(reasons.contains_key(&reason), "{reason:?} never happened: {reasons:?}");
        }
        assert_whole(&world);
    }
}

/// Few may be embryonic, the main table is too small for all, the LRU table is not: pairs begin there, move over, wait
/// for room. Then the tables hold whole pairs, and their embryos are as many as are counted.
#[test]
fn pairs_move_beside_their_packets_and_are_counted() {
    for scene in Scene::ALL.into_iter().filter(|scene| scene.checksum == Checksum::Complete) {
        let world = churn(&scene, Sizes { main: 64, lru: 256 }, 4, length());
        let broken = Faults::of(&world).broken;
        assert!(broken.is_empty(), "{broken:#?}");
        // Reverse entries whose state changed just when they were to be marked.
        world.advance(6 * SECOND);
        sweep(&world.on_cpu(2));
        sweep(&world.on_cpu(2));
        assert_whole(&world);
        assert_eq!(world.embryonic(), embryonic(&world));
    }
}

/// Where the LRU table is far too small, halves of pairs are evicted; but nothing is ever crossed or locked for ever, and
/// the sweep removes every half in its time.
#[test]
fn eviction_leaves_nothing_that_the_sweep_does_not_remove() {
    for scene in Scene::ALL.into_iter().filter(|scene| scene.checksum == Checksum::Complete) {
        let world = churn(&scene, Sizes { main: 8, lru: 8 }, u32::MAX, length());
        let faults = Faults::of(&world);
        assert!(faults.broken.is_empty(), "{:#?}", faults.broken);
        world.advance(2 * 86_400 * SECOND);
        sweep(&world.on_cpu(2));
        // A forward entry that goes leaves a reverse entry that the walk may have passed already.
        sweep(&world.on_cpu(2));
        for table in [FlowTable::Main, FlowTable::Lru] {
            assert_eq!((world.flows4(table).len(), world.flows6(table).len()), (0, 0), "{table:?}");
        }
    }
}
