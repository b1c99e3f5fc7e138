//! `cargo xtask bench`: what Sluice takes, beside kube-proxy and a control in the same run.
//!
//! What takes no more than a node is measured by `sluice bench` itself; what takes a cluster is a module here, with a
//! `run` that gives [`lb_bench::Figure`]s. Nothing passes or fails by its time: a figure that misses what it must reach
//! says so, and the verb succeeds.

mod sync;
mod usage;

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use lb_bench::{Machine, Measured, Report};

use crate::kube::{Binaries, Tool, binaries};
use crate::lab::Lab;
use crate::{build, sh};

/// Flags of the bench.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What is measured [default: every row]
    rows: Vec<Row>,
    /// How many Services there are
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// How many endpoints each of them has
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    endpoints: u32,
    /// Changes of an endpoint that are timed with Sluice, half before and half after kube-proxy, which gets a tenth
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    samples: u32,
    /// Starts of Sluice that are timed, and restarts, before and after kube-proxy, which gets one of each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    starts: u32,
    /// Print one JSON document
    #[arg(short, long)]
    json: bool,
}

/// A row: figures that are measured together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Row {
    /// One that takes a cluster.
    Sync,
    /// One of a node.
    Node(lb_bench::Row),
}

impl ValueEnum for Row {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Node(lb_bench::Row::ProgNs),
            Self::Node(lb_bench::Row::VethMpps),
            Self::Node(lb_bench::Row::Rr),
            Self::Node(lb_bench::Row::Crr),
            Self::Sync,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Node(row) => row.to_possible_value(),
            Self::Sync => Some(PossibleValue::new("sync").help(
                "From the API server to the tables: start, restart, one endpoint, memory, CPU; some minutes",
            )),
        }
    }
}

/// Builds what is measured and measures it. With `SLUICE_BIN` set, that binary is used and nothing is built.
///
/// # Errors
/// An unfit machine, a failed build, a cluster that does not start; a proxy that does not do its work at all.
pub fn run(args: &BenchArgs) -> Result<()> {
    let sluice = build::for_lab("the bench")?;
    let rows: &[Row] = if args.rows.is_empty() { Row::value_variants() } else { &args.rows };
    let facts = Machine::look()?;
    let mut versions = BTreeMap::from([("sluice".to_owned(), said(&sluice, "--version")?)]);
    let mut measured = Vec::new();
    for row in rows {
        match row {
            Row::Node(row) => measured.extend(node(&sluice, *row)?),
            Row::Sync => measured.push(sync(args, &mut versions)?),
        }
    }
    let report = Report { machine: facts.end()?, versions, rows: measured };
    let text = if args.json { format!("{}\n", report.json()?) } else { report.text() };
    stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// A row of a node, as `sluice bench` measures it.
fn node(sluice: &Path, row: lb_bench::Row) -> Result<Vec<Measured>> {
    sh::say(&format!("sluice bench {}", row.name()));
    let answer = sh::read(Command::new(sluice).args(["-j", "bench", row.name()]))?;
    let report: Report = serde_json::from_str(&answer).context("read the answer of `sluice bench`")?;
    Ok(report.rows)
}

/// The row `sync`; adds the versions of what it runs.
fn sync(args: &BenchArgs, versions: &mut BTreeMap<String, String>) -> Result<Measured> {
    let binaries = Binaries::get(&[binaries::CONTROL_PLANE, &[Tool::KubeProxy]].concat())?;
    let lab = Lab::own()?;
    let nft = sh::find("nft").context("find nft")?;
    versions.insert("kube-proxy".to_owned(), said(binaries.path(Tool::KubeProxy)?, "--version")?);
    versions.insert("nft".to_owned(), said(&nft, "--version")?);
    let begun = Instant::now();
    let figures = sync::run(&lab, &binaries, args)?;
    let settings = [("services", args.services), ("endpoints", args.endpoints)];
    Ok(Measured {
        row: "sync".to_owned(),
        settings: settings.map(|(name, value)| (name.to_owned(), u64::from(value))).into(),
        seconds: begun.elapsed().as_secs_f64(),
        figures,
        notes: sync::NOTES.iter().map(|note| (*note).to_owned()).collect(),
    })
}

/// The first line of what a program says of its version.
fn said(program: &Path, ask: &str) -> Result<String> {
    let text = sh::read(Command::new(program).arg(ask))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
