//! The row `prog-ns`: what a run of a program takes, by path, over an empty program.
//!
//! `BPF_PROG_TEST_RUN` gives the same packet to a program again and again, as the last run has left it. So a driver writes
//! the frame anew and calls the program; the same driver calls an empty one, and what that takes is subtracted.

mod paths;
mod stage;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use lb_bench::{Choice, Figure, Goal, Progress, Reading, Rounds, Unit};
use lb_common::generator::Generator;
use lb_common::{Point, Reason, UPLINK_XDP};

use super::connect::Caller;
use super::datapath::Bench;
use super::node::{Interfaces, Plan};
use super::{Extent, pin, space};
use crate::bpf::driver::{Driver, Kind, TargetNumber};

/// What has to be known to read the figures.
const NOTES: &[&str] = &[
    "Nanoseconds of a run over those of an empty program, driven alike: the least of all rounds less the least, and behind it",
    "the median of the differences by round with its interval. One flow is the same each time, and so always cached; any of",
    "many is not. Of an empty program the control says how far apart two measurements of it are. New flows fill the table,",
    "so there are more than are named. Tables have room for the flows that are named and for these: a new flow among a",
    "million waits for memory at each of its two insertions, one in a small table mostly does not. Each Service has one",
    "endpoint. connect() is measured by the call itself, to where no route leads, over the same call without the hook.",
];

/// Connections and Services that are measured with, as far as they are asked for.
const FLOWS: [u32; 3] = [1, 1_000, 1_000_000];
const SERVICES: [u32; 3] = [1, 10_000, 100_000];
/// New flows of a round, at most.
const NEW: u32 = 2_000;
/// The same of masqueraded ones.
const NEW_MASQUERADED: u32 = 100;
/// Of those, all rounds together: the node has only 29 000 ports towards an endpoint.
const ALL_MASQUERADED: u32 = 20_000;
/// Number of the first flow that nobody has met.
const FRESH: u32 = 0x1000_0000;
/// Numbers of paths: the empty program of tc once more, that of XDP, that of tc for any flow.
const AGAIN: usize = 1;
/// See there.
const XDP_BASE: usize = 2;
/// See there.
const ANY_BASE: usize = 3;

/// What is driven, but for the empty programs.
const PROGRAMS: [(Kind, &str); 4] = [
    (Kind::Tc, Point::PodIngress.program()),
    (Kind::Tc, Point::PodEgress.program()),
    (Kind::Tc, Point::OutwardIngress.program()),
    (Kind::Xdp, UPLINK_XDP),
];

/// Flows and Services in the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    flows: u32,
    services: u32,
}

/// The sizes up to `extent`: of either as the other is at rest.
fn sizes(extent: &Extent) -> Vec<Size> {
    let levels = |all: [u32; 3], most: u32| {
        let mut levels: Vec<u32> = all.into_iter().filter(|level| *level < most).collect();
        levels.push(most);
        levels
    };
    let services = levels(SERVICES, extent.services);
    let rest = services.get(services.len().saturating_sub(2)).or(services.first()).copied().unwrap_or(1);
    let by_services = services.iter().map(|&services| Size { flows: 1, services });
    let by_flows =
        levels(FLOWS, extent.flows).into_iter().skip(1).map(|flows| Size { flows, services: rest });
    by_services.chain(by_flows).collect()
}

/// What is driven.
struct Path {
    name: &'static str,
    title: String,
    generator: Generator,
    interface: u32,
    runs: u32,
    kind: Kind,
    /// What each run must have counted; `None`: nothing.
    reason: Option<Reason>,
    /// Whether it is the empty program.
    empty: bool,
    /// The path that it is compared with.
    base: usize,
    goal: Option<Goal>,
}

/// The programs, and who drives them.
struct Stage {
    driver: Driver,
    bench: Bench,
    callers: [Caller; 2],
    plan: Plan,
    interfaces: Interfaces,
    /// The programs that are driven, by their names.
    targets: BTreeMap<&'static str, TargetNumber>,
    /// The node's port of the flow through the node port.
    masqueraded: u16,
    extent: Extent,
    /// How far the new flows have come.
    fresh: u32,
}

/// Measures all of it.
///
/// # Errors
/// What the machine lacks; a run that did not take the path that it is to take.
pub(super) fn run(
    extent: &Extent,
    progress: impl FnOnce(u64) -> Progress + Send,
) -> Result<(Vec<Figure>, &'static [&'static str])> {
    let sizes = sizes(extent);
    let progress = progress(sizes.len() as u64 * (u64::from(extent.rounds) + 1));
    let mut figures = Vec::new();
    for sizes in sizes.chunk_by(|size, next| size.flows == next.flows) {
        figures.extend(space()?.run(|| in_tables_of(extent, sizes, &progress))?);
    }
    Ok((figures, NOTES))
}

/// Measures `sizes`, of as many flows each, in tables that have room for these: among the buckets of a million a new flow
/// meets nothing that is in a cache.
fn in_tables_of(extent: &Extent, sizes: &[Size], progress: &Progress) -> Result<Vec<Figure>> {
    pin()?;
    let mut stage = Stage::set(extent, sizes)?;
    let mut figures = Vec::new();
    for (number, &size) in sizes.iter().enumerate() {
        progress.say(&format!("filling the tables: {} flows, {} Services", size.flows, size.services));
        stage.bench.serve(size.services)?;
        if number == 0 {
            stage.masquerade()?;
            stage.fill(size)?;
        }
        progress.step();
        progress.say(&format!("{} flows, {} Services", size.flows, size.services));
        figures.extend(stage.measure(size, progress)?);
    }
    Ok(figures)
}

impl Stage {
    /// Measures with what is in the tables.
    fn measure(&mut self, size: Size, progress: &Progress) -> Result<Vec<Figure>> {
        let mut paths = self.paths(size)?;
        let programs = paths.len();
        // The calls: without the hook and with it, first with one socket, then with a new one for each.
        let variants = programs + 4;
        let mut taken = 0;
        let rounds = Rounds::take(variants, self.extent.rounds as usize, |variant| {
            taken += 1;
            if taken % variants == 0 {
                progress.step();
            }
            match paths.get_mut(variant) {
                Some(path) => self.time(path),
                None => self.call(variant - programs, size),
            }
        })?;
        let mut figures = Vec::new();
        for (number, path) in paths.iter().enumerate().filter(|(number, _)| *number != AGAIN) {
            let figure = figure(path.name, &path.title, size);
            figures.push(if path.empty {
                let control = (number == 0).then(|| rounds.beyond(AGAIN, 0)).flatten();
                Figure { ceiling: Reading::of(Choice::Least, rounds.of(number)), control, ..figure }
            } else {
                Figure { goal: path.goal, sluice: rounds.beyond(number, path.base), ..figure }
            });
        }
        self.fresh = self.fresh.saturating_add(NEW * self.extent.rounds);
        let calls = [
            ("connect", "connect()", (size.services == 1).then_some(Goal::at_most(150.0, Some(80.0)))),
            ("connect_first", "connect() of a new socket, and its end", None),
        ];
        for (number, (name, title, goal)) in calls.into_iter().enumerate() {
            let without = programs + 2 * number;
            let sluice = rounds.beyond(without + 1, without);
            let ceiling = Reading::of(Choice::Least, rounds.of(without));
            figures.push(Figure { goal, sluice, ceiling, ..figure(name, title, size) });
        }
        Ok(figures)
    }

    /// Nanoseconds of a run; all runs must have been what is measured.
    fn time(&mut self, path: &mut Path) -> Result<f64> {
        let (name, kind) = (path.name, path.kind);
        let count = |stage: &Self| path.reason.map_or(Ok(0), |reason| stage.bench.count(reason));
        let before = count(self)?;
        let nanoseconds = self.driver.drive(kind, &mut path.generator, path.interface, path.runs)?;
        let counted = count(self)?.saturating_sub(before);
        ensure!(
            path.reason.is_none() || counted == u64::from(path.runs),
            "only {counted} of {} runs were what `{name}` measures",
            path.runs
        );
        Ok(f64::from(nanoseconds))
    }

    /// Nanoseconds of a call: variants 0 and 1 with one socket, 2 and 3 with a new one each; the odd ones with the hook.
    fn call(&mut self, variant: usize, size: Size) -> Result<f64> {
        let count = || self.bench.count(Reason::SockConnected);
        let (hooked, before) = (variant % 2 == 1, count()?);
        let calls = (self.extent.runs / 10).max(1);
        let caller = &self.callers[usize::from(hooked)];
        let nanoseconds = caller.time(calls, &self.plan, size.services, variant >= 2)?;
        let counted = count()? - before;
        let expected = if hooked { u64::from(calls) } else { 0 };
        ensure!(counted == expected, "{counted} calls were translated, not {expected}");
        Ok(nanoseconds)
    }
}

/// A figure of `size` of which nothing has been read.
fn figure(name: &str, title: &str, Size { flows, services }: Size) -> Figure {
    let name = format!("{name}_{flows}_{services}");
    Figure::new(name, format!("{title}: {flows} flows, {services} Services"), Unit::Nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_and_services_grow_one_at_a_time() {
        let of = |flows, services| {
            let extent =
                Extent { rounds: 1, runs: 1, flows, services, ipv6: false, beside: None, beside_services: 0 };
            sizes(&extent).iter().map(|size| (size.flows, size.services)).collect::<Vec<_>>()
        };
        assert_eq!(
            of(1_000_000, 100_000),
            [(1, 1), (1, 10_000), (1, 100_000), (1_000, 10_000), (1_000_000, 10_000)]
        );
        assert_eq!(of(1, 1), [(1, 1)]);
        assert_eq!(of(50, 3), [(1, 1), (1, 3), (50, 1)]);
    }
}
