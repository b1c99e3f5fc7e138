//! What load balancers are told of a Service's endpoints on this node.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use super::Family;
use super::select;
use super::service::ServiceView;
use super::slice::Slice;

/// The health check of a Service: type LoadBalancer, external policy Local (B24).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`.
    pub port: NonZeroU16,
    /// Ready endpoints on this node, IPv4 and IPv6: distinct addresses over all ports of the Service (B85). `None`: the
    /// Service has no address of the family, and nobody asks for it there.
    pub local: [Option<u32>; 2],
}

impl HealthCheck {
    pub(super) fn of(port: NonZeroU16, service: &ServiceView, slices: &[&Slice]) -> Self {
        let count = |family| {
            let ready = service
                .ports
                .iter()
                .flat_map(|port| select::ready_here(slices.iter().copied(), family, &port.name, port.proto));
            u32::try_from(ready.collect::<BTreeSet<_>>().len()).unwrap_or(u32::MAX)
        };
        let served = |family| service.addresses.iter().any(|addr| Family::of(addr) == family);
        Self { port, local: Family::ALL.map(|family| served(family).then(|| count(family))) }
    }
}
