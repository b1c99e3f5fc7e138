//! `cargo xtask bench`: what Sluice takes, beside kube-proxy and a control in the same run.
//!
//! What takes no more than a node is measured by `sluice bench` itself; what takes a cluster is a module here, with a
//! `run` that gives [`lb_bench::Figure`]s. Nothing passes or fails by its time: a figure that misses what it must reach
//! says so, and the verb succeeds.

mod churn;
mod measure;
mod objects;
mod probe;
mod proxy;
mod rules;
mod scene;
mod steps;
mod sync;
mod usage;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use lb_bench::{Facts, Failed, Figure, Machine, Measured, Report, target};

use self::objects::Size;
use self::rules::Rules;
use crate::kube::{Binaries, Tool, binaries};
use crate::lab::Lab;
use crate::{build, sh};

/// Flags of the bench.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What is measured [default: every row]
    rows: Vec<Row>,
    /// How many Services there are
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=50_000))]
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
    /// How long endpoints are replaced, for each proxy, on a machine that keeps up: so many times, a second apart
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,
    /// Measure `sync` with 1000 x 10 and 5000 x 50 as well; ten minutes more
    #[arg(long)]
    full: bool,
    /// Rounds of the rows of `sluice bench`
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    rounds: u32,
    /// Runs of a program in one of them [default: its own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: Option<u32>,
    /// Print one JSON document
    #[arg(short, long)]
    json: bool,
    /// Measure nothing: tell what this document of an earlier `-j` has
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rows", "full"])]
    from: Option<PathBuf>,
    /// Write a report with plots, one HTML document
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a page of the documentation, such as docs/results.md
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// A row: figures that are measured together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Row {
    /// What the API server says becomes what connections meet.
    Sync,
    /// Endpoints come and go.
    Churn,
    /// One of a node.
    Node(lb_bench::Row),
}

impl Row {
    fn name(self) -> &'static str {
        match self {
            Self::Node(row) => row.name(),
            Self::Sync => "sync",
            Self::Churn => "churn",
        }
    }
}

impl ValueEnum for Row {
    fn value_variants<'a>() -> &'a [Self] {
        static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
            let node = lb_bench::Row::value_variants().iter().copied().map(Row::Node);
            node.chain([Row::Sync, Row::Churn]).collect()
        });
        &ROWS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Node(row) => row.to_possible_value(),
            Self::Churn => {
                Some(PossibleValue::new(self.name()).help(
                    "Requests lost while a fifth of the endpoints is replaced each second; three minutes",
                ))
            }
            Self::Sync => Some(PossibleValue::new(self.name()).help(
                "From the API server to the tables: start, restart, one endpoint, a burst, memory, CPU; some minutes",
            )),
        }
    }
}

/// Builds what is measured and measures it. With `SLUICE_BIN` set, that binary is used and nothing is built.
///
/// # Errors
/// An unfit machine, a failed build. A cluster that does not start, a proxy that does not do its work at all: after what could
/// be measured has been told.
pub fn run(args: &BenchArgs) -> Result<()> {
    let (report, failed) = match &args.from {
        Some(file) => {
            let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let report = serde_json::from_str(&text)
                .with_context(|| format!("{} is no document of `-j`", file.display()))?;
            (report, Failed::default())
        }
        None => measure(args)?,
    };
    if report.rows.is_empty() {
        return failed.end();
    }
    let text = if args.json { format!("{}\n", report.json()?) } else { report.text() };
    stdout().write_all(text.as_bytes()).context("write to standard output")?;
    for (file, text) in [(&args.html, Report::html as fn(&Report) -> String), (&args.page, page)] {
        if let Some(file) = file {
            fs::write(file, text(&report)).with_context(|| format!("write {}", file.display()))?;
        }
    }
    failed.end()
}

/// The report as a page of the documentation.
fn page(report: &Report) -> String {
    report.page(
        "Made by `cargo xtask bench`, which [CONTRIBUTING.md](../CONTRIBUTING.md) explains, on the machine named here; \
         yours has other figures, and the same command. What is missed is shown like what is held. Intervals are those \
         of the median, with 95 % confidence.",
    )
}

fn measure(args: &BenchArgs) -> Result<(Report, Failed)> {
    let sluice = build::for_lab("the bench")?;
    let rows: &[Row] = if args.rows.is_empty() { Row::value_variants() } else { &args.rows };
    let facts = Machine::look()?;
    let versions = BTreeMap::from([("sluice".to_owned(), said(&sluice, "--version")?)]);
    let mut bench = Bench { args, sluice, versions, offloads: Vec::new(), cluster: None, rules: None };
    let (mut measured, mut failed) = (Vec::new(), Failed::default());
    for row in rows {
        let result = bench.measure(*row, &mut measured).with_context(|| format!("the row {}", row.name()));
        if let Err(error) = &result {
            sh::say(&format!("{error:#}"));
        }
        failed.keep(result);
    }
    let machine = Facts { offloads: bench.offloads, ..facts.end()? };
    Ok((Report { machine, versions: bench.versions, rows: measured }, failed))
}

/// What rows are measured with: made once, when the first of them needs it.
struct Bench<'a> {
    args: &'a BenchArgs,
    sluice: PathBuf,
    versions: BTreeMap<String, String>,
    /// Of the wires that rows of a node have.
    offloads: Vec<String>,
    cluster: Option<(Arc<Lab>, Binaries)>,
    rules: Option<Rules>,
}

impl Bench<'_> {
    /// Adds what it measures to `rows`.
    fn measure(&mut self, row: Row, rows: &mut Vec<Measured>) -> Result<()> {
        match row {
            Row::Node(row) => rows.extend(self.node(row)?),
            Row::Sync => {
                for size in self.sizes() {
                    rows.push(self.sync(size)?);
                }
            }
            Row::Churn => rows.push(self.churn()?),
        }
        Ok(())
    }

    /// A row of a node, as `sluice bench` measures it.
    fn node(&mut self, row: lb_bench::Row) -> Result<Vec<Measured>> {
        let mut bench = Command::new(&self.sluice);
        bench.args(["-j", "bench", row.name()]);
        bench.args(["--rounds", &self.args.rounds.to_string()]);
        if let Some(runs) = self.args.runs {
            bench.args(["--runs", &runs.to_string()]);
        }
        let (mut settings, mut notes) = (Vec::new(), Vec::new());
        if row.has_beside() {
            bench.args(["--beside", self.rules()?.netns()]);
            // Of others than these nobody is called, and nothing judged.
            let alike = if self.args.endpoints == target::OTHERS_ENDPOINTS { self.args.services } else { 0 };
            bench.args(["--beside-services", &alike.to_string()]);
            settings = self::settings(self.size()).to_vec();
            notes = rules::NOTES.iter().map(|note| (*note).to_owned()).collect();
        }
        sh::say(&format!("sluice bench {}", row.name()));
        // Its progress is for whoever waits.
        let answer = sh::read(bench.stderr(Stdio::inherit()))?;
        let mut report: Report =
            serde_json::from_str(&answer).context("read the answer of `sluice bench`")?;
        self.offloads = report.machine.offloads;
        for measured in &mut report.rows {
            let beside =
                settings.iter().map(|(name, value)| (format!("kube_proxy_{name}"), u64::from(*value)));
            measured.settings.extend(beside);
            measured.notes.extend(notes.iter().cloned());
        }
        Ok(report.rows)
    }

    /// The row `sync`, of one size.
    fn sync(&mut self, size: Size) -> Result<Measured> {
        let args = self.args;
        let (lab, binaries) = self.cluster()?;
        let begun = Instant::now();
        let figures = sync::run(&lab, &binaries, args, size)?;
        Ok(measured(Row::Sync, &settings(size), begun, figures, sync::NOTES))
    }

    /// The row `churn`.
    fn churn(&mut self) -> Result<Measured> {
        let args = self.args;
        let (lab, binaries) = self.cluster()?;
        let begun = Instant::now();
        let size = churn::size(args);
        let figures = churn::run(&lab, &binaries, size, args.seconds)?;
        let [services, endpoints] = settings(size);
        let settings = [("turns", args.seconds), services, endpoints];
        Ok(measured(Row::Churn, &settings, begun, figures, churn::NOTES))
    }

    /// How many Services and endpoints clusters have.
    fn size(&self) -> Size {
        Size { services: self.args.services, endpoints: self.args.endpoints }
    }

    /// The sizes of the row `sync`.
    fn sizes(&self) -> Vec<Size> {
        let more = [Size { services: 1_000, endpoints: 10 }, sync::LARGE];
        [self.size()].into_iter().chain(more.into_iter().filter(|_| self.args.full)).collect()
    }

    /// The rules of kube-proxy for as many.
    fn rules(&mut self) -> Result<&Rules> {
        if self.rules.is_none() {
            let (lab, binaries) = self.cluster()?;
            self.rules = Some(Rules::write(&lab, &binaries, self.size())?);
        }
        self.rules.as_ref().context("rules that are there")
    }

    /// What clusters are made of; adds the versions of what they run.
    fn cluster(&mut self) -> Result<(Arc<Lab>, Binaries)> {
        if self.cluster.is_none() {
            let binaries = Binaries::get(&[binaries::CONTROL_PLANE, &[Tool::KubeProxy]].concat())?;
            let nft = sh::find("nft").context("find nft")?;
            let told = [("kube-proxy", said(binaries.path(Tool::KubeProxy)?, "--version")?)];
            let told = told.into_iter().chain([("nft", said(&nft, "--version")?)]);
            self.versions.extend(told.map(|(name, version)| (name.to_owned(), version)));
            self.cluster = Some((Lab::own()?, binaries));
        }
        let (lab, binaries) = self.cluster.as_ref().context("a cluster that is there")?;
        Ok((Arc::clone(lab), binaries.clone()))
    }
}

fn settings(size: Size) -> [(&'static str, u32); 2] {
    [("services", size.services), ("endpoints", size.endpoints)]
}

/// A row that has begun then and has ended now.
fn measured(
    row: Row,
    settings: &[(&str, u32)],
    begun: Instant,
    figures: Vec<Figure>,
    notes: &[&str],
) -> Measured {
    Measured {
        row: row.name().to_owned(),
        settings: settings.iter().map(|(name, value)| ((*name).to_owned(), u64::from(*value))).collect(),
        seconds: begun.elapsed().as_secs_f64(),
        figures,
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
    }
}

/// The first line of what a program says of its version.
fn said(program: &Path, ask: &str) -> Result<String> {
    let text = sh::read(Command::new(program).arg(ask))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
