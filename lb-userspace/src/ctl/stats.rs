//! `sluice stats`.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::{Config, Reason, ServiceStats, SweepReport, maps};
use serde::Serialize;

use super::Context;
use super::args::OnlyShow;
use super::crowd::{self, Crowd};
use super::out::{Document, Out, Row};
use super::text;
use super::view::{Traffic, View, proto_text};
use crate::bpf::map::Array;
use crate::counts::add;
use crate::counts::flows::{Fill, Living, now, read_living};
use crate::counts::maps::reasons;

const EXAMPLES: &str = "\
Examples:
  sluice stats           reasons that have occurred, fill of the flow tables, totals
  sluice stats --all     all reasons
  sluice -j stats        the same as JSON";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Reasons that have never occurred as well
    #[arg(short, long, global = true)]
    all: bool,
    #[command(subcommand)]
    command: Option<OnlyShow>,
}

/// Backends that are shown as text, of those with masqueraded connections.
const BUSIEST: usize = 10;

/// How often one reason ended a packet or a socket call.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct ReasonRow {
    reason: &'static str,
    number: u8,
    effect: &'static str,
    count: u64,
    text: &'static str,
}

impl Row for ReasonRow {
    const COLUMNS: &'static [&'static str] = &["REASON", "EFFECT", "COUNT", "MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![self.reason.to_owned(), self.effect.to_owned(), self.count.to_string(), self.text.to_owned()]
    }
}

/// How full a flow table is. A connection takes two entries.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct TableRow {
    table: &'static str,
    entries: u64,
    capacity: u32,
}

impl Row for TableRow {
    const COLUMNS: &'static [&'static str] = &["TABLE", "ENTRIES", "CAPACITY", "FILL"];

    fn cells(&self) -> Vec<String> {
        let percent = (self.entries * 100).checked_div(u64::from(self.capacity));
        vec![
            self.table.to_owned(),
            self.entries.to_string(),
            self.capacity.to_string(),
            text::or_none(percent.map(|percent| format!("{percent}%"))),
        ]
    }
}

/// What the last search for ended flows found.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Sweep {
    age_seconds: u64,
    scanned: u64,
    pairs: u64,
    expired: u64,
    orphans: u64,
    lru_left: u64,
    embryonic: u64,
    moved: u64,
}

/// Source ports in use towards one backend.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct NatRow {
    proto: String,
    backend: IpAddr,
    port: u16,
    in_use: u64,
    ports: u32,
}

impl NatRow {
    /// The busiest first. `ports`: how many there are.
    fn all(living: &Living, ports: u32) -> Vec<Self> {
        let mut rows: Vec<_> =
            living.nat.iter().map(|((proto, at), in_use)| (*in_use, *proto, *at)).collect();
        rows.sort_unstable_by_key(|(in_use, proto, at)| (Reverse(*in_use), *at, *proto));
        let row = |(in_use, proto, at): (u64, u8, SocketAddr)| Self {
            proto: proto_text(proto),
            backend: at.ip(),
            port: at.port(),
            in_use,
            ports,
        };
        rows.into_iter().map(row).collect()
    }
}

impl Row for NatRow {
    const COLUMNS: &'static [&'static str] = &["PROTO", "BACKEND", "NAT-PORTS", "OF"];

    fn cells(&self) -> Vec<String> {
        let backend = SocketAddr::new(self.backend, self.port);
        vec![self.proto.clone(), backend.to_string(), self.in_use.to_string(), self.ports.to_string()]
    }
}

/// Sums over all Services.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Totals {
    service_ports: usize,
    backends: usize,
    connections: u64,
    #[serde(flatten)]
    traffic: Traffic,
}

#[derive(PartialEq, Eq, Debug, Serialize)]
struct Stats {
    reasons: Vec<ReasonRow>,
    flow_tables: Vec<TableRow>,
    flows: [Crowd; 2],
    /// Absent if there has been none.
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<Sweep>,
    nat: Vec<NatRow>,
    totals: Totals,
}

impl Stats {
    fn new(
        counts: &[u64],
        all: bool,
        fills: &[Fill],
        flows: [Crowd; 2],
        report: &SweepReport,
        (view, nat): (&View, Vec<NatRow>),
        now: Duration,
    ) -> Self {
        let reasons = Reason::ALL.iter().zip(counts).filter(|(_, count)| all || **count > 0);
        let mut sum = ServiceStats::default();
        for service in view.services.values() {
            add(&mut sum, &service.stats);
        }
        Self {
            reasons: reasons
                .map(|(reason, count)| ReasonRow {
                    reason: reason.name(),
                    number: *reason as u8,
                    effect: reason.effect().name(),
                    count: *count,
                    text: reason.text(),
                })
                .collect(),
            flow_tables: fills
                .iter()
                .map(|fill| TableRow { table: fill.name, entries: fill.entries, capacity: fill.capacity })
                .collect(),
            flows,
            sweep: (report.began > 0).then(|| Sweep {
                age_seconds: now.saturating_sub(Duration::from_nanos(report.began)).as_secs(),
                scanned: report.scanned,
                pairs: report.pairs,
                expired: report.expired,
                orphans: report.orphans,
                lru_left: report.lru_left,
                embryonic: report.embryonic,
                moved: report.moved,
            }),
            nat,
            totals: Totals {
                service_ports: view.services.len(),
                backends: view.services.values().map(|service| service.backends.len()).sum(),
                connections: sum.connections,
                traffic: Traffic::of(&sum),
            },
        }
    }
}

impl Document for Stats {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        text::table(writer, &self.reasons)?;
        writeln!(writer)?;
        text::table(writer, &self.flow_tables)?;
        writeln!(writer)?;
        text::table(writer, &self.flows)?;
        writeln!(writer)?;
        if let Some(busiest) = self.nat.get(..self.nat.len().min(BUSIEST)).filter(|rows| !rows.is_empty()) {
            text::table(writer, busiest)?;
            writeln!(writer)?;
        }
        let sweep = self.sweep.as_ref().map(|sweep| {
            format!(
                "{} ago: {} entries looked at, {} connections live, {} ended, {} orphans removed, {} left in the LRU table, {} moved out of it",
                text::duration(Duration::from_secs(sweep.age_seconds)),
                sweep.scanned,
                sweep.pairs,
                sweep.expired,
                sweep.orphans,
                sweep.lru_left,
                sweep.moved,
            )
        });
        let Totals { service_ports, backends, connections, traffic } = &self.totals;
        text::fields(
            writer,
            &[
                ("Last sweep", sweep.unwrap_or_else(|| "never".to_owned())),
                ("Service ports", service_ports.to_string()),
                ("Backends", backends.to_string()),
                ("Connections", connections.to_string()),
                ("In", format!("{} packets, {} bytes", traffic.packets_in, traffic.bytes_in)),
                ("Out", format!("{} packets, {} bytes", traffic.packets_out, traffic.bytes_out)),
            ],
        )
    }
}

impl Args {
    pub(super) fn run(&self, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
        let pins = context.datapath()?;
        let reasons = reasons(pins)?;
        let report = Array::<SweepReport>::open(pins, maps::SWEEP)?.get(0)?;
        let mut view = View::read(pins)?;
        let (living, fills) = read_living(pins)?;
        view.add_living(&living);
        let config = Array::<Config>::open(pins, maps::CONFIG)?.get(0)?;
        let ports = config.snat_ports.iter().map(|range| range.len()).sum();
        Ok(out.document(&Stats::new(
            &reasons,
            self.all,
            &fills,
            crowd::read(pins)?,
            &report,
            (&view, NatRow::all(&living, ports)),
            now(),
        ))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::crowd::tests::flooded;
    use crate::ctl::out::Format;
    use crate::ctl::tests::{documented, shape};

    fn stats(all: bool, report: &SweepReport) -> Stats {
        let mut counts = vec![0; Reason::ALL.len()];
        counts[Reason::FlowOpened as usize] = 5;
        let fills = [Fill { name: maps::FLOWS4, entries: 10, capacity: 100 }];
        let mut living = Living::default();
        living.nat.insert((6, "10.0.0.2:8080".parse().unwrap()), 12);
        let (view, nat) = (View::default(), NatRow::all(&living, 33_511));
        Stats::new(&counts, all, &fills, flooded(), report, (&view, nat), Duration::from_secs(100))
    }

    fn written(format: Format, stats: &Stats) -> String {
        let mut text = Vec::new();
        Out::to(format, &mut text).document(stats).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn reasons_that_never_occurred_are_hidden_unless_asked_for() {
        let none = SweepReport::default();
        let shown = stats(false, &none);
        assert_eq!(
            shown.reasons.iter().map(|row| (row.reason, row.count)).collect::<Vec<_>>(),
            [("flow_opened", 5)]
        );
        assert_eq!(stats(true, &none).reasons.len(), Reason::ALL.len());
        assert!(
            written(Format::Text, &shown)
                .starts_with("REASON       EFFECT     COUNT  MEANING\nflow_opened  translate  5      ")
        );
        assert!(
            written(Format::Text, &shown).contains(
                "flows4  10       100       10%\n\nFAMILY  EMBRYONIC  LIMIT  FULL  LRU-USED  SWEPT\n"
            )
        );
    }

    #[test]
    fn the_sweep_is_shown_once_there_was_one() {
        assert!(!written(Format::Json, &stats(false, &SweepReport::default())).contains("sweep"));
        let report = SweepReport { began: 40_000_000_000, scanned: 12, ..SweepReport::default() };
        let json: serde_json::Value =
            serde_json::from_str(&written(Format::Json, &stats(false, &report))).unwrap();
        assert_eq!(shape(&json), shape(&documented("stats")));
        assert_eq!(json["sweep"]["age_seconds"], 60);
        assert_eq!(json["sweep"]["scanned"], 12);
        assert_eq!(json["flows"][0]["embryonic"], 50);
        assert_eq!(json["flows"][0]["full"], true);
        assert_eq!(json["flow_tables"][0]["capacity"], 100);
        assert_eq!(json["totals"]["packets_in"], 0);
        assert_eq!(json["nat"], documented("stats")["nat"]);
        let text = written(Format::Text, &stats(false, &report));
        assert!(text.contains("TCP    10.0.0.2:8080  12         33511\n"), "{text}");
    }
}
