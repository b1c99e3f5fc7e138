//! `sluice flow`.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use bytemuck::Pod;
use clap::Subcommand;
use lb_common::{Addr4, Addr6, Address, FlowKey, FlowValue, Proto};
use serde::Serialize;

use crate::bpf::map::MapError;

use super::Context;
use super::flow_row::{FlowRow, endpoint};
use super::out::{Document, Out};
use super::target::{ServiceName, Target, proto};
use super::view::View;
use crate::counts::flows::{FlowTables, Forward, now};

/// Rows that a terminal gets unless `--limit` says otherwise.
const TERMINAL_LIMIT: usize = 1000;

const EXAMPLES: &str = "\
Examples:
  sluice flow                                  all connections
  sluice flow --service default/web --count    how many a Service has
  sluice flow --backend 10.0.0.7:8080 --proto tcp
  sluice -j flow --client 10.0.1.3 --limit 10";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    filter: Filter,
    /// Print only how many there are
    #[arg(long, global = true)]
    count: bool,
    /// Print so many at most; on a terminal 1000 unless given
    #[arg(long, global = true, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum Command {
    /// List connections (the default)
    #[command(visible_alias = "show")]
    List,
}

/// Which connections are wanted; what is not given does not matter.
#[derive(clap::Args, Debug, Default)]
struct Filter {
    /// Of this Service
    #[arg(long, global = true, value_name = "NS/NAME")]
    service: Option<ServiceName>,
    /// To this backend
    #[arg(long, global = true, value_name = "IP[:PORT]")]
    backend: Option<Target>,
    /// From this client
    #[arg(long, global = true, value_name = "IP")]
    client: Option<IpAddr>,
    /// To this port of a Service
    #[arg(long, global = true)]
    port: Option<u16>,
    /// Of this protocol
    #[arg(long, global = true, value_name = "tcp|udp|sctp", value_parser = proto)]
    proto: Option<Proto>,
}

impl Filter {
    fn takes<A: Address>(&self, flow: &Forward<A>, view: &View) -> bool {
        let (key, tuple) = (&flow.key.tuple, &flow.value.tuple);
        let service = |wanted: &ServiceName| {
            view.services.get(&flow.value.service).is_some_and(|it| wanted.is(&it.name))
        };
        self.proto.is_none_or(|proto| proto as u8 == flow.key.proto)
            && self.port.is_none_or(|port| port == key.dport.number())
            && self.client.is_none_or(|client| client == key.src.into())
            && self.backend.is_none_or(|backend| backend.is(endpoint(tuple.dst, tuple.dport)))
            && self.service.as_ref().is_none_or(service)
    }
}

#[derive(Serialize)]
struct Count {
    count: usize,
}

impl Document for Count {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        writeln!(writer, "{}", self.count)
    }
}

impl<A: Address> FlowTables<A>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    fn wanted<'a>(
        &'a self,
        view: &'a View,
        filter: &'a Filter,
    ) -> impl Iterator<Item = Result<Forward<A>, MapError>> + 'a {
        self.forward().filter(|flow| flow.as_ref().map_or(true, |flow| filter.takes(flow, view)))
    }

    fn rows<'a>(
        &'a self,
        view: &'a View,
        filter: &'a Filter,
        now: Duration,
    ) -> impl Iterator<Item = anyhow::Result<FlowRow>> + 'a {
        self.wanted(view, filter).map(move |flow| {
            let flow = flow?;
            let reverse = self.reverse(&flow)?;
            let name = view.services.get(&flow.value.service).map(|service| &service.name);
            Ok(FlowRow::new(&flow, reverse.as_ref(), name, now))
        })
    }

    fn count_wanted(&self, view: &View, filter: &Filter) -> Result<usize, MapError> {
        self.wanted(view, filter).try_fold(0, |count, flow| flow.map(|_| count + 1))
    }
}

impl Args {
    pub(super) fn run(&self, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
        let pins = context.datapath()?;
        let view = View::read(pins)?;
        let (v4, v6) = (FlowTables::<Addr4>::open(pins)?, FlowTables::<Addr6>::open(pins)?);
        let filter = &self.filter;
        let count = || Ok::<_, MapError>(v4.count_wanted(&view, filter)? + v6.count_wanted(&view, filter)?);
        if self.count {
            return Ok(out.document(&Count { count: count()? })?);
        }
        let now = now();
        let mut rows = v4.rows(&view, filter, now).chain(v6.rows(&view, filter, now));
        let Some(limit) = self.limit.or(out.is_terminal().then_some(TERMINAL_LIMIT)) else {
            return out.list(rows);
        };
        out.list(rows.by_ref().take(limit))?;
        if rows.next().is_some() {
            let left = count()?.saturating_sub(limit);
            out.note(&format!(
                "{left} more are left out: see --limit and the filters in `sluice flow help`"
            ))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lb_common::ServiceStats;

    use super::*;
    use crate::ctl::flow_row::tests::{name, pair};
    use crate::ctl::view::Service;

    #[test]
    fn filters_look_at_every_end() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let (flow, _) = pair(0, 0);
        let mut view = View::default();
        let takes = |view: &View, line: &str| {
            let line: Line = clap::Parser::try_parse_from(line.split(' ')).unwrap();
            line.args.filter.takes(&flow, view)
        };
        for (line, expected) in [
            ("flow", true),
            ("flow --client 10.0.0.1 --port 80 --proto tcp --backend 10.0.0.2", true),
            ("flow list --backend 10.0.0.2:8080", true),
            ("flow --backend 10.0.0.2:80", false),
            ("flow --client 10.0.0.2", false),
            ("flow --port 8080", false),
            ("flow --proto UDP", false),
            ("flow --service shop/web", false),
        ] {
            assert_eq!(takes(&view, line), expected, "{line}");
        }
        let service = Service {
            name: name(),
            new_flow_rate: 0,
            affinity: 0,
            frontends: vec![],
            node_port: None,
            external_local: false,
            source_ranges: None,
            cluster: 0,
            local: 0,
            backends: vec![],
            stats: ServiceStats::default(),
        };
        view.services.insert(0, service);
        assert!(takes(&view, "flow --service shop/web") && takes(&view, "flow --service web"));
        assert!(!takes(&view, "flow --service default/web"));
    }
}
