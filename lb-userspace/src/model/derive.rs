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
use super::{Family, Frontend, ServicePort, ServicePortKey};

/// The frontends that `service`, called `namespace`/`name`, wants. Of two of its ports that want the same one the first
/// is heard.
pub(super) fn claims(namespace: &Arc<str>, name: &Arc<str>, service: &ServiceView) -> BTreeMap<Place, Claim> {
    let mut claims = BTreeMap::new();
    for (addr, port) in halves(service) {
        let key = key(namespace, name, addr, port);
        let claim = Claim { created: service.created.clone(), key };
        claims.entry((addr, port.port, port.proto)).or_insert(claim);
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
    pub(super) conflicts: Vec<String>,
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
        match claims.owner(&(addr, port.port, port.proto)) {
            Some(owner) if *owner == key => {}
            Some(owner) => {
                let place = format!("{addr} port {}/{}", port.port, port.proto);
                conflicts.push(format!("{place} belongs to {owner}: not served for this Service"));
                continue;
            }
            None => continue,
        }
        let Selection { cluster, local, serving } =
            select::select(slices.iter().copied(), key.family, &port.name, port.proto, site);
        let frontend = Frontend { addr, port: port.port, kind: FrontendKind::ClusterIp };
        let port = ServicePort {
            port: port.port,
            frontends: vec![frontend],
            cluster,
            local,
            serving,
            internal_local: service.internal_local,
            affinity: service.affinity,
        };
        ports.insert(key, port);
    }
    let health_check = service.health_check.map(|port| HealthCheck::of(port, service, &slices));
    Derived { ports, health_check, conflicts }
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
    conflicts: &mut Vec<String>,
) -> Vec<&'a Slice> {
    if !entry.slices.is_empty() {
        if content.pods.values().any(|pod| service.selects(&pod.labels)) {
            conflicts.push("it has EndpointSlices: the Pods that it selects are not looked at".to_owned());
        }
        return entry.slices.values().collect();
    }
    if service.selector.is_empty() {
        return entry.mirrored.iter().collect();
    }
    if made.is_empty() && !entry.mirrored.is_empty() {
        conflicts.push(
            "it has a selector, and no Pods or EndpointSlices: its Endpoints object is not used".to_owned(),
        );
    }
    made.iter().collect()
}
