//! Pods as the EndpointSlice controller sees them, for folders that hold Pods and no slices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::Proto;

use super::object::{Pod, TargetPort};
use super::parse;
use super::service::ServiceView;
use super::slice::{Endpoint, EndpointPort, Slice};
use super::{Complaint, Family, Reason};

/// A Pod that can be an endpoint.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct PodView {
    pub(super) labels: BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
    ready: bool,
    terminating: bool,
    local: bool,
    /// Named ports; the first of two with the same name and protocol counts.
    ports: Vec<(String, Proto, u16)>,
}

impl PodView {
    /// Reads `pod` for the node called `node`. `None`: it has no address, or its containers have ended for good.
    pub(super) fn read(pod: &Pod, node: &str) -> (Option<Self>, Vec<Complaint>) {
        let Pod { metadata, spec, status } = pod;
        if matches!(status.phase.as_str(), "Succeeded" | "Failed") {
            return (None, Vec::new());
        }
        let mut problems = Vec::new();
        let mut addresses: Vec<IpAddr> = Vec::new();
        let all = status.pod_ips.iter().map(|pod_ip| &pod_ip.ip);
        let single = status.pod_ips.is_empty().then_some(&status.pod_ip).filter(|ip| !ip.is_empty());
        for text in all.chain(single) {
            match parse::unicast(text) {
                Some(addr) if addresses.iter().any(|other| Family::of(other) == Family::of(&addr)) => {}
                Some(addr) => addresses.push(addr),
                None => {
                    let text = format!("Pod address `{text}` cannot be used: left out");
                    problems.push(Reason::InvalidAddress.because(text));
                }
            }
        }
        let sidecars = spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
        let ports = ports
            .filter(|port| !port.name.is_empty())
            .filter_map(|port| Some((port.name.clone(), parse::proto(&port.protocol)?, port.container_port)));
        let view = Self {
            labels: metadata.labels.clone(),
            ready: status.conditions.iter().any(|it| it.r#type == "Ready" && it.status == "True"),
            terminating: metadata.deletion_timestamp.is_some(),
            local: spec.node_name == node,
            ports: ports.collect(),
            addresses,
        };
        ((!view.addresses.is_empty()).then_some(view), problems)
    }

    /// What the controller makes of this Pod for `service`: a slice for each family, since the ports are the Pod's own (B15).
    pub(super) fn slices(&self, service: &ServiceView) -> impl Iterator<Item = Slice> {
        let endpoint = |addr| Endpoint {
            addr,
            ready: service.publish_not_ready || (self.ready && !self.terminating),
            serving: self.ready,
            terminating: self.terminating,
            local: self.local,
            hints: None,
        };
        self.addresses.iter().map(move |&addr| Slice {
            family: Family::of(&addr),
            ports: self.endpoint_ports(service),
            endpoints: vec![endpoint(addr)],
        })
    }

    /// The target ports that this Pod has; a name that it does not know is left out.
    fn endpoint_ports(&self, service: &ServiceView) -> Vec<EndpointPort> {
        let number = |target: &TargetPort, proto| match target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => {
                let mut ports = self.ports.iter();
                ports.find(|(other, its, _)| other == name && *its == proto).map(|&(_, _, number)| number)
            }
        };
        let ports = service.ports.iter().filter_map(|port| {
            let number = number(&port.target, port.proto).filter(|&number| number != 0)?;
            Some(EndpointPort { name: port.name.clone(), proto: port.proto, port: number })
        });
        ports.collect()
    }
}
