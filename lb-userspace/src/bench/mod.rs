//! `sluice bench`: figures of this machine, beside controls.
//!
//! Nothing of the node's is touched: what is measured has a network namespace, a BPF file system and cgroups of its own.
//! All go with the process that made them, but for the cgroups of one that is killed: the next one takes those away.

mod connect;
mod conversation;
mod datapath;
mod established;
mod flood;
mod frame;
mod generate;
mod group;
mod guest;
mod mem;
mod node;
mod prog_ns;
mod veth_mpps;

use std::collections::BTreeMap;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_bench::{Facts, Failed, Machine, Measured, Progress, Report, Row};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::bpf::probe;
use crate::bpf::space::Space;
use crate::net::driver::Drivers;

use conversation::Talk;
use node::Plan;

pub use frame::Segment;
pub use generate::{Load, Sent, generate};

/// How long frames may be under way, and how long none arrives before those that have not are lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// See there.
const STILL: Duration = Duration::from_millis(100);

/// What errors say that come of running it where it cannot.
const WHERE: &str = "rows of `sluice bench` run on the node itself, as root, not in the agent's pod";

/// How much is measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Rounds: each has every variant once.
    pub rounds: u32,
    /// Runs of a program in a round.
    pub runs: u32,
    /// The most connections in the tables.
    pub flows: u32,
    /// The most Services.
    pub services: u32,
    /// IPv6 in place of IPv4.
    pub ipv6: bool,
    /// The network namespace with rules of somebody else, as `ip netns` calls it, in which [`lb_bench::target`] is served:
    /// rows that can go through those, too.
    pub beside: Option<String>,
    /// How many more Services of ten endpoints there are, as [`lb_bench::target::OTHERS`] says.
    pub beside_services: u32,
}

/// Measures `rows`, in this order, but what they take of memory before all else: others leave memory to be taken again.
///
/// What rows lack, or do not do as is measured, is told beside the report of the others.
///
/// # Errors
/// A machine that cannot be looked at, or that lacks what all rows take.
pub fn run(rows: &[Row], extent: &Extent) -> Result<(Report, Failed)> {
    probe::kernel()?;
    let machine = Machine::look()?;
    let version = format!("sluice {}", env!("CARGO_PKG_VERSION"));
    let offloads = offloads()?;
    let mut failed = Failed::default();
    let measured = in_order(rows).into_iter().filter_map(|row| failed.keep(measure(row, extent))).collect();
    let versions = BTreeMap::from([("sluice".to_owned(), version)]);
    Ok((Report { machine: Facts { offloads, ..machine.end()? }, versions, rows: measured }, failed))
}

fn in_order(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| *row != Row::Mem);
    rows
}

/// What a veth pair does for the host, as it is made.
fn offloads() -> Result<Vec<String>> {
    space()?.run(|| {
        let interfaces = node::lay(&Plan::of(false))?;
        let drivers = Drivers::open().context("open a netlink socket")?;
        Ok(drivers.offloads(interfaces.uplink))
    })
}

fn measure(row: Row, extent: &Extent) -> Result<Measured> {
    let begun = Instant::now();
    let progress = |steps| Progress::new(row.name(), steps);
    let (figures, notes) = match row {
        Row::ProgNs => prog_ns::run(extent, progress),
        Row::VethMpps => veth_mpps::run(extent, progress),
        Row::Rr => conversation::run(&[Talk::Kept], extent, progress),
        Row::Crr => conversation::run(&[Talk::Anew], extent, progress),
        Row::Udp => conversation::run(&[Talk::Datagrams], extent, progress),
        Row::Stream => conversation::run(&[Talk::Streams(1), Talk::Streams(4)], extent, progress),
        Row::Flood => flood::run(extent, progress),
        Row::Mem => mem::run(extent, progress),
    }
    .with_context(|| format!("the row {}", row.name()))?;
    let Extent { rounds, runs, ipv6, beside_services, .. } = *extent;
    let mut settings = vec![("rounds", rounds), ("runs", runs), ("ipv6", u32::from(ipv6))];
    if extent.beside.is_some() && row.has_beside() {
        settings.push(("beside_services", beside_services));
    }
    Ok(Measured {
        row: row.name().to_owned(),
        settings: settings.into_iter().map(|(name, value)| (name.to_owned(), u64::from(value))).collect(),
        seconds: begun.elapsed().as_secs_f64(),
        figures,
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
    })
}

/// A network namespace.
fn space() -> Result<Space> {
    Space::new().with_context(|| format!("make a network namespace: {WHERE}"))
}

/// How many have arrived, as `arrived` counts them, of `count` frames that were made from `begun` on, and how long that took:
/// what is on its way when the last one was made is still carried.
fn settled(begun: Instant, count: u32, arrived: impl Fn() -> Result<u64>) -> Result<(u64, Duration)> {
    let (mut so_far, mut took) = (arrived()?, begun.elapsed());
    let end = Instant::now() + PATIENCE;
    while so_far < u64::from(count) && begun.elapsed() < took + STILL && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
        let now = arrived()?;
        if now > so_far {
            (so_far, took) = (now, begun.elapsed());
        }
    }
    Ok((so_far, took))
}

/// Which of the processors that this process may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    /// The first.
    First,
    /// The last: if there are two, another one.
    Last,
}

/// Keeps this thread, and those that it starts, on the last of the processors that it may use.
fn pin() -> Result<()> {
    pin_to(Side::Last)
}

/// The same on either side of what the whole process may use.
fn pin_to(side: Side) -> Result<()> {
    let all = Pid::from_raw(process::id().cast_signed());
    let allowed = sched_getaffinity(all).context("sched_getaffinity")?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let chosen = if side == Side::First { usable.next() } else { usable.next_back() };
    let mut one = CpuSet::new();
    one.set(chosen.unwrap_or_default());
    sched_setaffinity(None, &one).context("sched_setaffinity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_measured_before_others_have_used_it() {
        let rows = [Row::Rr, Row::Flood, Row::Mem, Row::Crr];
        assert_eq!(in_order(&rows), [Row::Mem, Row::Rr, Row::Flood, Row::Crr]);
    }
}
