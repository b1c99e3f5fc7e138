//! `sluice bench`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum as _};
use lb_bench::{Report, Row};
use serde::{Serialize, Serializer};

use super::generate;
use super::out::{Document, Out};
use crate::bench::{Extent, run};

const EXAMPLES: &str = "\
Examples:
  sluice bench                             every row
  sluice bench prog-ns --flows 1000        with a thousand connections at most
  sluice -j bench > figures.json           the same as JSON, with all samples
  sluice bench --html figures.html         the same with plots besides
  sluice bench generate --help             a packet generator

It runs on the node itself, as root, not in the agent's pod, and takes nothing of the node's: namespaces, maps and cgroups
are its own and go with it. One that is killed leaves two empty cgroups, which the next takes away. Figures are those of a
quiet machine; what else ran meanwhile stands beneath them.";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// What is measured [default: every row]
    #[arg(value_name = "ROW")]
    rows: Vec<Row>,
    /// Rounds; each measures everything once, in another order
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=200))]
    rounds: u32,
    /// Runs of a program in a round
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// The most connections in the tables
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    flows: u32,
    /// The most Services
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    services: u32,
    /// IPv6 in place of IPv4
    #[arg(long)]
    ipv6: bool,
    /// Measure veth-mpps, rr, crr, udp and stream through the rules of this network namespace, too, such as kube-proxy's for
    /// 192.0.2.1:30080 and 10.96.15.1:80. It stays as one that forwards IPv4 and sends no redirects
    #[arg(long, value_name = "NETNS", conflicts_with = "ipv6")]
    beside: Option<String>,
    /// It has so many more Services: 10.96.16.0:80, and the same port of the addresses after it, of ten endpoints each, the
    /// addresses from 241.0.0.1:8080 on
    #[arg(long, value_name = "N", default_value_t = 0, requires = "beside", value_parser = clap::value_parser!(u32).range(..=50_000))]
    beside_services: u32,
    /// Write a report with plots, one HTML document
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Send frames of many flows by an interface, as fast as can be
    #[command(after_help = generate::EXAMPLES)]
    Generate(generate::Args),
    /// Print this help
    Help,
}

struct Told(Report);

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.json().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl Document for Told {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        writer.write_all(self.0.text().as_bytes())
    }
}

impl Args {
    pub(super) fn run(&self, out: &mut Out<'_>) -> anyhow::Result<()> {
        if let Some(Command::Generate(args)) = &self.command {
            return args.run(out);
        }
        let Self { rounds, runs, flows, services, ipv6, beside_services, .. } = *self;
        let beside = self.beside.clone();
        let rows = if self.rows.is_empty() { Row::value_variants() } else { &self.rows };
        let extent = Extent { rounds, runs, flows, services, ipv6, beside, beside_services };
        let (report, failed) = run(rows, &extent)?;
        if report.rows.is_empty() {
            return failed.end();
        }
        // Nothing that fails from here on, or has failed, takes the figures away.
        let html = report.html();
        out.document(&Told(report))?;
        if let Some(file) = &self.html {
            fs::write(file, html).with_context(|| format!("write {}", file.display()))?;
        }
        failed.end()
    }
}
