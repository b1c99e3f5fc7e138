//! What follows for one Service from all that is known of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::FrontendKind;

use super::claims::{Claim, Claims, Place};
use super::health::HealthCheck;
use super::select::{self, Selection, Site};
use super::service::{PortView, ServiceView};
use super::slice::Slice;
use super::store::{Entry, Namespace};
use super::{Complaint, External, Family, Frontend, Reason, ServicePort, ServicePortKey};

/// The frontends that `service`, called `namespace`/`name`, wants. Of two of its ports that want the same one the first
/// is heard.
pub(super) fn claims(namespace: &Arc<str>, name: &Arc<str>, service: &ServiceView) -> BTreeMap<Place, Claim> {
    let mut claims = BTreeMap::new();
    for (addr, port) in halves(service) {
        let key = key(namespace, name, addr, port);
        let mut enter = |place: Place, outside| {
            let claim = Claim { outside, created: service.created.clone(), key: key.clone() };
            claims.entry(place).or_insert(claim);
        };
        enter((addr, port.port, port.proto), false);
        if let Some(node_port) = port.node_port {
            enter((key.family.any(), node_port.get(), port.proto), true);
        }
        let outside = service.outside.iter().flat_map(|outside| outside.addresses(key.family));
        outside.flatten().for_each(|addr| enter((addr, port.port, port.proto), true));
    }
    claims
}

/// What follows for one Service.
#[derive(Default)]
pub(super) struct Derived {
    /// Its ports as they should be.
    pub(super) ports: BTreeMap<ServicePortKey, ServicePort>,
    /// What load balancers are to be told.
    pub(super) health_check: Option<HealthCheck>,
    /// What its user should know.
    pub(super) conflicts: Vec<Complaint>,
}

/// What follows for the Service `namespace`/`name`.
pub(super) fn ports(
    namespace: &Arc<str>,
    name: &Arc<str>,
    content: &Namespace,
    claims: &Claims,
    site: Site<'_>,
) -> Derived {
    let mut ports = BTreeMap::new();
    let mut conflicts = Vec::new();
    let entry = content.entries.get(name);
    let Some((entry, service)) = entry.and_then(|entry| Some((entry, entry.service.as_ref()?))) else {
        return Derived::default();
    };
    let made = from_pods(content, entry, service);
    let slices = endpoints(content, entry, service, &made, &mut conflicts);
    for (addr, port) in halves(service) {
        let key = key(namespace, name, addr, port);
        if !has(claims, &key, (addr, port.port, port.proto), &mut conflicts) {
            continue;
        }
        let Selection { cluster, local, serving } =
            select::select(slices.iter().copied(), key.family, &port.name, port.proto, site);
        let frontend = Frontend { addr, port: port.port, kind: FrontendKind::ClusterIp };
        let external = external(service, port, &key, claims, &mut conflicts);
        let port = ServicePort {
            port: port.port,
            frontends: vec![frontend],
            cluster,
            local,
            serving,
            internal_local: service.internal_local,
            affinity: service.affinity,
            new_flow_rate: service.new_flow_rate,
            external,
        };
        ports.insert(key, port);
    }
    let health_check = service.health_check.map(|port| HealthCheck::of(port, service, &slices));
    Derived { ports, health_check, conflicts }
}

/// Whether `place`, which `key` wants, is its own. Who goes without is told whose it is.
fn has(claims: &Claims, key: &ServicePortKey, place: Place, conflicts: &mut Vec<Complaint>) -> bool {
    let Some(owner) = claims.owner(&place) else {
        return false;
    };
    if owner != key {
        let (addr, port, proto) = place;
        let place = if addr == key.family.any() { "node".to_owned() } else { addr.to_string() };
        let text = format!("{place} port {port}/{proto} belongs to {owner}: not served for this Service");
        conflicts.push(Reason::FrontendConflict.because(text));
    }
    owner == key
}

/// Where `port` of `service` is reached from outside in the family of `key`, but for what others have.
fn external(
    service: &ServiceView,
    port: &PortView,
    key: &ServicePortKey,
    claims: &Claims,
    conflicts: &mut Vec<Complaint>,
) -> Option<Box<External>> {
    let mut own = |addr, number| has(claims, key, (addr, number, port.proto), conflicts);
    let node_port = port.node_port.filter(|node_port| own(key.family.any(), node_port.get()));
    let mut external = External { node_port, ..External::default() };
    if let Some(outside) = &service.outside {
        [external.external_ips, external.load_balancer_ips] =
            outside.addresses(key.family).map(|list| list.filter(|addr| own(*addr, port.port)).collect());
        external.local = outside.local;
        if !external.load_balancer_ips.is_empty() {
            external.source_ranges = outside.sources(key.family);
        }
    }
    (!external.is_empty()).then(|| Box::new(external))
}

/// Every port at every address.
fn halves(service: &ServiceView) -> impl Iterator<Item = (IpAddr, &PortView)> {
    service.addresses.iter().flat_map(|&addr| service.ports.iter().map(move |port| (addr, port)))
}

fn key(namespace: &Arc<str>, name: &Arc<str>, addr: IpAddr, port: &PortView) -> ServicePortKey {
    ServicePortKey {
        namespace: namespace.clone(),
        name: name.clone(),
        port_name: port.name.clone(),
        proto: port.proto,
        family: Family::of(&addr),
    }
}

/// The slices that a controller would have made of the Pods that `service` selects; none if there are real ones.
fn from_pods(content: &Namespace, entry: &Entry, service: &ServiceView) -> Vec<Slice> {
    if service.headless || !entry.slices.is_empty() {
        return Vec::new();
    }
    let pods = content.pods.values().filter(|pod| service.selects(&pod.labels));
    pods.flat_map(|pod| pod.slices(service)).collect()
}

/// Where the endpoints of `service` come from: its EndpointSlices; without any, its Pods (`made`) if it has a selector,
/// and its Endpoints object if not, which is when it would be mirrored.
fn endpoints<'a>(
    content: &Namespace,
    entry: &'a Entry,
    service: &ServiceView,
    made: &'a [Slice],
    conflicts: &mut Vec<Complaint>,
) -> Vec<&'a Slice> {
    if !entry.slices.is_empty() {
        if content.pods.values().any(|pod| service.selects(&pod.labels)) {
            let text = "it has EndpointSlices: the Pods that it selects are not looked at";
            conflicts.push(Reason::EndpointsIgnored.because(text));
        }
        return entry.slices.iter().map(|(_, slice)| slice).collect();
    }
    if service.selector.is_empty() {
        return entry.mirrored.iter().collect();
    }
    if made.is_empty() && !entry.mirrored.is_empty() {
        let text = "it has a selector, and no Pods or EndpointSlices: its Endpoints object is not used";
        conflicts.push(Reason::EndpointsIgnored.because(text));
    }
    made.iter().collect()
}
