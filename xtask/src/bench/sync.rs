//! The row `sync`: how long what the API server says takes to become what connections meet, and what that costs.
//!
//! Both proxies read the same objects of one API server, each on a machine of its own with its own pods behind the same
//! addresses, one at a time. Sluice is measured before and after kube-proxy: what drifts shows between the two. Controls
//! are a list and a watch by somebody who does nothing with them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_bench::{Choice, Figure, Goal, Reading, Unit};

use super::BenchArgs;
use super::measure::{self, Changes, REST, Restart, Start};
use super::objects::{self, MOST_ENDPOINTS, Size};
use super::probe::Probe;
use super::proxy::{Proxy, Running};
use super::scene::Scene;
use super::steps::Steps;
use crate::kube::Binaries;
use crate::lab::Lab;

/// What has to be known to read the figures.
pub(super) const NOTES: &[&str] = &[
    "What must be reached is said of Sluice, for 10000 x 10, and of a start for 5000 x 50. Controls: a list of all objects, and a watch, by a client that",
    "does nothing with them. A change is timed from the answer to its PATCH, which may come after the change itself, and many",
    "at once (of at most 100 Services) from the answer to the last.",
    "Lost are requests and datagrams without an answer, and TCP segments that had to be sent again. Memory is the",
    "process's own; CPU has the programs that it runs, too: kube-proxy's nft.",
];

/// Where a start is to take no longer than so long, too.
pub(super) const LARGE: Size = Size { services: 5_000, endpoints: 50 };

/// How long a proxy without Services is watched.
const IDLE: Duration = Duration::from_secs(30);

/// All that was read of a proxy.
#[derive(Clone, Default, Debug)]
struct Taken {
    /// Mebibytes without Services.
    idle: Vec<f64>,
    starts: Vec<Start>,
    restarts: Vec<Restart>,
    changes: Changes,
    /// Milliseconds from the last of many changes to the last effect.
    bursts: Vec<f64>,
    /// Mebibytes at rest, and at most, after starts and changes.
    memory: Vec<[f64; 2]>,
}

/// Measures all of it.
///
/// # Errors
/// When the cluster does not start, or a proxy does not do its work at all.
pub(super) fn run(lab: &Arc<Lab>, binaries: &Binaries, args: &BenchArgs, size: Size) -> Result<Vec<Figure>> {
    let endpoints = size.services * size.endpoints;
    ensure!(endpoints <= MOST_ENDPOINTS, "{endpoints} endpoints are more than {MOST_ENDPOINTS}: make fewer");
    let steps = Steps::new();
    steps.say("starting etcd and an API server");
    let scene = Scene::new(lab, binaries, &format!("sync-{}", size.services))?;
    let (mut sluice, mut kube_proxy) = (Taken::default(), Taken::default());
    for (proxy, taken) in [(Proxy::Sluice, &mut sluice), (Proxy::KubeProxy, &mut kube_proxy)] {
        steps.say(&format!("{}: starting without Services", proxy.name()));
        let running = proxy.start(&scene)?;
        running.ready()?;
        running.usage.settle(IDLE)?;
        taken.idle.push(running.usage.memory()?[0]);
        running.stop()?;
    }
    steps.say(&format!("creating {} Services x {} endpoints", size.services, size.endpoints));
    objects::create(scene.plane(), size, &steps)?;
    let mut probe = Probe::watch(scene.plane(), size)?;
    let mut lists = Vec::new();
    let [more, fewer] = [(args.starts, args.samples / 2), (1, (args.samples / 10).max(1))];
    for (proxy, (starts, samples)) in
        [(Proxy::Sluice, more), (Proxy::KubeProxy, fewer), (Proxy::Sluice, more)]
    {
        let taken = if proxy == Proxy::Sluice { &mut sluice } else { &mut kube_proxy };
        for _ in 0..starts {
            let [seconds, mebibytes] = objects::list(scene.plane())?;
            steps.say(&format!("a list of all objects, {mebibytes:.1} MiB, took {seconds:.2} s"));
            lists.push(seconds);
        }
        pass(&scene, proxy, &mut probe, (starts, samples), taken, &steps)?;
    }
    Ok(figures(size, &sluice, &kube_proxy, &lists))
}

/// Measures a proxy once: starts, changes, restarts.
fn pass(
    scene: &Scene,
    proxy: Proxy,
    probe: &mut Probe<'_>,
    (starts, samples): (u32, u32),
    taken: &mut Taken,
    steps: &Steps,
) -> Result<()> {
    let (name, size) = (proxy.name(), probe.size());
    let mut running: Option<Running<'_>> = None;
    for number in 1..=starts {
        if let Some(running) = running.take() {
            running.stop()?;
        }
        steps.say(&format!("{name}: start {number} of {starts}"));
        let (start, started) = measure::start(scene, proxy, size)?;
        taken.starts.push(start);
        running = Some(started);
    }
    let Some(mut running) = running else { return Ok(()) };
    steps.say(&format!("{name}: asking every Service"));
    measure::ask_all(scene, &running, size)?;
    steps.say(&format!("{name}: {samples} changes of one endpoint"));
    let Changes { connected, watched } = measure::changes(scene, &running, probe, samples, steps)?;
    taken.changes.connected.extend(connected);
    taken.changes.watched.extend(watched);
    for number in 1..=starts {
        steps.say(&format!("{name}: burst {number} of {starts}"));
        taken.bursts.push(measure::burst(scene, &running, size, number as usize)?);
    }
    objects::burst(scene.plane(), size, None)?;
    running.usage.settle(REST)?;
    taken.memory.push(running.usage.memory()?);
    for number in 1..=starts {
        steps.say(&format!("{name}: restart {number} of {starts} under traffic"));
        let restart;
        (restart, running) = measure::restart(scene, running, probe, steps)?;
        taken.restarts.push(restart);
    }
    running.stop()
}

/// The lines of the table.
fn figures(size: Size, sluice: &Taken, kube_proxy: &Taken, lists: &[f64]) -> Vec<Figure> {
    use Choice::{Median, P99, Worst};
    type Samples = fn(&Taken) -> Vec<f64>;
    // What is to be reached is said for this size.
    let told = size == Size { services: 10_000, endpoints: 10 };
    let goal = |must, aim| told.then_some(Goal::at_most(must, aim));
    let figure = |name, title: &str, unit, goal, [own, other]: [Choice; 2], samples: Samples| Figure {
        goal,
        sluice: Reading::of(own, &samples(sluice)),
        kube_proxy: Reading::of(other, &samples(kube_proxy)),
        ..Figure::new(name, title, unit)
    };
    let connected: Samples = |taken| taken.changes.connected.clone();
    let watched = [sluice, kube_proxy].map(|taken| taken.changes.watched.as_slice()).concat();
    let with = |figure, control| Figure { control, ..figure };
    let lost = "  packets lost";
    let changed = "one endpoint changed -> connection to the new pod";
    vec![
        with(
            figure(
                "start",
                "start -> first answer through the last Service",
                Unit::Seconds,
                if size == LARGE { Some(Goal::at_most(4.0, Some(2.0))) } else { goal(3.0, Some(1.5)) },
                [Median, Median],
                |taken| taken.starts.iter().map(|start| start.answered).collect(),
            ),
            Reading::of(Median, lists),
        ),
        figure(
            "restart",
            "restart with adopted tables -> ready",
            Unit::Seconds,
            goal(3.0, None),
            [Median, Median],
            |taken| taken.restarts.iter().map(|restart| restart.ready).collect(),
        ),
        figure("restart_lost", lost, Unit::Count, goal(0.0, None), [Worst, Worst], |taken| {
            taken.restarts.iter().map(|restart| restart.lost).collect()
        }),
        with(
            figure(
                "change_p50",
                &format!("{changed}, p50"),
                Unit::Millis,
                goal(10.0, Some(5.0)),
                [Median, Median],
                connected,
            ),
            Reading::of(Median, &watched),
        ),
        with(
            figure(
                "change_p99",
                &format!("{changed}, p99"),
                Unit::Millis,
                goal(20.0, Some(10.0)),
                [P99, Worst],
                connected,
            ),
            Reading::of(P99, &watched),
        ),
        figure(
            "burst",
            "pods of 100 Services replaced at once -> connections to all new ones",
            Unit::Millis,
            None,
            [Worst, Worst],
            |taken| taken.bursts.clone(),
        ),
        figure(
            "memory_idle",
            "resident memory, idle",
            Unit::Mebibytes,
            goal(60.0, Some(25.0)),
            [Median, Median],
            |taken| taken.idle.clone(),
        ),
        figure(
            "memory",
            "resident memory, steady",
            Unit::Mebibytes,
            goal(150.0, Some(60.0)),
            [Worst, Worst],
            |taken| taken.memory.iter().map(|[steady, _]| *steady).collect(),
        ),
        figure(
            "memory_peak",
            "resident memory, peak",
            Unit::Mebibytes,
            goal(150.0, Some(60.0)),
            [Worst, Worst],
            |taken| taken.memory.iter().map(|[_, peak]| *peak).collect(),
        ),
        figure("cpu", "CPU to converge", Unit::Seconds, goal(3.0, Some(1.0)), [Median, Median], |taken| {
            taken.starts.iter().map(|start| start.cpu).collect()
        }),
    ]
}
