//! What the tables hold, as plain values: read once, then shown in different ways.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use bytemuck::Pod;
use lb_common::{
    Addr4, Addr6, Address, BackendRecord, BackendStats, BackendWord, FrontendKey, FrontendKind,
    FrontendValue, Proto, ServiceRecord, ServiceStats, Slot, SourceRangeKey, Span, maps, service_flags,
};
use serde::Serialize;

use crate::bpf::map::{Array, Hash, MapError};
use crate::bpf::pin::PinDir;
use crate::counts::flows::Living;
use crate::counts::{self, PortName, add};

use super::text;

/// A Service port of one family.
pub(super) struct Service {
    pub(super) name: PortName,
    /// But for the node port, sorted by address.
    pub(super) frontends: Vec<(IpAddr, FrontendKind)>,
    /// The port at the addresses of nodes.
    pub(super) node_port: Option<u16>,
    /// Whether what comes from outside has the endpoints of this node alone.
    pub(super) external_local: bool,
    /// Who may use addresses of load balancers; `None`: everybody.
    pub(super) source_ranges: Option<Vec<String>>,
    /// Seconds that session affinity by client address lasts; 0: there is none.
    pub(super) affinity: u32,
    /// Flows that may begin a second; 0: any number.
    pub(super) new_flow_rate: u32,
    /// How many backends are usable from anywhere.
    pub(super) cluster: u32,
    /// How many are usable on this node.
    pub(super) local: u32,
    /// The backends that are usable or still serve, sorted by address.
    pub(super) backends: Vec<Backend>,
    pub(super) stats: ServiceStats,
}

/// An endpoint of a Service port.
pub(super) struct Backend {
    pub(super) id: u32,
    pub(super) endpoint: SocketAddr,
    pub(super) word: BackendWord,
    pub(super) selected: bool,
    pub(super) local: bool,
    pub(super) stats: ServiceStats,
}

/// All Service ports by id.
#[derive(Default)]
pub(super) struct View {
    pub(super) services: BTreeMap<u32, Service>,
}

impl View {
    /// Reads the tables. What is being changed meanwhile may be seen in its old or its new state.
    pub(super) fn read(pins: &PinDir) -> anyhow::Result<Self> {
        let mut view = Self::default();
        let scopes = read_services(pins, &mut view)?;
        read_frontends::<Addr4>(pins, maps::FRONTENDS4, &mut view)?;
        read_frontends::<Addr6>(pins, maps::FRONTENDS6, &mut view)?;
        read_ranges::<Addr4>(pins, maps::SOURCE_RANGES4, &mut view)?;
        read_ranges::<Addr6>(pins, maps::SOURCE_RANGES6, &mut view)?;
        read_backends(pins, &scopes, &mut view)?;
        for service in view.services.values_mut() {
            service.frontends.sort_unstable_by_key(|(address, _)| *address);
            service.backends.sort_unstable_by_key(|backend| backend.endpoint);
        }
        Ok(view)
    }

    /// Adds the traffic of living flows, which the counters get only when a flow ends.
    pub(super) fn add_living(&mut self, living: &Living) {
        for (id, service) in &mut self.services {
            if let Some(traffic) = living.services.get(id) {
                add(&mut service.stats, traffic);
            }
            for backend in &mut service.backends {
                if let Some(traffic) = living.backends.get(&(backend.id, backend.word.generation())) {
                    add(&mut backend.stats, traffic);
                }
            }
        }
    }

    /// The Service ports of `namespace`, or all, sorted by name.
    pub(super) fn in_namespace(&self, namespace: Option<&str>) -> Vec<(u32, &Service)> {
        let wanted =
            |service: &Service| namespace.is_none_or(|namespace| service.name.namespace == namespace);
        let services = self.services.iter().map(|(id, service)| (*id, service));
        let mut services: Vec<_> = services.filter(|(_, service)| wanted(service)).collect();
        services.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        services
    }
}

/// Which backends are in a scope, as (Service, backend), and which Services choose from the local one alone, or from both.
#[derive(Default)]
struct Scopes {
    cluster: HashSet<(u32, u32)>,
    local: HashSet<(u32, u32)>,
    only_local: HashSet<u32>,
    also_local: HashSet<u32>,
}

fn read_services(pins: &PinDir, view: &mut View) -> anyhow::Result<Scopes> {
    let records = Array::<ServiceRecord>::open(pins, maps::SERVICES_MAP)?;
    let stats = Array::<ServiceStats>::open(pins, maps::SERVICE_STATS)?;
    let slots4 = Array::<Slot<Addr4>>::open(pins, maps::SLOTS4)?;
    let slots6 = Array::<Slot<Addr6>>::open(pins, maps::SLOTS6)?;
    let mut scopes = Scopes::default();
    for (id, meta) in counts::names(pins)? {
        let record = records.get(id)?;
        for (span, scope) in [(record.cluster, &mut scopes.cluster), (record.local, &mut scopes.local)] {
            let ids = match meta.family {
                4 => backends_of(&slots4, Span(span))?,
                _ => backends_of(&slots6, Span(span))?,
            };
            scope.extend(ids.into_iter().map(|backend| (id, backend)));
        }
        if record.flags & service_flags::INTERNAL_LOCAL != 0 {
            scopes.only_local.insert(id);
        }
        let external_local = record.flags & service_flags::EXTERNAL_LOCAL != 0;
        if external_local {
            scopes.also_local.insert(id);
        }
        let service = Service {
            name: PortName::of(&meta),
            frontends: Vec::new(),
            node_port: None,
            external_local,
            source_ranges: (record.flags & service_flags::SOURCE_RANGES != 0).then(Vec::new),
            affinity: service_flags::affinity(record.flags),
            new_flow_rate: service_flags::new_flow_rate(record.flags),
            cluster: 0,
            local: 0,
            backends: Vec::new(),
            stats: stats.get(id)?,
        };
        view.services.insert(id, service);
    }
    Ok(scopes)
}

fn backends_of<A: Address>(slots: &Array<Slot<A>>, span: Span) -> Result<Vec<u32>, MapError>
where
    Slot<A>: Pod,
{
    let end = span.offset().saturating_add(span.len()).min(slots.len());
    (span.offset()..end).map(|index| Ok(slots.get(index)?.backend)).collect()
}

fn read_frontends<A: Address>(pins: &PinDir, map: &str, view: &mut View) -> Result<(), MapError>
where
    FrontendKey<A>: Pod,
{
    for entry in Hash::<FrontendKey<A>, FrontendValue>::open(pins, map)?.entries() {
        let (key, value) = entry?;
        let kind = FrontendKind::from_number(value.kind);
        match (view.services.get_mut(&value.service), kind) {
            (Some(service), Some(FrontendKind::NodePort)) => service.node_port = Some(key.port.number()),
            (Some(service), Some(kind)) => service.frontends.push((key.addr.into(), kind)),
            _ => {}
        }
    }
    Ok(())
}

fn read_ranges<A: Address>(pins: &PinDir, map: &str, view: &mut View) -> Result<(), MapError>
where
    SourceRangeKey<A>: Pod,
{
    for entry in Hash::<SourceRangeKey<A>, u32>::open(pins, map)?.entries() {
        let (key, _) = entry?;
        let service = view.services.get_mut(&key.range.service);
        if let (Some(ranges), Some(bits)) = (service.and_then(|it| it.source_ranges.as_mut()), key.length()) {
            let addr: IpAddr = key.range.addr.into();
            ranges.push(format!("{addr}/{bits}"));
        }
    }
    Ok(())
}

fn read_backends(pins: &PinDir, scopes: &Scopes, view: &mut View) -> Result<(), MapError> {
    let records = Array::<BackendRecord>::open(pins, maps::BACKENDS_MAP)?;
    let stats = Array::<BackendStats>::open(pins, maps::BACKEND_STATS)?;
    for id in 1..records.len() {
        let record = records.get(id)?;
        let Some(service) = view.services.get_mut(&record.service) else {
            continue;
        };
        let word = BackendWord(record.word);
        // A block that passed to another Service between two reads names backends of that one: both ids must agree.
        let key = (record.service, id);
        let (cluster, local) = (scopes.cluster.contains(&key), scopes.local.contains(&key));
        // The local scope may have one that terminates, for a policy that is not this Service's.
        let inside = if scopes.only_local.contains(&record.service) { local } else { cluster };
        let selected = inside || local && scopes.also_local.contains(&record.service);
        if record.family == 0 || !(selected || word.serving()) {
            continue;
        }
        service.cluster += u32::from(cluster);
        service.local += u32::from(local);
        service.backends.push(Backend {
            id,
            endpoint: SocketAddr::new(address(&record), record.port.number()),
            word,
            selected,
            local,
            stats: stats.get(id)?.traffic,
        });
    }
    Ok(())
}

/// Counters as they are shown. Packets and bytes are known on the packet path only: where sockets alone carried the
/// traffic there is no number rather than a zero.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Counters {
    pub(super) connections: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) traffic: Option<Traffic>,
}

/// Packets and bytes towards backends and back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Traffic {
    pub(super) packets_in: u64,
    pub(super) bytes_in: u64,
    pub(super) packets_out: u64,
    pub(super) bytes_out: u64,
}

impl Traffic {
    pub(super) fn of(stats: &ServiceStats) -> Self {
        Self {
            packets_in: stats.packets_in,
            bytes_in: stats.bytes_in,
            packets_out: stats.packets_out,
            bytes_out: stats.bytes_out,
        }
    }
}

impl Counters {
    /// The counters as they stand.
    pub(super) fn of(stats: &ServiceStats) -> Self {
        let by_sockets = stats.packets_in == 0 && stats.packets_out == 0 && stats.connections > 0;
        Self { connections: stats.connections, traffic: (!by_sockets).then(|| Traffic::of(stats)) }
    }

    /// Five cells: connections, packets and bytes in, packets and bytes out.
    pub(super) fn cells(&self) -> [String; 5] {
        let cell = |value: fn(&Traffic) -> u64| text::or_none(self.traffic.as_ref().map(value));
        [
            self.connections.to_string(),
            cell(|traffic| traffic.packets_in),
            cell(|traffic| traffic.bytes_in),
            cell(|traffic| traffic.packets_out),
            cell(|traffic| traffic.bytes_out),
        ]
    }
}

/// The address of a backend.
pub(super) fn address(record: &BackendRecord) -> IpAddr {
    Addr4::from_mapped(&record.addr).map_or_else(|| record.addr.into(), IpAddr::from)
}

/// The protocol's name, or its number where it has none here.
pub(super) fn proto_text(proto: u8) -> String {
    Proto::from_number(proto).map_or_else(|| proto.to_string(), |proto| proto.to_string())
}

/// `IPv4` or `IPv6`, as Kubernetes writes it.
pub(super) fn family_text(family: u8) -> &'static str {
    if family == 4 { "IPv4" } else { "IPv6" }
}
