//! `sluice event`.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use lb_common::{CpuRecord, Reason, maps};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::Context;
use super::event_names::Names;
use super::event_row::{EventRow, backend_of, recorded};
use super::link::interfaces;
use super::out::{Out, Row as _};
use super::target::ServiceName;
use super::text::Table;
use crate::bpf::events::{Events, News};
use crate::bpf::map::PerCpuArray;
use crate::bpf::pin::PinDir;

/// How often a follower looks for what is new.
const POLL: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  sluice event                                 what there is, and then what comes
  sluice event list --service shop/web         what there is of one Service
  sluice event --reason no_endpoints
  sluice -j event --address 10.1.0.7           one JSON document for each

The datapath keeps the last 4096 records, whether anybody reads them or not. Each CPU makes as many a
second as the agent's --event-rate allows; the counters of `sluice stats` have all events.";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum Command {
    /// List what there is, and end
    #[command(visible_alias = "show")]
    List,
}

/// Which events are wanted; what is not given does not matter.
#[derive(clap::Args, Debug, Default)]
struct Filter {
    /// For this reason
    #[arg(long, global = true, value_name = "REASON", value_parser = reason)]
    reason: Option<Reason>,
    /// About this Service
    #[arg(long, global = true, value_name = "NS/NAME")]
    service: Option<ServiceName>,
    /// From or to this address
    #[arg(long, global = true, value_name = "IP")]
    address: Option<IpAddr>,
}

fn reason(text: &str) -> Result<Reason, String> {
    recorded().find(|reason| reason.name() == text).ok_or_else(|| {
        let names: Vec<_> = recorded().map(Reason::name).collect();
        format!("one of {}", names.join(", "))
    })
}

impl Filter {
    fn takes(&self, event: &EventRow) -> bool {
        self.reason.is_none_or(|reason| event.is_for(reason))
            && self.address.is_none_or(|address| event.touches(address))
            && self.service.as_ref().is_none_or(|wanted| event.is_of(|ns, name| wanted.names(ns, name)))
    }
}

impl Args {
    pub(super) fn run(&self, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
        let pins = context.datapath()?;
        let mut events = Events::open(pins)?;
        if self.command.is_none() {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            return runtime.context("start the event loop")?.block_on(self.follow(pins, &mut events, out));
        }
        let rows = self.rows(pins, &events.news()?)?;
        out.list(rows.into_iter().map(Ok))?;
        let cpus = PerCpuArray::<CpuRecord>::open(pins, maps::CPU)?.get(0)?;
        let suppressed = cpus.iter().fold(0_u64, |sum, cpu| sum.saturating_add(cpu.suppressed));
        if suppressed > 0 {
            out.note(&format!(
                "{suppressed} more since then were not recorded: see the agent's --event-rate"
            ))?;
        }
        Ok(())
    }

    /// Prints what there is and what comes, until a signal or the reader's end.
    async fn follow(&self, pins: &PinDir, events: &mut Events, out: &mut Out<'_>) -> anyhow::Result<()> {
        let handler = |kind| signal(kind).context("install a signal handler");
        let (mut interrupt, mut terminate) =
            (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
        let mut table = Table::new(EventRow::COLUMNS);
        while !out.is_deserted()? {
            out.more(&mut table, &self.rows(pins, &events.news()?)?)?;
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = sleep(POLL) => {}
            }
        }
        Ok(())
    }

    /// The wanted ones among `news`, with the names that things have now.
    fn rows(&self, pins: &PinDir, news: &[News]) -> anyhow::Result<Vec<EventRow>> {
        if news.is_empty() {
            return Ok(Vec::new());
        }
        let mut names = Names::read(pins)?;
        names.interfaces = interfaces(pins, news.iter().map(|(record, _)| record.ifindex));
        names.read_backends(pins, news.iter().filter_map(|(record, _)| backend_of(record)))?;
        let rows = news.iter().filter_map(|(record, lost)| EventRow::new(record, *lost, &names));
        Ok(rows.filter(|row| self.filter.takes(row)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::event_row::tests::rows;

    #[test]
    fn filters_look_at_reason_service_and_both_ends() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let taken = |line: &str| {
            let line: Line = clap::Parser::try_parse_from(line.split(' ')).unwrap();
            rows().map(|row| line.args.filter.takes(&row))
        };
        assert_eq!(taken("event"), [true, true]);
        assert_eq!(taken("event list --reason no_endpoints"), [true, false]);
        assert_eq!(taken("event --service shop/web"), [true, true]);
        assert_eq!(taken("event --service api"), [false, false]);
        assert_eq!(taken("event --address 10.0.0.1"), [true, false]);
        assert_eq!(taken("event --address 10.96.0.1 --reason sock_port_not_served"), [false, true]);
        for refused in ["event --reason flow_opened", "event --reason nonsense"] {
            assert!(<Line as clap::Parser>::try_parse_from(refused.split(' ')).is_err(), "{refused}");
        }
    }
}
