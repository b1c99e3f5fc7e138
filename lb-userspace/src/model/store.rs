//! The objects of one namespace, in the form that the selection reads.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

use super::claims::{Claim, Place};
use super::flat::Flat;
use super::pod::PodView;
use super::service::ServiceView;
use super::slice::Slice;
use super::{ServicePort, ServicePortKey};

/// Everything that is known of one Service, and what was last said about it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// `None`: there is no such Service, or it is not balanced.
    pub(super) service: Option<ServiceView>,
    /// Its EndpointSlices by name, cached each by itself so that an endpoint that moves between two is never lost (B31).
    pub(super) slices: Flat<Arc<str>, Slice>,
    /// What its Endpoints object is mirrored as.
    pub(super) mirrored: Vec<Slice>,
    /// The frontends that it wants.
    pub(super) claims: Flat<Place, Claim>,
    /// What `take_changes` has handed out.
    pub(super) published: Flat<ServicePortKey, Arc<ServicePort>>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        let Self { service, slices, mirrored, claims, published } = self;
        service.is_none()
            && slices.is_empty()
            && mirrored.is_empty()
            && claims.is_empty()
            && published.is_empty()
    }
}

/// The objects of one namespace. Every setter says which Services have to be looked at again.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    /// By name of the Service.
    pub(super) entries: BTreeMap<Arc<str>, Box<Entry>>,
    /// The Pods that can be endpoints.
    pub(super) pods: BTreeMap<Arc<str>, PodView>,
    /// Which Service each slice belongs to.
    slices: HashMap<Arc<str>, Arc<str>>,
}

impl Namespace {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.pods.is_empty()
    }

    /// Forgets the Service `name` if nothing is left of it.
    pub(super) fn tidy(&mut self, name: &str) {
        if self.entries.get(name).is_some_and(|entry| entry.is_empty()) {
            self.entries.remove(name);
        }
    }

    fn entry(&mut self, service: &Arc<str>) -> &mut Entry {
        self.entries.entry(service.clone()).or_default()
    }

    /// Sets the Service `name`; returns it if that changes anything.
    pub(super) fn set_service(&mut self, name: &Arc<str>, view: Option<ServiceView>) -> Option<Arc<str>> {
        let former = mem::replace(&mut self.entry(name).service, view);
        let changed = self.entry(name).service != former;
        self.tidy(name);
        changed.then(|| name.clone())
    }

    /// Sets what the Endpoints object `name` is mirrored as; returns its Service if that changes anything.
    pub(super) fn set_mirrored(&mut self, name: &Arc<str>, slices: Vec<Slice>) -> Option<Arc<str>> {
        let former = mem::replace(&mut self.entry(name).mirrored, slices);
        let changed = self.entry(name).mirrored != former;
        self.tidy(name);
        changed.then(|| name.clone())
    }

    /// Sets the slice `name` of the Service that stands beside it; returns the Services that this changes: the one that
    /// the slice belongs to now, and the one that it belonged to before.
    pub(super) fn set_slice(
        &mut self,
        name: &Arc<str>,
        slice: Option<(Arc<str>, Slice)>,
    ) -> impl Iterator<Item = Arc<str>> + use<> {
        let owner = slice.as_ref().map(|(service, _)| service.clone());
        let former = match &owner {
            Some(service) => self.slices.insert(name.clone(), service.clone()),
            None => self.slices.remove(name),
        };
        let left = former.filter(|former| Some(former) != owner.as_ref());
        if let Some(former) = &left {
            self.entry(former).slices.remove(name);
            self.tidy(former);
        }
        let entered = slice.and_then(|(service, slice)| {
            let slices = &mut self.entry(&service).slices;
            let changed = slices.get(name) != Some(&slice);
            slices.insert(name.clone(), slice);
            changed.then_some(service)
        });
        left.into_iter().chain(entered)
    }

    /// Sets the Pod `name`; returns the Services that select it or did.
    pub(super) fn set_pod(&mut self, name: &Arc<str>, pod: Option<PodView>) -> Vec<Arc<str>> {
        if self.pods.get(name) == pod.as_ref() {
            return Vec::new();
        }
        let selecting = |pod: &PodView| {
            let entries = self.entries.iter();
            let entries = entries.filter(|(_, entry)| {
                entry.service.as_ref().is_some_and(|service| service.selects(&pod.labels))
            });
            entries.map(|(service, _)| service.clone()).collect::<Vec<_>>()
        };
        let mut touched: Vec<_> = self.pods.get(name).into_iter().chain(&pod).flat_map(selecting).collect();
        touched.dedup();
        match pod {
            Some(pod) => self.pods.insert(name.clone(), pod),
            None => self.pods.remove(name),
        };
        touched
    }
}
