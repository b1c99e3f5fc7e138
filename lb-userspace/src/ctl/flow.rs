//! `sluice flow`.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytemuck::Pod;
use clap::Subcommand;
use lb_common::{Addr4, Addr6, Address, FlowKey, FlowState, FlowValue, FlowWord, Point, Proto};
use lb_ebpf::env::FlowTable;
use lb_ebpf::flow::Phase;
use serde::Serialize;

use crate::bpf::map::MapError;

use super::Context;
use super::flow_tables::{FlowTables, Forward, now};
use super::out::{Document, Out, Row};
use super::target::{ServiceName, Target, proto};
use super::text;
use super::view::{PortName, Traffic, View, proto_text};

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
    #[arg(long, global = true, value_name = "tcp|udp", value_parser = proto)]
    proto: Option<Proto>,
}

impl Filter {
    fn takes<A: Address>(&self, flow: &Forward<A>, view: &View) -> bool {
        let (key, tuple) = (&flow.key.tuple, &flow.value.tuple);
        let service = |wanted: &ServiceName| {
            view.services
                .get(&flow.value.service)
                .is_some_and(|it| wanted.is(&it.name))
        };
        self.proto.is_none_or(|proto| proto as u8 == flow.key.proto)
            && self.port.is_none_or(|port| port == key.dport.number())
            && self.client.is_none_or(|client| client == key.src.into())
            && self
                .backend
                .is_none_or(|backend| backend.is(endpoint(tuple.dst, tuple.dport)))
            && self.service.as_ref().is_none_or(service)
    }
}

/// One connection.
#[derive(PartialEq, Debug, Serialize)]
struct FlowRow {
    proto: String,
    client: IpAddr,
    client_port: u16,
    address: IpAddr,
    port: u16,
    backend: IpAddr,
    backend_port: u16,
    /// As the backend sees the client.
    source: IpAddr,
    source_port: u16,
    state: &'static str,
    idle_seconds: u64,
    #[serde(flatten)]
    traffic: Traffic,
    point: &'static str,
    table: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_name: Option<String>,
}

impl FlowRow {
    fn new<A: Address>(
        flow: &Forward<A>,
        reverse: Option<&FlowValue<A>>,
        name: Option<&PortName>,
        now: Duration,
    ) -> Self {
        let (key, value) = (&flow.key, &flow.value);
        let seen = value.seen.max(reverse.map_or(0, |reverse| reverse.seen));
        Self {
            proto: proto_text(key.proto),
            client: key.tuple.src.into(),
            client_port: key.tuple.sport.number(),
            address: key.tuple.dst.into(),
            port: key.tuple.dport.number(),
            backend: value.tuple.dst.into(),
            backend_port: value.tuple.dport.number(),
            source: value.tuple.src.into(),
            source_port: value.tuple.sport.number(),
            state: state(key.proto, value.word, reverse.map_or(0, |reverse| reverse.word)),
            idle_seconds: now.saturating_sub(Duration::from_nanos(seen)).as_secs(),
            traffic: Traffic {
                packets_in: value.packets,
                bytes_in: value.bytes,
                packets_out: reverse.map_or(0, |reverse| reverse.packets),
                bytes_out: reverse.map_or(0, |reverse| reverse.bytes),
            },
            point: Point::from_number(value.point).map_or("unknown", Point::name),
            table: match flow.table {
                FlowTable::Main => "main",
                FlowTable::Lru => "lru",
            },
            namespace: name.map(|name| name.namespace.clone()),
            service: name.map(|name| name.name.clone()),
            port_name: name.map(|name| name.port_name.clone()),
        }
    }
}

fn state(proto: u8, forward: u64, reverse: u64) -> &'static str {
    let (forward, reverse) = (FlowWord(forward).state(), FlowWord(reverse).state());
    if forward.has(FlowState::DEAD) {
        return "dead";
    }
    Proto::from_number(proto).map_or("unknown", |proto| Phase::of(proto, forward, reverse).name())
}

fn endpoint<A: Address>(addr: A, port: lb_common::Port) -> SocketAddr {
    SocketAddr::new(addr.into(), port.number())
}

impl Row for FlowRow {
    const COLUMNS: &'static [&'static str] = &[
        "PROTO",
        "CLIENT",
        "ADDRESS",
        "BACKEND",
        "SOURCE",
        "STATE",
        "IDLE",
        "PKTS-IN",
        "BYTES-IN",
        "PKTS-OUT",
        "BYTES-OUT",
        "POINT",
        "TABLE",
        "SERVICE",
    ];

    fn cells(&self) -> Vec<String> {
        let same = self.source == self.client;
        vec![
            self.proto.clone(),
            SocketAddr::new(self.client, self.client_port).to_string(),
            SocketAddr::new(self.address, self.port).to_string(),
            SocketAddr::new(self.backend, self.backend_port).to_string(),
            if same {
                self.source_port.to_string()
            } else {
                SocketAddr::new(self.source, self.source_port).to_string()
            },
            self.state.to_owned(),
            text::duration(Duration::from_secs(self.idle_seconds)),
            self.traffic.packets_in.to_string(),
            self.traffic.bytes_in.to_string(),
            self.traffic.packets_out.to_string(),
            self.traffic.bytes_out.to_string(),
            self.point.to_owned(),
            self.table.to_owned(),
            text::or_none(
                self.namespace
                    .as_ref()
                    .zip(self.service.as_ref())
                    .map(|(namespace, name)| format!("{namespace}/{name}")),
            ),
        ]
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
        self.forward()
            .filter(|flow| flow.as_ref().map_or(true, |flow| filter.takes(flow, view)))
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
            let name = view
                .services
                .get(&flow.value.service)
                .map(|service| &service.name);
            Ok(FlowRow::new(&flow, reverse.as_ref(), name, now))
        })
    }

    fn count_wanted(&self, view: &View, filter: &Filter) -> Result<usize, MapError> {
        self.wanted(view, filter)
            .try_fold(0, |count, flow| flow.map(|_| count + 1))
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
