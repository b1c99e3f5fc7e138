//! `cargo xtask bench`: what Sluice takes, beside kube-proxy and a control in the same run.
//!
//! A row is a module with a `run` that gives [`Figure`]s. Nothing passes or fails by its time: a figure that misses
//! what it must reach says so, and the verb succeeds.

mod facts;
mod figure;
mod report;
mod sync;
mod usage;

use std::io::{Write, stdout};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use self::facts::Machine;
use self::report::{Measured, Report};
use crate::kube::{Binaries, Tool, binaries};
use crate::lab::{self, Lab};
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Row {
    /// From the API server to the tables: start, restart, one endpoint, memory, CPU; some minutes
    Sync,
}

/// Builds what is measured and measures it. With `SLUICE_BIN` set, that binary is used and nothing is built.
///
/// # Errors
/// An unfit machine, a failed build, a cluster that does not start; a proxy that does not do its work at all.
pub fn run(args: &BenchArgs) -> Result<()> {
    build::for_lab("the bench")?;
    let binaries = Binaries::get(&[binaries::CONTROL_PLANE, &[Tool::KubeProxy]].concat())?;
    let facts = Machine::look()?;
    let lab = Lab::own()?;
    let versions = [
        ("sluice", said(&lab::binary(), "--version")?),
        ("kube-proxy", said(binaries.path(Tool::KubeProxy)?, "--version")?),
        ("nft", said(&sh::find("nft").context("find nft")?, "--version")?),
    ];
    let rows: &[Row] = if args.rows.is_empty() { Row::value_variants() } else { &args.rows };
    let mut measured = Vec::new();
    for row in rows {
        let begun = Instant::now();
        let (name, figures, notes) = match row {
            Row::Sync => ("sync", sync::run(&lab, &binaries, args)?, sync::NOTES),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let (services, endpoints) = (args.services, args.endpoints);
        measured.push(Measured { row: name, services, endpoints, seconds, figures, notes });
    }
    let report = Report { machine: facts.end()?, versions: versions.into(), rows: measured };
    let text = if args.json { report.json()? } else { report.text() };
    stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// The first line of what a program says of its version.
fn said(program: &std::path::Path, ask: &str) -> Result<String> {
    let text = sh::read(std::process::Command::new(program).arg(ask))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
