//! The pair protocol under schedules that an explorer chooses: it may put another CPU between any two accesses to
//! shared memory, in the midst of a value too.

use std::net::SocketAddr;
use std::sync::Arc;

use lb_common::{Addr4, Point, Proto};
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::{Checksum, Packet, flags};
use lb_ebpf::testing::pairs::Faults;
use lb_ebpf::testing::schedule::{Schedule, Step};
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Sizes, World};
use lb_ebpf::verdict::Verdict;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::{Config, Runner};

const SECOND: u64 = 1_000_000_000;
const TCP: Scene = Scene { v6: false, proto: Proto::Tcp, checksum: Checksum::Complete };
const UDP: Scene = Scene { proto: Proto::Udp, ..TCP };

/// What one CPU does.
#[derive(Clone, Copy)]
enum Work {
    /// A packet of this kind from this client port to this Service.
    Send(u8, u16, u8),
    /// A packet of this kind from the first endpoint to this client port, which the client believes to be talking to
    /// the first Service.
    Reply(u8, u16),
    /// One run of the sweep.
    Sweep,
    /// So many seconds pass.
    Idle(u64),
    /// The first endpoint of the third Service stops.
    Stop,
}

/// A story: what came before, and what then happens at once.
struct Story {
    scene: Scene,
    sizes: Sizes,
    before: &'static [Work],
    at_once: &'static [&'static [Work]],
}

/// Source and destination of a translated packet; `None` if it was dropped.
type Seen = Option<(SocketAddr, SocketAddr)>;

/// Two Services share two endpoints; clients of a third, with the same endpoints, keep theirs for ten seconds.
fn services(scene: &Scene) -> [Service; 3] {
    let endpoints = [scene.endpoint(1), scene.endpoint(2)];
    [(0, 0), (1, 0), (2, 10)].map(|(n, timeout)| {
        Service::new(scene.proto, scene.vip(10 + n, 80)).endpoints(&endpoints).affinity(timeout)
    })
}

fn world(scene: &Scene, sizes: Sizes, schedule: &Schedule) -> World {
    let services = services(scene);
    let world = World::new(scene.config(), sizes, schedule);
    world.program(&Tables::of(&services));
    world
}

fn packet(scene: &Scene, kind: u8, port: u16, service: u8) -> Packet {
    scene.packet(scene.pod(7, port), scene.vip(10 + service, 80), kind)
}

fn work(world: &World, cpu: u16, scene: &Scene, work: Work) -> Seen {
    let cpu = world.on_cpu(cpu);
    match work {
        Work::Send(kind, port, service) => {
            let mut bytes = Bytes::of(&packet(scene, kind, port, service));
            let verdict = host::run(&cpu, Point::PodIngress, &mut bytes);
            let translated = wire::parse(bytes.data()).expect("a valid packet");
            (verdict == Verdict::Pass)
                .then(|| (translated.source().zip(translated.destination())).expect("ports"))
        }
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
        Work::Sweep => {
            let _ = cpu.sweep::<Addr4>();
            None
        }
    }
}

/// Plays the story once, under the schedule of the day; `judge` sees what each CPU saw. Afterwards the tables hold
/// whole pairs and nothing else.
fn play(story: &Story, judge: impl Fn(&[Vec<Seen>])) {
    let gate = AtomicU64::new(0);
    let schedule = Schedule::new(move |step| match step {
        Step::Access => {
            gate.load(Ordering::SeqCst);
        }
        Step::Wait => shuttle::thread::yield_now(),
    });
    let world = Arc::new(world(&story.scene, story.sizes, &schedule));
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
    judge(&seen);
    let faults = Faults::of(&world);
    assert!(faults.none(), "{faults:#?}");
}

fn explore(story: &'static Story, judge: impl Fn(&[Vec<Seen>]) + Copy + Send + Sync + 'static) {
    let mut config = Config::new();
    // The default of 32 KiB does not hold a debug build of the datapath.
    config.stack_size = 1 << 19;
    Runner::new(RandomScheduler::new(schedules()), config.clone()).run(move || play(story, judge));
    Runner::new(PctScheduler::new(3, schedules()), config).run(move || play(story, judge));
}

/// Schedules that each story is played under, by each of two strategies.
fn schedules() -> usize {
    if std::env::var_os("SLUICE_TEST_LONG").is_some() { 10_000 } else { 500 }
}

const ROOM: Sizes = Sizes { main: 16, lru: 8 };
const SYN: u8 = flags::SYN;
const ACK: u8 = flags::ACK;
const RST: u8 = flags::RST;

/// All that were let through saw the same tuple.
fn agree<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> Option<(SocketAddr, SocketAddr)> {
    let mut tuples = seen.into_iter().flatten();
    let first = *tuples.next()?;
    assert!(tuples.all(|tuple| *tuple == first));
    Some(first)
}

#[test]
fn two_cpus_open_one_flow() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        before: &[],
        at_once: &[&[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 1, 0)], &[Work::Sweep]],
    };
    explore(&STORY, |seen| {
        agree([&seen[0][0], &seen[1][0]]).expect("dropped on every CPU");
    });
}

#[test]
fn two_flows_contend_for_one_reverse_entry() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        before: &[],
        at_once: &[
            &[Work::Send(SYN, 1, 0), Work::Send(SYN, 1, 1)],
            &[Work::Send(SYN, 1, 1), Work::Send(SYN, 1, 0)],
        ],
    };
    explore(&STORY, |seen| {
        let first = agree([&seen[0][0], &seen[1][1]]).expect("dropped on every CPU");
        let second = agree([&seen[0][1], &seen[1][0]]).expect("dropped on every CPU");
        assert_ne!(first, second, "two flows share a reverse entry");
    });
}

#[test]
fn an_expired_flow_is_taken_over_beside_the_sweep() {
    const STORY: Story = Story {
        scene: UDP,
        sizes: ROOM,
        before: &[Work::Send(0, 1, 0), Work::Idle(40)],
        at_once: &[&[Work::Send(0, 1, 0)], &[Work::Send(0, 1, 0)], &[Work::Sweep]],
    };
    // A datagram that met the old flow before it went may still go where that one led.
    explore(&STORY, |_| {});
}

#[test]
fn two_cpus_reopen_one_closed_flow() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        before: &[Work::Send(SYN, 1, 0), Work::Send(RST, 1, 0)],
        at_once: &[&[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 1, 0)], &[Work::Sweep]],
    };
    explore(&STORY, |seen| {
        agree([&seen[0][0], &seen[1][0]]);
    });
}

#[test]
fn a_closed_flow_is_reopened_while_another_wants_its_reverse_entry() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        before: &[Work::Send(SYN, 1, 0), Work::Send(RST, 1, 0), Work::Idle(11)],
        at_once: &[&[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 1, 1), Work::Send(SYN, 1, 1)], &[Work::Sweep]],
    };
    explore(&STORY, |_| {});
}

#[test]
fn flows_open_where_the_table_is_nearly_full() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: Sizes { main: 3, lru: 8 },
        before: &[],
        at_once: &[&[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 2, 1)]],
    };
    explore(&STORY, |seen| {
        let tuples = [seen[0][0], seen[1][0]].into_iter().flatten();
        let tuples: std::collections::BTreeSet<_> = tuples.collect();
        assert!(tuples.len() < 2, "{tuples:?}");
    });
}

#[test]
fn a_segment_without_flow_meets_a_syn() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        before: &[],
        at_once: &[&[Work::Send(ACK, 1, 0)], &[Work::Send(SYN, 1, 0)], &[Work::Send(ACK, 1, 1)]],
    };
    explore(&STORY, |_| {});
}

#[test]
fn elements_are_recycled_under_readers() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: Sizes { main: 4, lru: 8 },
        before: &[Work::Send(SYN, 1, 0), Work::Send(RST, 1, 0), Work::Send(SYN, 2, 0), Work::Idle(11)],
        at_once: &[
            &[Work::Sweep, Work::Send(SYN, 3, 0)],
            &[Work::Send(ACK, 2, 0), Work::Send(ACK, 2, 0)],
            &[Work::Send(SYN, 1, 0)],
        ],
    };
    explore(&STORY, |seen| {
        agree(&seen[1]).expect("dropped on every CPU");
    });
}

#[test]
fn a_stream_keeps_its_flow_beside_the_sweep() {
    const STORY: Story = Story {
        scene: UDP,
        sizes: ROOM,
        before: &[
            Work::Send(0, 1, 0),
            Work::Reply(0, 1),
            Work::Idle(100),
            Work::Reply(0, 1),
            Work::Idle(100),
        ],
        at_once: &[&[Work::Sweep], &[Work::Reply(0, 1), Work::Reply(0, 1)], &[Work::Send(0, 1, 0)]],
    };
    explore(&STORY, |seen| {
        let there = (UDP.pod(7, 1), UDP.endpoint(1));
        let back = Some((UDP.vip(10, 80), UDP.pod(7, 1)));
        assert_eq!(seen[1], [back, back]);
        assert!(seen[2][0].is_none_or(|tuple| tuple == there));
    });
}

/// The endpoint, where the packet was let through.
fn endpoint(seen: &Seen) -> Option<SocketAddr> {
    seen.map(|(_, to)| to)
}

#[test]
fn b62_two_cpus_open_the_first_connections_of_one_client() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        before: &[],
        at_once: &[
            &[Work::Send(SYN, 1, 2), Work::Send(SYN, 4, 2)],
            &[Work::Send(SYN, 2, 2)],
            &[Work::Send(SYN, 3, 2)],
        ],
    };
    explore(&STORY, |seen| {
        let first = endpoint(&seen[0][0]);
        assert!(first.is_some() && seen.iter().flatten().all(|seen| endpoint(seen) == first), "{seen:?}");
    });
}

#[test]
fn b64_two_cpus_renew_what_has_timed_out() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        before: &[Work::Send(SYN, 9, 2), Work::Idle(11)],
        at_once: &[
            &[Work::Send(SYN, 1, 2), Work::Send(SYN, 4, 2)],
            &[Work::Send(SYN, 2, 2)],
            &[Work::Send(SYN, 3, 2)],
        ],
    };
    explore(&STORY, |seen| {
        let first = endpoint(&seen[0][0]);
        assert!(first.is_some() && seen.iter().flatten().all(|seen| endpoint(seen) == first), "{seen:?}");
    });
}

#[test]
fn b65_a_backend_stops_while_its_client_connects() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        before: &[Work::Send(SYN, 9, 2)],
        at_once: &[&[Work::Stop, Work::Send(SYN, 1, 2)], &[Work::Send(SYN, 2, 2), Work::Send(SYN, 3, 2)]],
    };
    explore(&STORY, |seen| {
        assert_eq!(endpoint(&seen[0][1]), Some(TCP.endpoint(2)));
        // Once on the other one, never back.
        let [first, second] = [&seen[1][0], &seen[1][1]].map(endpoint);
        assert!(first == Some(TCP.endpoint(1)) || first == second, "{seen:?}");
    });
}
