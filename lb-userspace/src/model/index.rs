//! The index: objects in, changes of Service ports out.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use super::claims::Claims;
use super::derive::{self, Derived};
use super::flat::Flat;
use super::health::HealthCheck;
use super::node::NodeView;
use super::object::Object;
use super::pod::PodView;
use super::seen::Seen;
use super::select::Site;
use super::service::ServiceView;
use super::slice::Slice;
use super::store::Namespace;
use super::{Complaint, Kind, ObjectKey, ServicePort, ServicePortKey};

/// A change of one Service port: its new state, or `None` if it is gone.
pub type Change = (ServicePortKey, Option<Arc<ServicePort>>);

/// Namespace and name of a Service.
pub type ServiceName = (Arc<str>, Arc<str>);

/// All objects and what follows from them.
///
/// The outcome depends on the objects alone, never on the order in which they came, and work is done only for the
/// Services that a change touches.
#[derive(Debug)]
pub struct Index {
    node_name: Arc<str>,
    node: Option<Arc<NodeView>>,
    /// What ServiceCIDRs name.
    ranges: BTreeMap<Arc<str>, Vec<String>>,
    known: HashSet<ObjectKey>,
    /// How many of each kind they are.
    count: BTreeMap<Kind, u64>,
    namespaces: HashMap<Arc<str>, Namespace>,
    claims: Claims,
    /// Services to look at again.
    touched: BTreeSet<ServiceName>,
    health_checks: Arc<BTreeMap<ServiceName, HealthCheck>>,
    seen: Seen,
    /// What is wrong with an object by itself.
    faults: BTreeMap<ObjectKey, Vec<Complaint>>,
    /// What is wrong with a Service because of other objects.
    conflicts: BTreeMap<ObjectKey, Vec<Complaint>>,
    /// Whether either is not as it was.
    complained: bool,
    /// Whether external IPs are served.
    external_ips: bool,
}

impl Index {
    /// An empty index for the node called `node_name`.
    pub fn new(node_name: impl Into<Arc<str>>) -> Self {
        Self {
            node_name: node_name.into(),
            node: None,
            ranges: BTreeMap::new(),
            known: HashSet::new(),
            count: BTreeMap::new(),
            namespaces: HashMap::new(),
            claims: Claims::default(),
            touched: BTreeSet::new(),
            health_checks: Arc::default(),
            seen: Seen::default(),
            faults: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            complained: false,
            external_ips: true,
        }
    }

    /// Whether external IPs of Services are served (B41); they are, unless told otherwise before the first object.
    pub const fn serve_external_ips(&mut self, serve: bool) {
        self.external_ips = serve;
    }

    /// Adds `object`, or replaces the one with the same key.
    pub fn apply(&mut self, object: impl Borrow<Object>) {
        let object = object.borrow();
        let key = object.key();
        let node_name = self.node_name.clone();
        self.seen.count(key.kind);
        let faults = match object {
            Object::Service(object) => {
                let (view, faults) = ServiceView::read(object, self.external_ips);
                self.change(&key, |all, name| all.set_service(name, view));
                faults
            }
            Object::EndpointSlice(object) => {
                let (slice, faults) = Slice::read(object, &node_name);
                if self.change(&key, |all, name| all.set_slice(name, slice)) {
                    self.seen.caused_by(object);
                }
                faults
            }
            Object::Endpoints(object) => {
                let (slices, faults) = Slice::mirror(object, &node_name);
                self.change(&key, |all, name| all.set_mirrored(name, slices));
                faults
            }
            Object::Node(_) if *key.name != *node_name => return,
            Object::Node(object) => {
                let (node, faults) = NodeView::read(object);
                self.set_node(Some(node));
                faults
            }
            Object::ServiceCidr(object) => {
                self.ranges.insert(key.name.clone(), object.spec.cidrs.clone());
                Vec::new()
            }
            Object::Pod(object) => {
                let (pod, faults) = PodView::read(object, &node_name);
                self.change(&key, |all, name| all.set_pod(name, pod));
                faults
            }
        };
        self.complained |= set(&mut self.faults, &key, faults);
        let kind = key.kind;
        if self.known.insert(key) {
            *self.count.entry(kind).or_default() += 1;
        }
    }

    /// Removes the object called `key`, if it is there.
    pub fn delete(&mut self, key: &ObjectKey) {
        if !self.known.remove(key) {
            return;
        }
        self.count.entry(key.kind).and_modify(|count| *count -= 1);
        self.seen.count(key.kind);
        let _ = match key.kind {
            Kind::Service => self.change(key, |all, name| all.set_service(name, None)),
            Kind::EndpointSlice => self.change(key, |all, name| all.set_slice(name, None)),
            Kind::Endpoints => self.change(key, |all, name| all.set_mirrored(name, Vec::new())),
            Kind::Node => self.set_node(None),
            Kind::Pod => self.change(key, |all, name| all.set_pod(name, None)),
            Kind::ServiceCidr => self.ranges.remove(&key.name).is_some(),
        };
        self.complained |= self.faults.remove(key).is_some();
    }

    /// Makes `objects` all that there is: what is not among them is gone. What stays the same is not touched.
    pub fn replace(&mut self, objects: impl IntoIterator<Item: Borrow<Object>>) {
        let mut gone = self.known.clone();
        for object in objects {
            gone.remove(&object.borrow().key());
            self.apply(object);
        }
        for key in gone {
            self.delete(&key);
        }
    }

    /// Removes the objects of `kind` that are not to be kept.
    pub fn retain(&mut self, kind: Kind, keep: impl Fn(&ObjectKey) -> bool) {
        let gone: Vec<_> = self.known.iter().filter(|key| key.kind == kind && !keep(key)).cloned().collect();
        for key in gone {
            self.delete(&key);
        }
    }

    /// What differs from what the last call left, each Service port once. First those that are gone, then those that
    /// give up a frontend, then the others: in this order a frontend is free before another Service port gets it, unless
    /// two swap theirs within one call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let touched = mem::take(&mut self.touched);
        for name in &touched {
            self.renew_claims(name);
        }
        let mut affected = touched;
        let moved = self.claims.take_moved();
        affected.extend(moved.map(|key| (key.namespace.clone(), key.name.clone())));
        let mut changes = Vec::new();
        for name in &affected {
            self.renew_ports(name, &mut changes);
        }
        changes.sort_by_key(|(rank, _)| *rank);
        changes.into_iter().map(|(_, change)| change).collect()
    }

    /// Which objects came since the last call, and how many there are.
    pub fn take_seen(&mut self) -> Seen {
        Seen { objects: self.count.clone(), ..mem::take(&mut self.seen) }
    }

    /// What is wrong, by object, each thing by itself. Covers everything
    /// that the last [`Index::take_changes`] covered.
    pub fn problems(&self) -> impl Iterator<Item = (&ObjectKey, &Complaint)> {
        let all = self.faults.iter().chain(&self.conflicts);
        all.flat_map(|(key, complaints)| complaints.iter().map(move |complaint| (key, complaint)))
    }

    /// Whether [`Index::problems`] are others than at the last call.
    pub const fn take_complained(&mut self) -> bool {
        mem::replace(&mut self.complained, false)
    }

    /// The uid of the Service `namespace`/`name`; `None` if it is not served, or from no API server.
    #[must_use]
    pub fn uid(&self, namespace: &str, name: &str) -> Option<&str> {
        let service = self.namespaces.get(namespace)?.entries.get(name)?.service.as_ref()?;
        Some(&*service.uid).filter(|uid| !uid.is_empty())
    }

    /// What load balancers ask for (B84), as of the last [`Index::take_changes`].
    #[must_use]
    pub const fn health_checks(&self) -> &Arc<BTreeMap<ServiceName, HealthCheck>> {
        &self.health_checks
    }

    /// What the object of the agent's own node says; `None` if there is none.
    #[must_use]
    pub const fn node(&self) -> Option<&Arc<NodeView>> {
        self.node.as_ref()
    }

    /// The ranges that ServiceCIDRs name, as they are written, each once; none without such objects (B5).
    #[must_use]
    pub fn service_ranges(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.ranges.values().flatten().collect();
        all.into_iter().cloned().collect()
    }

    /// Changes the namespace of `key`, and remembers the Services that this concerns. True if there are any.
    fn change<T>(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Namespace, &Arc<str>) -> T) -> bool
    where
        T: IntoIterator<Item = Arc<str>>,
    {
        let content = self.namespaces.entry(key.namespace.clone()).or_default();
        let mut services = change(content, &key.name).into_iter().peekable();
        let changed = services.peek().is_some();
        self.touched.extend(services.map(|service| (key.namespace.clone(), service)));
        if content.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
        changed
    }

    /// Another zone changes what every hint means (B60). True if it is another one.
    fn set_node(&mut self, node: Option<NodeView>) -> bool {
        if self.node.as_deref() == node.as_ref() {
            return false;
        }
        let zone = |node: Option<&NodeView>| node.and_then(|node| node.zone.clone());
        let moved = zone(self.node.as_deref()) != zone(node.as_ref());
        if moved {
            for (namespace, content) in &self.namespaces {
                let services = content.entries.keys();
                self.touched.extend(services.map(|service| (namespace.clone(), service.clone())));
            }
        }
        self.node = node.map(Arc::new);
        moved
    }

    /// Brings the claims of the Service `name` up to date.
    fn renew_claims(&mut self, (namespace, name): &ServiceName) {
        let entries = self.namespaces.get_mut(namespace).map(|content| &mut content.entries);
        let Some(entry) = entries.and_then(|entries| entries.get_mut(name)) else {
            return;
        };
        let service = entry.service.as_ref();
        let wanted = service.map(|service| derive::claims(namespace, name, service)).unwrap_or_default();
        for (place, claim) in entry.claims.iter().filter(|(place, claim)| wanted.get(place) != Some(claim)) {
            self.claims.withdraw(place, claim);
        }
        for (place, claim) in &wanted {
            self.claims.enter(*place, claim.clone());
        }
        entry.claims = wanted.into();
    }

    /// Brings the ports of the Service `name` up to date, and says what changed.
    fn renew_ports(&mut self, service: &ServiceName, changes: &mut Vec<(Rank, Change)>) {
        let (namespace, name) = service;
        let object = ObjectKey::new(Kind::Service, namespace.clone(), name.clone());
        let Some(content) = self.namespaces.get_mut(namespace) else {
            self.complained |= self.conflicts.remove(&object).is_some();
            self.set_health_check(service, None);
            return;
        };
        let zone = self.node.as_ref().and_then(|node| node.zone.as_deref());
        let site = Site { node: &self.node_name, zone };
        let Derived { ports, health_check, conflicts } =
            derive::ports(namespace, name, content, &self.claims, site);
        self.complained |= set(&mut self.conflicts, &object, conflicts);
        if let Some(entry) = content.entries.get_mut(name) {
            entry.published = compare(&entry.published, ports, changes).into();
        }
        content.tidy(name);
        if content.is_empty() {
            self.namespaces.remove(namespace);
        }
        self.set_health_check(service, health_check);
    }

    fn set_health_check(&mut self, service: &ServiceName, check: Option<HealthCheck>) {
        // Whoever was told has the map: it is copied for what changes alone.
        if self.health_checks.get(service) == check.as_ref() {
            return;
        }
        let checks = Arc::make_mut(&mut self.health_checks);
        match check {
            Some(check) => checks.insert(service.clone(), check),
            None => checks.remove(service),
        };
    }
}

/// Place of a change among those of one call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Gone,
    GivesUp,
    Other,
}

/// Appends what leads from the ports `former` of a Service to `new`, and gives those to be remembered: of what stays the
/// same the one that was handed out, so that it is kept once.
fn compare(
    former: &Flat<ServicePortKey, Arc<ServicePort>>,
    new: BTreeMap<ServicePortKey, ServicePort>,
    changes: &mut Vec<(Rank, Change)>,
) -> BTreeMap<ServicePortKey, Arc<ServicePort>> {
    let gone = former.iter().filter(|(key, _)| !new.contains_key(key));
    changes.extend(gone.map(|(key, _)| (Rank::Gone, (key.clone(), None))));
    let mut change = |key: &ServicePortKey, port| {
        let rank = match former.get(key) {
            Some(former) if **former == port => return Arc::clone(former),
            Some(former) if former.places().any(|it| !port.places().any(|kept| kept == it)) => Rank::GivesUp,
            _ => Rank::Other,
        };
        let port = Arc::new(port);
        changes.push((rank, (key.clone(), Some(Arc::clone(&port)))));
        port
    };
    new.into_iter().map(|(key, port)| (key.clone(), change(&key, port))).collect()
}

/// True if `new` is something else than before.
fn set(complaints: &mut BTreeMap<ObjectKey, Vec<Complaint>>, key: &ObjectKey, new: Vec<Complaint>) -> bool {
    if new.is_empty() {
        return complaints.remove(key).is_some();
    }
    let changed = complaints.get(key) != Some(&new);
    if changed {
        complaints.insert(key.clone(), new);
    }
    changed
}
