//! Which objects came, for the figures.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::object::EndpointSlice;
use super::{Family, Kind};

/// Objects that came, changed or went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Services.
    pub services: u64,
    /// EndpointSlices, Endpoints objects and Pods.
    pub endpoints: u64,
    /// Of each EndpointSlice that changed something: its family, and when that happened which it tells of.
    pub triggers: Vec<(Family, Timestamp)>,
    /// How many objects there are now, by kind; of Nodes the own one.
    pub objects: BTreeMap<Kind, u64>,
}

impl Seen {
    pub(super) const fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Service => self.services += 1,
            Kind::EndpointSlice | Kind::Endpoints | Kind::Pod => self.endpoints += 1,
            Kind::Node | Kind::ServiceCidr => {}
        }
    }

    /// Notes that `slice` changed something. A slice that goes tells nothing: its annotation is that of its last change.
    pub(super) fn caused_by(&mut self, slice: &EndpointSlice) {
        let family = Family::ALL.into_iter().find(|family| family.kubernetes_name() == slice.address_type);
        let at = slice.metadata.annotations.last_change_trigger_time.as_deref();
        if let (Some(family), Some(at)) = (family, at.and_then(|at| at.parse().ok())) {
            self.triggers.push((family, at));
        }
    }
}
