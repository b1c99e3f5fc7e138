//! `sluice service`.

use std::io::{self, Write};
use std::net::IpAddr;

use anyhow::bail;
use lb_common::FrontendKind;
use serde::Serialize;

use super::Context;
use super::args::Namespaced;
use super::backend::BackendRow;
use super::out::{Document, Out, Row};
use super::target::ServiceName;
use super::text;
use super::view::{Counters, Service, View, family_text, proto_text};
use crate::counts::PortName;
use crate::counts::flows::read_living;

pub(super) const EXAMPLES: &str = "\
Examples:
  sluice service                     all Services of all namespaces
  sluice svc list -n shop            those of one namespace
  sluice svc show shop/web           one, with its endpoints
  sluice -p svc show web             all that are named web, as JSON

Packets and bytes are those of the packet path; of connections that were translated at their socket
none are counted, which shows as a dash.";

/// How many endpoints may be chosen.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Endpoints {
    /// Usable from anywhere.
    cluster: u32,
    /// Those on this node.
    local: u32,
}

/// One Service port of one family.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct ServiceRow {
    namespace: String,
    name: String,
    port_name: String,
    port: u16,
    proto: String,
    family: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    addresses: Vec<IpAddr>,
    /// At the addresses of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_port: Option<u16>,
    /// `Local`, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_policy: Option<&'static str>,
    /// Absent if everybody may use its load balancers.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ranges: Option<Vec<String>>,
    /// How long session affinity by client address lasts; absent without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_affinity_seconds: Option<u32>,
    /// How many flows may begin a second; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_flow_rate: Option<u32>,
    endpoints: Endpoints,
    id: u32,
    #[serde(flatten)]
    counters: Counters,
}

impl ServiceRow {
    fn new(id: u32, service: &Service) -> Self {
        let PortName { namespace, name, port_name, port, proto, family } = service.name.clone();
        Self {
            namespace,
            name,
            port_name,
            port,
            proto: proto_text(proto),
            family: family_text(family),
            kind: kind(service).map_or(text::NONE, FrontendKind::name),
            addresses: service.frontends.iter().map(|(address, _)| *address).collect(),
            node_port: service.node_port,
            external_policy: service.external_local.then_some("Local"),
            source_ranges: service.source_ranges.clone(),
            session_affinity_seconds: (service.affinity > 0).then_some(service.affinity),
            new_flow_rate: (service.new_flow_rate > 0).then_some(service.new_flow_rate),
            endpoints: Endpoints { cluster: service.cluster, local: service.local },
            id,
            counters: Counters::of(&service.stats),
        }
    }
}

/// How it is reached: what says most.
fn kind(service: &Service) -> Option<FrontendKind> {
    let has = |wanted: FrontendKind| service.frontends.iter().any(|(_, kind)| *kind == wanted);
    let node_port = service.node_port.map(|_| FrontendKind::NodePort);
    let load_balancer = has(FrontendKind::LoadBalancer).then_some(FrontendKind::LoadBalancer);
    let cluster_ip = has(FrontendKind::ClusterIp).then_some(FrontendKind::ClusterIp);
    load_balancer.or(node_port).or(cluster_ip)
}

impl ServiceRow {
    /// Name, number, number at nodes, protocol.
    fn port(&self) -> String {
        let port = text::port(&self.port_name, self.port, &self.proto);
        match (self.node_port, port.rsplit_once('/')) {
            (Some(node_port), Some((port, proto))) => format!("{port}:{node_port}/{proto}"),
            _ => port,
        }
    }
}

impl Row for ServiceRow {
    const COLUMNS: &'static [&'static str] = &[
        "NAMESPACE",
        "NAME",
        "PORT",
        "FAMILY",
        "TYPE",
        "ADDRESSES",
        "ENDPOINTS",
        "LOCAL",
        "CONNECTIONS",
        "PKTS-IN",
        "BYTES-IN",
        "PKTS-OUT",
        "BYTES-OUT",
    ];

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            self.namespace.clone(),
            self.name.clone(),
            self.port(),
            self.family.to_owned(),
            self.kind.to_owned(),
            text::comma(&self.addresses),
            self.endpoints.cluster.to_string(),
            self.endpoints.local.to_string(),
        ];
        cells.extend(self.counters.cells());
        cells
    }
}

/// A Service port with its endpoints.
#[derive(Serialize)]
struct Details {
    #[serde(flatten)]
    service: ServiceRow,
    backends: Vec<BackendRow>,
}

/// The Service ports of one name.
#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Vec<Details>);

fn affinity(seconds: Option<u32>) -> String {
    seconds.map_or_else(|| text::NONE.to_owned(), |seconds| format!("ClientIP, {seconds} s"))
}

fn new_flows(rate: Option<u32>) -> String {
    rate.map_or_else(|| text::NONE.to_owned(), |rate| format!("{rate} a second at most"))
}

/// Whom clients from outside are sent to, and who may come by addresses of load balancers.
fn outside(service: &ServiceRow) -> String {
    let policy = service.external_policy.map(|_| "endpoints of this node only".to_owned());
    let ranges = service.source_ranges.as_ref().map(|ranges| {
        format!(
            "to load balancers from {}",
            if ranges.is_empty() { "nowhere".to_owned() } else { text::comma(ranges) }
        )
    });
    let all: Vec<_> = policy.into_iter().chain(ranges).collect();
    if all.is_empty() { text::NONE.to_owned() } else { all.join("; ") }
}

impl Document for Shown {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        for (i, Details { service, backends }) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(writer)?;
            }
            let [connections, packets_in, bytes_in, packets_out, bytes_out] = service.counters.cells();
            text::fields(
                writer,
                &[
                    ("Service", format!("{}/{}", service.namespace, service.name)),
                    ("Port", service.port()),
                    ("Family", service.family.to_owned()),
                    ("Type", service.kind.to_owned()),
                    ("Addresses", text::comma(&service.addresses)),
                    ("From outside", outside(service)),
                    ("Affinity", affinity(service.session_affinity_seconds)),
                    ("New flows", new_flows(service.new_flow_rate)),
                    ("Id", service.id.to_string()),
                    (
                        "Endpoints",
                        format!("{}, {} on this node", service.endpoints.cluster, service.endpoints.local),
                    ),
                    ("Connections", connections),
                    ("In", format!("{packets_in} packets, {bytes_in} bytes")),
                    ("Out", format!("{packets_out} packets, {bytes_out} bytes")),
                ],
            )?;
            if !backends.is_empty() {
                text::table(writer, backends)?;
            }
        }
        Ok(())
    }
}

pub(super) fn run(
    args: &Namespaced<ServiceName>,
    context: &Context,
    out: &mut Out<'_>,
) -> anyhow::Result<()> {
    let pins = context.datapath()?;
    let mut view = View::read(pins)?;
    view.add_living(&read_living(pins)?.0);
    answer(args, &view, out)
}

pub(super) fn answer(args: &Namespaced<ServiceName>, view: &View, out: &mut Out<'_>) -> anyhow::Result<()> {
    let name = args.named.name();
    let services = view.in_namespace(args.namespace.as_deref());
    let Some(name) = name else {
        return out.list(services.into_iter().map(|(id, service)| Ok(ServiceRow::new(id, service))));
    };
    let shown = services.into_iter().filter(|(_, service)| name.is(&service.name));
    let shown: Vec<_> = shown
        .map(|(id, service)| Details {
            service: ServiceRow::new(id, service),
            backends: BackendRow::of(service).collect(),
        })
        .collect();
    if shown.is_empty() {
        bail!(
            "no Service is named {name}{}: see `sluice service list`",
            context_of(args.namespace.as_deref())
        );
    }
    Ok(out.document(&Shown(shown))?)
}

fn context_of(namespace: Option<&str>) -> String {
    namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default()
}
