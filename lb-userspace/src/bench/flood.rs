//! The row `flood`: packets of established connections while SYNs come in as fast as a processor makes them.
//!
//! Connections of pods are established before. Their packets are made and carried by one processor, the flood by another,
//! where there are two. Who is translated is told by the counters of reasons, so nothing is lost unseen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_bench::{Choice, Figure, Goal, Progress, Reading, Rounds, Unit};
use lb_common::generator::Generator;
use lb_common::{Point, Proto, Reason, UPLINK_XDP};

use super::datapath::Bench;
use super::established::{establish, of_pods};
use super::frame::{Flows, Frames, Segment};
use super::node::{self, Interfaces, Plan};
use super::{Extent, Side, pin_to, settled, space};
use crate::bpf::attach::Class;
use crate::bpf::driver::{Attached, Driver, Kind, TargetNumber};
use crate::bpf::size::Sizes;

/// What has to be known to read the figures.
const NOTES: &[&str] = &[
    "Packets of established connections from a pod, through tc and the host's stack, by one processor; SYNs of new connections",
    "each, from outside, through XDP, by another. Lost is what was not translated as a packet of its connection; its control is",
    "what is lost while XDP drops the flood at once, and that of the ratio the time between floods measured twice. The ceiling is",
    "the flood that is dropped: what the other processor's work alone costs this one. Nobody sweeps: from the first round on half",
    "of the flow table is full of what the flood began, and the rest of it in the table that evicts.",
];

/// Frames of a round for each run that is asked for.
const FRAMES: u32 = 25;
/// Rounds at most, and connections, and Services.
const ROUNDS: u32 = 12;
/// See there.
const FLOWS: u32 = 10_000;
/// See there.
const SERVICES: u32 = 10_000;
/// SYNs of one call of the kernel.
const BURST: u32 = 20_000;
/// How long the flood may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// What comes in meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beside {
    /// Nothing.
    Calm,
    /// The flood, dropped by a program that does nothing else.
    Dropped,
    /// The flood.
    Flood,
}

/// Each is measured once in a round; calm twice.
const VARIANTS: [Beside; 4] = [Beside::Calm, Beside::Calm, Beside::Dropped, Beside::Flood];

/// Packets that were sent, and how many of them nobody translated.
#[derive(Default)]
struct Lost {
    sent: u64,
    lost: u64,
}

impl Lost {
    fn percent(&self) -> Option<Reading> {
        Reading::of(Choice::Median, &[100.0 * self.lost as f64 / self.sent.max(1) as f64])
    }
}

/// The wires, and what is on them.
struct Stage {
    /// It makes the packets of the connections.
    driver: Driver,
    packets: Generator,
    /// It makes the flood.
    flooder: Driver,
    flood: Generator,
    bench: Bench,
    interfaces: Interfaces,
    frames: u32,
    /// Under floods, and while those are dropped.
    lost: [Lost; 2],
    /// New connections a second that the floods were, by round.
    begun: Vec<f64>,
    _gate: Attached,
}

/// Measures all of it.
///
/// # Errors
/// What the machine lacks; a flood that does not arrive.
pub(super) fn run(
    extent: &Extent,
    progress: impl FnOnce(u64) -> Progress + Send,
) -> Result<(Vec<Figure>, &'static [&'static str])> {
    let figures = space()?.run(|| {
        let rounds = extent.rounds.min(ROUNDS);
        let (services, flows) = (extent.services.min(SERVICES), extent.flows.min(FLOWS));
        let progress = progress(u64::from(rounds) * (1 + VARIANTS.len() as u64));
        progress.say("filling the tables");
        let plan = Plan::of(extent.ipv6);
        let interfaces = node::lay(&plan)?;
        let sizes = Sizes {
            flows: None,
            services: Some(services.saturating_add(64)),
            backends: Some(services.saturating_mul(2).saturating_add(64)),
        };
        let mut bench = Bench::load(plan, Proto::Tcp, &interfaces.known(), &sizes)?;
        bench.serve(services)?;
        let mut driver = Driver::load()?;
        let gate = driver.attach(Kind::Xdp, "empty_xdp", interfaces.pod)?;
        let targets = [Point::PodIngress, Point::PodEgress].map(|point| {
            let program = bench.datapath().program(point.program())?;
            Ok::<_, anyhow::Error>(driver.add(Kind::Tc, program)?)
        });
        let [ingress, egress] = targets;
        let targets = [ingress?, egress?];
        establish(&mut driver, targets, interfaces, &plan, services, 0..flows)?;
        bench.datapath().attach_interface(Class::Pods, interfaces.pod, "pod")?;
        bench.datapath().attach_interface(Class::Outward, interfaces.uplink, "uplink")?;
        let packets = of_pods(&plan, interfaces.pod_mac, services, Segment::Ack);
        let syns = Frames { client: plan.outside, ..of_pods(&plan, interfaces.mac, services, Segment::Syn) };
        let mut stage = Stage {
            packets: packets.generator(Flows::in_turn(0, flows), interfaces.pod_far)?,
            flood: syns.generator(Flows::in_turn(0, u32::MAX), interfaces.far)?,
            flooder: Driver::load()?,
            driver,
            bench,
            interfaces,
            frames: extent.runs.saturating_mul(FRAMES),
            lost: Default::default(),
            begun: Vec::new(),
            _gate: gate,
        };
        pin_to(Side::Last)?;
        let measure = |stage: &mut Stage, beside: Beside| {
            progress.say(&format!("{beside:?}"));
            let rate = stage.rate(beside).with_context(|| format!("{beside:?}"))?;
            progress.step();
            Ok::<_, anyhow::Error>(rate)
        };
        let before = Rounds::take(1, rounds as usize, |_| measure(&mut stage, Beside::Calm))?;
        let during = Rounds::take(VARIANTS.len(), rounds as usize, |variant| {
            measure(&mut stage, *VARIANTS.get(variant).context("no such variant")?)
        })?;
        let gone = stage.gone(targets[0], &plan, services, flows)?;
        Ok::<_, anyhow::Error>(figures(&before, &during, &stage, gone))
    })?;
    Ok((figures, NOTES))
}

fn figures(before: &Rounds, during: &Rounds, stage: &Stage, gone: u64) -> Vec<Figure> {
    let rate =
        |name, title, sluice, ceiling| Figure { sluice, ceiling, ..Figure::new(name, title, Unit::Mpps) };
    let over = |variant, base| during.over(variant, base);
    let [lost, lost_dropped] = &stage.lost;
    vec![
        rate("before", "established, before any flood", before.median(0), None),
        rate("calm", "established, between floods", during.median(0), None),
        rate("flood", "established, under the flood", during.median(3), during.median(2)),
        Figure {
            sluice: over(3, 0),
            control: over(1, 0),
            ceiling: over(2, 0),
            ..Figure::new("flood_over_calm", "established, under the flood over between", Unit::Ratio)
        },
        rate("begun", "connections that the flood began", Reading::of(Choice::Median, &stage.begun), None),
        Figure {
            goal: Some(Goal::at_most(5.0, Some(0.0))),
            sluice: lost.percent(),
            control: lost_dropped.percent(),
            ..Figure::new("lost", "packets of established connections lost", Unit::Percent)
        },
        Figure {
            goal: Some(Goal::at_most(0.0, None)),
            sluice: Reading::of(Choice::Median, &[gone as f64]),
            ..Figure::new("evicted", "established connections gone after it", Unit::Count)
        },
    ]
}

impl Stage {
    /// Millions of packets of the connections that are translated a second, with this beside.
    fn rate(&mut self, beside: Beside) -> Result<f64> {
        let Interfaces { uplink, .. } = self.interfaces;
        let _on = match beside {
            Beside::Dropped => self.flooder.attach(Kind::Xdp, "count_xdp", uplink)?,
            Beside::Calm | Beside::Flood => {
                Driver::attach_program(Kind::Xdp, self.bench.datapath().program(UPLINK_XDP)?, uplink)?
            }
        };
        let (over, begun) = (AtomicBool::new(beside == Beside::Calm), AtomicBool::new(false));
        let Self { driver, packets, flooder, flood, bench, frames, .. } = self;
        let (before, first) = (bench.count(Reason::FlowOpened)?, Instant::now());
        let (translated, took) = thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                pin_to(Side::First)?;
                while !over.load(Ordering::Relaxed) {
                    flooder.send(flood, BURST)?;
                    begun.store(true, Ordering::Relaxed);
                }
                Ok::<_, anyhow::Error>(())
            });
            let measured = (|| {
                while beside != Beside::Calm && !begun.load(Ordering::Relaxed) {
                    ensure!(
                        first.elapsed() < PATIENCE && !flooding.is_finished(),
                        "the flood does not begin"
                    );
                    thread::sleep(Duration::from_millis(1));
                }
                let (known, begun) = (bench.count(Reason::FlowForward)?, Instant::now());
                driver.send(packets, *frames)?;
                settled(begun, *frames, || Ok(bench.count(Reason::FlowForward)? - known))
            })();
            over.store(true, Ordering::Relaxed);
            let flooded = flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            flooded.and(measured)
        })?;
        if beside == Beside::Flood {
            let opened = bench.count(Reason::FlowOpened)? - before;
            ensure!(opened > 0, "no connection was begun");
            self.begun.push(opened as f64 / first.elapsed().as_secs_f64() / 1e6);
        }
        let frames = u64::from(self.frames);
        ensure!(translated <= frames, "{translated} packets were translated of {frames} that were sent");
        let [flood, dropped] = &mut self.lost;
        let lost = match beside {
            Beside::Calm => None,
            Beside::Dropped => Some(dropped),
            Beside::Flood => Some(flood),
        };
        if let Some(lost) = lost {
            lost.sent += frames;
            lost.lost += frames - translated;
        }
        Ok(translated as f64 / took.as_secs_f64() / 1e6)
    }

    /// How many of the connections are not in the tables.
    fn gone(
        &mut self,
        TargetNumber { kind, number }: TargetNumber,
        plan: &Plan,
        services: u32,
        flows: u32,
    ) -> Result<u64> {
        let before = self.bench.count(Reason::FlowForward)?;
        let Interfaces { pod, pod_mac, .. } = self.interfaces;
        let frames = of_pods(plan, pod_mac, services, Segment::Ack);
        self.driver.drive(kind, &mut frames.generator(Flows::in_turn(0, flows), number)?, pod, flows)?;
        let known = self.bench.count(Reason::FlowForward)? - before;
        Ok(u64::from(flows).saturating_sub(known))
    }
}
