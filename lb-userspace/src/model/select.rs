//! Which endpoints a Service port uses: readiness, terminating fallback, policies, topology hints.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};

use lb_common::Proto;

use super::Family;
use super::slice::{Endpoint, HintsView, Slice};

/// Where the agent runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub(super) node: &'a str,
    /// `None`: hints for zones are ignored (B60).
    pub(super) zone: Option<&'a str>,
}

/// The endpoints of one Service port and family, sorted and distinct.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Selection {
    pub(super) cluster: Vec<SocketAddr>,
    pub(super) local: Vec<SocketAddr>,
    pub(super) serving: Vec<SocketAddr>,
}

/// Selects among all `slices` of a Service for its port `name`/`proto` in `family`.
pub(super) fn select<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    family: Family,
    name: &str,
    proto: Proto,
    site: Site<'_>,
) -> Selection {
    let endpoints = union(slices, family, name, proto);
    let hinted = Hinted::for_site(&endpoints, site);
    let mut cluster = addresses(&endpoints, |it| it.ready && hinted.admits(it));
    if cluster.is_empty() {
        cluster = addresses(&endpoints, falls_back);
    }
    let mut local = addresses(&endpoints, |it| it.ready && it.local);
    if local.is_empty() {
        local = addresses(&endpoints, |it| it.local && falls_back(it));
    }
    let serving = addresses_of(&endpoints, |copies| copies.serving || copies.best.ready);
    Selection { cluster, local, serving }
}

/// The addresses on this node that are ready at the port `name`/`proto` of a Service, whatever else there is (B85).
pub(super) fn ready_here<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    family: Family,
    name: &str,
    proto: Proto,
) -> impl Iterator<Item = IpAddr> {
    let ready = |(addr, copies): (SocketAddr, Copies<'_>)| {
        (copies.best.ready && copies.best.local).then_some(addr.ip())
    };
    union(slices, family, name, proto).into_iter().filter_map(ready)
}

/// All that the slices say about one address and port.
struct Copies<'a> {
    /// The copy that counts.
    best: &'a Endpoint,
    /// Whether any of them serves: the flows of an address must not depend on which of two Pods it belonged to.
    serving: bool,
}

type Union<'a> = BTreeMap<SocketAddr, Copies<'a>>;

/// The union over the slices. Of duplicates the one that is not terminating counts (B30), then the one of most use;
/// the order of slices never decides.
fn union<'a>(slices: impl Iterator<Item = &'a Slice>, family: Family, name: &str, proto: Proto) -> Union<'a> {
    let rank = |it: &Endpoint| (!it.terminating, it.ready, it.serving, it.local);
    let mut union = Union::new();
    for slice in slices.filter(|slice| slice.family == family) {
        for port in slice.ports.iter().filter(|port| *port.name == *name && port.proto == proto) {
            for endpoint in &slice.endpoints {
                match union.entry(SocketAddr::new(endpoint.addr, port.port)) {
                    Entry::Vacant(entry) => {
                        entry.insert(Copies { best: endpoint, serving: endpoint.serving });
                    }
                    Entry::Occupied(mut entry) => {
                        let copies = entry.get_mut();
                        copies.serving |= endpoint.serving;
                        if rank(endpoint) > rank(copies.best) {
                            copies.best = endpoint;
                        }
                    }
                }
            }
        }
    }
    union
}

fn addresses(union: &Union<'_>, keep: impl Fn(&Endpoint) -> bool) -> Vec<SocketAddr> {
    addresses_of(union, |copies| keep(copies.best))
}

/// As long as its content: these lists are what the memory of a large cluster goes into.
fn addresses_of(union: &Union<'_>, keep: impl Fn(&Copies<'_>) -> bool) -> Vec<SocketAddr> {
    let kept = union.iter().filter(|(_, copies)| keep(copies));
    let mut addresses: Vec<_> = kept.map(|(addr, _)| *addr).collect();
    addresses.shrink_to_fit();
    addresses
}

/// Used where nothing is ready.
fn falls_back(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

/// What topology hints leave of the ready endpoints (B59).
enum Hinted<'a> {
    /// All.
    All,
    /// Those for this node.
    Node(&'a str),
    /// Those for this zone.
    Zone(&'a str),
}

impl<'a> Hinted<'a> {
    /// Hints hold only if every ready endpoint has some and one of them means this site: a set that is hinted in part is
    /// one that the controller is still writing.
    fn for_site(union: &Union<'_>, site: Site<'a>) -> Self {
        let ready = || union.values().map(|copies| copies.best).filter(|endpoint| endpoint.ready);
        let holds = |names: fn(&HintsView) -> &[String], wanted: &str| {
            let hints =
                |endpoint: &'_ Endpoint| endpoint.hints.as_deref().map_or(0, |hints| names(hints).len());
            ready().all(|endpoint| hints(endpoint) != 0)
                && ready().any(|endpoint| names_it(endpoint, names, wanted))
        };
        if holds(nodes, site.node) {
            return Self::Node(site.node);
        }
        match site.zone {
            Some(zone) if holds(zones, zone) => Self::Zone(zone),
            _ => Self::All,
        }
    }

    fn admits(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::All => true,
            Self::Node(node) => names_it(endpoint, nodes, node),
            Self::Zone(zone) => names_it(endpoint, zones, zone),
        }
    }
}

fn nodes(hints: &HintsView) -> &[String] {
    &hints.nodes
}

fn zones(hints: &HintsView) -> &[String] {
    &hints.zones
}

fn names_it(endpoint: &Endpoint, names: fn(&HintsView) -> &[String], wanted: &str) -> bool {
    endpoint.hints.as_deref().is_some_and(|hints| names(hints).iter().any(|name| name == wanted))
}
