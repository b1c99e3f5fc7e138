//! Stories: what came before, and what then happens at once.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak, atomic};

use lb_common::{Addr4, FlowKind, Point, Proto};
use lb_ebpf::env::{FlowTable, Tables as _};
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::{Checksum, flags};
use lb_ebpf::testing::pairs::{Faults, embryonic};
use lb_ebpf::testing::schedule::{Schedule, Step};
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Cpu, Sizes, World};
use lb_ebpf::verdict::Verdict;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::{Config, Runner};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const TCP: Scene = Scene { v6: false, proto: Proto::Tcp, checksum: Checksum::Complete };
pub(crate) const UDP: Scene = Scene { proto: Proto::Udp, ..TCP };

/// What one CPU does.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// A packet of this kind from this client port to this Service.
    Send(u8, u16, u8),
    /// A packet of this kind from this client port to the first endpoint itself.
    Direct(u8, u16),
    /// A packet of this kind from the first endpoint to this client port, which the client believes to be talking to
    /// the first Service.
    Reply(u8, u16),
    /// One run of the sweep.
    Sweep,
    /// So many seconds pass.
    Idle(u64),
    /// The LRU table evicts the entries of this kind.
    Evict(FlowKind),
    /// The first endpoint of the third Service stops.
    Stop,
}

/// A story: what came before, and what then happens at once.
pub(crate) struct Story {
    pub(crate) scene: Scene,
    pub(crate) sizes: Sizes,
    /// Pairs that may be embryonic in the main table.
    pub(crate) embryonic: u32,
    pub(crate) before: &'static [Work],
    pub(crate) at_once: &'static [&'static [Work]],
}

/// Source and destination of a translated packet; `None` if it was dropped.
pub(crate) type Seen = Option<(SocketAddr, SocketAddr)>;

/// Two Services share two endpoints; clients of a third, with the same endpoints, keep theirs for ten seconds.
fn services(scene: &Scene) -> [Service; 3] {
    let endpoints = [scene.endpoint(1), scene.endpoint(2)];
    [(0, 0), (1, 0), (2, 10)].map(|(n, timeout)| {
        Service::new(scene.proto, scene.vip(10 + n, 80)).endpoints(&endpoints).affinity(timeout)
    })
}

fn world(story: &Story, schedule: &Schedule) -> World {
    let Story { scene, sizes, embryonic, .. } = story;
    let services = services(scene);
    let config = lb_common::Config { embryonic: *embryonic, ..scene.config() };
    let world = World::new(config, *sizes, schedule);
    world.program(&Tables::of(&services));
    world
}

fn send(cpu: &Cpu<'_>, scene: &Scene, kind: u8, port: u16, to: SocketAddr) -> Seen {
    let mut bytes = Bytes::of(&scene.packet(scene.pod(7, port), to, kind));
    let verdict = host::run(cpu, Point::PodIngress, &mut bytes);
    let translated = wire::parse(bytes.data()).expect("a valid packet");
    (verdict == Verdict::Pass).then(|| (translated.source().zip(translated.destination())).expect("ports"))
}

fn work(world: &World, cpu: u16, scene: &Scene, work: Work) -> Seen {
    let cpu = world.on_cpu(cpu);
    match work {
        Work::Send(kind, port, service) => send(&cpu, scene, kind, port, scene.vip(10 + service, 80)),
        Work::Direct(kind, port) => send(&cpu, scene, kind, port, scene.endpoint(1)),
        Work::Reply(kind, port) => {
            let reply = scene.packet(scene.endpoint(1), scene.pod(7, port), kind);
            let mut bytes = Bytes::of(&reply);
            let _ = host::run(&cpu, Point::PodEgress, &mut bytes);
            let translated = wire::parse(bytes.data()).expect("a valid packet");
            translated.source().zip(translated.destination())
        }
        Work::Idle(seconds) => {
            world.advance(seconds * SECOND);
            None
        }
        Work::Stop => {
            let mut services = services(scene);
            // Twice the other one: a reader may still have the length of before.
            services[2].cluster = vec![scene.endpoint(2); 2];
            services[2].serving = vec![scene.endpoint(2)];
            services[2].retired = vec![scene.endpoint(1)];
            world.program(&Tables::of(&services));
            None
        }
        Work::Evict(kind) => {
            let flows = world.flows4(FlowTable::Lru);
            for (key, _) in flows.iter().filter(|(_, value)| value.kind == kind as u8) {
                cpu.delete_flow(FlowTable::Lru, key);
            }
            None
        }
        Work::Sweep => {
            let _ = cpu.sweep::<Addr4>();
            None
        }
    }
}

/// Plays the story once, under the schedule of the day; `judge` sees what each CPU saw, and the world at rest. The
/// tables then hold whole pairs and nothing else, unless something was evicted, and the count of embryonic pairs is
/// right, if need be after a sweep: one that runs beside packets may be wrong by what it has seen in between.
fn play(story: &Story, judge: impl Fn(&[Vec<Seen>], &World)) {
    let gate = AtomicU64::new(0);
    let schedule = Schedule::new(move |step| match step {
        Step::Access => {
            gate.load(Ordering::SeqCst);
        }
        Step::Wait => shuttle::thread::yield_now(),
    });
    let world = Arc::new(world(story, &schedule));
    for step in story.before {
        work(&world, 3, &story.scene, *step);
    }
    let threads: Vec<_> = (0_u16..)
        .zip(story.at_once)
        .map(|(cpu, steps)| {
            let (world, scene) = (Arc::clone(&world), story.scene);
            shuttle::thread::spawn(move || {
                steps.iter().map(|step| work(&world, cpu, &scene, *step)).collect()
            })
        })
        .collect();
    let seen: Vec<Vec<Seen>> = threads.into_iter().map(|thread| thread.join().expect("a CPU")).collect();
    judge(&seen, &world);
    let faults = Faults::of(&world);
    let among = |wanted: fn(&Work) -> bool| story.at_once.iter().copied().flatten().any(wanted);
    assert!(faults.broken.is_empty(), "{faults:#?}");
    let evicts = |work: &Work| matches!(work, Work::Evict(_));
    let evicted = among(evicts) || story.before.iter().any(evicts);
    assert!(evicted || faults.widows.is_empty(), "{faults:#?}");
    // A reply may change a reverse word at the moment at which it is to be marked for removal.
    let replied = among(|work| matches!(work, Work::Reply(..)));
    assert!(evicted || replied || faults.orphans.is_empty(), "{faults:#?}");
    if !among(|work| matches!(work, Work::Sweep)) {
        assert_eq!(world.embryonic(), embryonic(&world));
    }
    work(&world, 3, &story.scene, Work::Sweep);
    assert_eq!(world.embryonic(), embryonic(&world));
}

/// Plays the first of what happens at once, with the second in the midst of it: before its access number `at`. `then` sees
/// the world at that moment. The world at rest; `None` if there are not so many accesses.
pub(crate) fn interrupted(
    story: &'static Story,
    at: usize,
    then: impl Fn(&World) + Send + Sync + 'static,
) -> Option<Arc<World>> {
    let [first, second] = story.at_once else { panic!("two CPUs") };
    let place: Arc<OnceLock<Weak<World>>> = Arc::default();
    let accesses = Arc::new(atomic::AtomicUsize::new(usize::MAX));
    let (inside, count) = (Arc::clone(&place), Arc::clone(&accesses));
    let schedule = Schedule::new(move |_| {
        // Counted only while the first CPU works.
        let left = count.load(Ordering::SeqCst);
        if left == usize::MAX {
            return;
        }
        count.store(left.wrapping_sub(1), Ordering::SeqCst);
        if left == 0
            && let Some(world) = inside.get().and_then(Weak::upgrade)
        {
            for step in *second {
                work(&world, 1, &story.scene, *step);
            }
            then(&world);
        }
    });
    let world = Arc::new(world(story, &schedule));
    let _ = place.set(Arc::downgrade(&world));
    for step in story.before {
        work(&world, 3, &story.scene, *step);
    }
    accesses.store(at, Ordering::SeqCst);
    for step in *first {
        work(&world, 0, &story.scene, *step);
    }
    (accesses.load(Ordering::SeqCst) == usize::MAX).then_some(world)
}

/// Lets the explorer play the story under many schedules.
pub(crate) fn explore(
    story: &'static Story,
    judge: impl Fn(&[Vec<Seen>], &World) + Copy + Send + Sync + 'static,
) {
    let mut config = Config::new();
    // The default of 32 KiB does not hold a debug build of the datapath.
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(schedules()), config.clone()).run(move || play(story, judge));
    Runner::new(PctScheduler::new(3, schedules()), config).run(move || play(story, judge));
}

/// Schedules that each story is played under, by each of two strategies.
fn schedules() -> usize {
    if std::env::var_os("SLUICE_TEST_LONG").is_some() { 10_000 } else { 200 }
}

pub(crate) const ROOM: Sizes = Sizes { main: 16, lru: 8 };
/// As many embryonic pairs as there is room for.
pub(crate) const ANY: u32 = u32::MAX;
pub(crate) const SYN: u8 = flags::SYN;
pub(crate) const SYN_ACK: u8 = flags::SYN | flags::ACK;
pub(crate) const ACK: u8 = flags::ACK;
pub(crate) const RST: u8 = flags::RST;
pub(crate) const FIN: u8 = flags::FIN | flags::ACK;

/// All that were let through saw the same tuple.
pub(crate) fn agree<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> Option<(SocketAddr, SocketAddr)> {
    let mut tuples = seen.into_iter().flatten();
    let first = *tuples.next()?;
    assert!(tuples.all(|tuple| *tuple == first));
    Some(first)
}
