//! `sluice backend`.

use std::net::{IpAddr, SocketAddr};

use anyhow::bail;
use serde::Serialize;

use super::Context;
use super::args::Namespaced;
use super::out::{Out, Row};
use super::target::Target;
use super::text;
use super::view::{Backend, Counters, Service, View, family_text, proto_text};
use crate::counts::flows::read_living;

pub(super) const EXAMPLES: &str = "\
Examples:
  sluice backend                      all endpoints of all Services
  sluice backend -n shop              those of one namespace
  sluice backend show 10.0.0.7        what this pod serves
  sluice -j backend show 10.0.0.7:8080

An endpoint is `active` if new connections may choose it, and `serving` if it only keeps what it has.";

/// One endpoint of a Service port.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(super) struct BackendRow {
    namespace: String,
    service: String,
    port_name: String,
    proto: String,
    family: &'static str,
    address: IpAddr,
    port: u16,
    state: &'static str,
    /// Whether new connections may choose it.
    selected: bool,
    /// Whether it keeps the connections that it has.
    serving: bool,
    /// Whether it is on this node.
    local: bool,
    id: u32,
    generation: u32,
    #[serde(flatten)]
    counters: Counters,
}

impl BackendRow {
    fn new(backend: &Backend, service: &Service) -> Self {
        Self {
            namespace: service.name.namespace.clone(),
            service: service.name.name.clone(),
            port_name: service.name.port_name.clone(),
            proto: proto_text(service.name.proto),
            family: family_text(service.name.family),
            address: backend.endpoint.ip(),
            port: backend.endpoint.port(),
            state: if backend.selected { "active" } else { "serving" },
            selected: backend.selected,
            serving: backend.word.serving(),
            local: backend.local,
            id: backend.id,
            generation: backend.word.generation(),
            counters: Counters::of(&backend.stats),
        }
    }

    /// The endpoints of a Service port.
    pub(super) fn of(service: &Service) -> impl Iterator<Item = Self> + '_ {
        service.backends.iter().map(|backend| Self::new(backend, service))
    }
}

impl Row for BackendRow {
    const COLUMNS: &'static [&'static str] = &[
        "NAMESPACE",
        "SERVICE",
        "PORT",
        "ENDPOINT",
        "STATE",
        "SERVING",
        "LOCAL",
        "ID",
        "GENERATION",
        "CONNECTIONS",
        "PKTS-IN",
        "BYTES-IN",
        "PKTS-OUT",
        "BYTES-OUT",
    ];

    fn cells(&self) -> Vec<String> {
        let colon = if self.port_name.is_empty() { "" } else { "/" };
        let mut cells = vec![
            self.namespace.clone(),
            self.service.clone(),
            format!("{}{colon}{}", self.port_name, self.proto),
            SocketAddr::new(self.address, self.port).to_string(),
            self.state.to_owned(),
            text::yes(self.serving),
            text::yes(self.local),
            self.id.to_string(),
            self.generation.to_string(),
        ];
        cells.extend(self.counters.cells());
        cells
    }
}

pub(super) fn run(args: &Namespaced<Target>, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
    let pins = context.datapath()?;
    let mut view = View::read(pins)?;
    view.add_living(&read_living(pins)?.0);
    answer(args, &view, out)
}

pub(super) fn answer(args: &Namespaced<Target>, view: &View, out: &mut Out<'_>) -> anyhow::Result<()> {
    let wanted = args.named.name();
    let services = view.in_namespace(args.namespace.as_deref());
    let rows = services.into_iter().flat_map(|(_, service)| BackendRow::of(service));
    let is = |row: &BackendRow| wanted.is_none_or(|wanted| wanted.is(SocketAddr::new(row.address, row.port)));
    let mut rows = rows.filter(is).peekable();
    if let (Some(wanted), None) = (wanted, rows.peek()) {
        bail!("no Service has an endpoint {wanted}: see `sluice backend list`");
    }
    out.list(rows.map(Ok))
}
