//! Endpoints as the selection sees them, whatever object they come from.

use std::net::IpAddr;
use std::sync::Arc;

use lb_common::Proto;

use super::object::{EndpointSlice, Endpoints, SliceEndpoint, SlicePort, SubsetAddress};
use super::parse;
use super::service::HEADLESS;
use super::{Complaint, Family, Reason};

/// The label that names a slice's Service (B27).
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that keeps an Endpoints object from being mirrored.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

/// Endpoints of one family that have the same ports.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Slice {
    pub(super) family: Family,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// A port that all endpoints of a slice have.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct EndpointPort {
    pub(super) name: Arc<str>,
    pub(super) proto: Proto,
    pub(super) port: u16,
}

/// One endpoint.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    pub(super) addr: IpAddr,
    pub(super) ready: bool,
    pub(super) serving: bool,
    pub(super) terminating: bool,
    /// On this node (B33).
    pub(super) local: bool,
    pub(super) hints: Hints,
}

/// Where an endpoint should be used from. Boxed: few clusters have hints, many have 100 000 endpoints.
pub(super) type Hints = Option<Box<HintsView>>;

/// Names of nodes and zones.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct HintsView {
    pub(super) nodes: Vec<String>,
    pub(super) zones: Vec<String>,
}

impl Slice {
    /// Reads `slice` for the node called `node`: the name of its Service and what it contributes. `None`: it belongs to
    /// no Service. A slice that a proxy must not look at contributes nothing, but it is one of the Service's.
    pub(super) fn read(slice: &EndpointSlice, node: &str) -> (Option<(Arc<str>, Self)>, Vec<Complaint>) {
        let EndpointSlice { metadata, address_type, endpoints, ports } = slice;
        let Some(service) = metadata.labels.get(SERVICE_NAME).filter(|name| !name.is_empty()) else {
            return (None, Vec::new());
        };
        let mut problems = Vec::new();
        let family = Family::ALL.into_iter().find(|family| family.kubernetes_name() == address_type);
        if family.is_none() && address_type != "FQDN" {
            let text = format!("there is no addressType `{address_type}`: left out");
            problems.push(Reason::InvalidValue.because(text));
        }
        let view = match family {
            Some(family) if !metadata.labels.contains_key(HEADLESS) => {
                let ports = ports.iter().filter_map(|port| EndpointPort::read(port, port.name.as_deref()?));
                let read = endpoints.iter().map(|endpoint| Endpoint::read(endpoint, family, node));
                Self { family, ports: ports.collect(), endpoints: usable(read, &mut problems) }
            }
            _ => Self { family: Family::V4, ports: Vec::new(), endpoints: Vec::new() },
        };
        (Some((service.as_str().into(), view)), problems)
    }

    /// The slices that the mirroring controller makes of `endpoints`.
    pub(super) fn mirror(endpoints: &Endpoints, node: &str) -> (Vec<Self>, Vec<Complaint>) {
        let labels = &endpoints.metadata.labels;
        if labels.contains_key(HEADLESS) || labels.get(SKIP_MIRROR).is_some_and(|value| value == "true") {
            return (Vec::new(), Vec::new());
        }
        let mut problems = Vec::new();
        let mut slices = Vec::new();
        for subset in &endpoints.subsets {
            let ready = subset.addresses.iter().map(|addr| (addr, true));
            let unready = subset.not_ready_addresses.iter().map(|addr| (addr, false));
            let read = ready.chain(unready).map(|(addr, ready)| Endpoint::mirror(addr, ready, node));
            let mut rest = usable(read, &mut problems);
            for family in Family::ALL {
                let ports = subset.ports.iter();
                let ports = ports
                    .filter_map(|port| EndpointPort::read(port, port.name.as_deref().unwrap_or_default()))
                    .collect();
                let endpoints: Vec<_> =
                    rest.extract_if(.., |endpoint| Family::of(&endpoint.addr) == family).collect();
                if !endpoints.is_empty() {
                    slices.push(Self { family, ports, endpoints });
                }
            }
        }
        (slices, problems)
    }
}

impl EndpointPort {
    /// `None`: without a number, or of a protocol that is not balanced (B29).
    fn read(given: &SlicePort, name: &str) -> Option<Self> {
        let port = given.port.filter(|&port| port != 0)?;
        let proto = parse::proto(&given.protocol)?;
        Some(Self { name: name.into(), proto, port })
    }
}

impl Endpoint {
    fn read<'a>(given: &'a SliceEndpoint, family: Family, node: &str) -> Result<Self, &'a str> {
        let SliceEndpoint { addresses, conditions, node_name, hints } = given;
        let text = addresses.first().map_or("", String::as_str);
        let addr = parse::unicast(text).filter(|addr| Family::of(addr) == family).ok_or(text)?;
        let names = |list: &[super::object::Named]| list.iter().map(|named| named.name.clone()).collect();
        let hinted = !(hints.for_nodes.is_empty() && hints.for_zones.is_empty());
        Ok(Self {
            addr,
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            local: node_name == node,
            hints: hinted.then(|| {
                Box::new(HintsView { nodes: names(&hints.for_nodes), zones: names(&hints.for_zones) })
            }),
        })
    }

    fn mirror<'a>(given: &'a SubsetAddress, ready: bool, node: &str) -> Result<Self, &'a str> {
        Ok(Self {
            addr: parse::unicast(&given.ip).ok_or(given.ip.as_str())?,
            ready,
            serving: true,
            terminating: false,
            local: given.node_name == node,
            hints: None,
        })
    }
}

/// The endpoints that could be read, and one problem for all others: a slice may hold a thousand of them.
fn usable<'a>(
    read: impl Iterator<Item = Result<Endpoint, &'a str>>,
    problems: &mut Vec<Complaint>,
) -> Vec<Endpoint> {
    let mut bad = Vec::new();
    let mut good: Vec<_> = read.filter_map(|endpoint| endpoint.map_err(|text| bad.push(text)).ok()).collect();
    good.shrink_to_fit();
    match bad.as_slice() {
        [] => {}
        [text] => {
            let text = format!("endpoint address `{text}` cannot be used: left out");
            problems.push(Reason::InvalidAddress.because(text));
        }
        [first, ..] => {
            let count = bad.len();
            let text = format!("{count} endpoint addresses cannot be used, the first `{first}`: left out");
            problems.push(Reason::InvalidAddress.because(text));
        }
    }
    good
}
