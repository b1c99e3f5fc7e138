//! The Node object of the node that the agent runs on.

use std::net::IpAddr;

use super::object::{Node, NodeSpec};
use super::parse;
use super::{Complaint, Reason};

/// The label that names a node's zone (B60).
const ZONE: &str = "topology.kubernetes.io/zone";

/// The taint by which the cluster autoscaler says that it will delete a node (B91).
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// What the Node object says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeView {
    /// Internal addresses, then external ones, each in the object's order: the first of a family is the primary one.
    pub addresses: Vec<IpAddr>,
    /// The zone, if the node has the label.
    pub zone: Option<String>,
    /// The ranges of its pods' addresses, as they are written.
    pub pod_cidrs: Vec<String>,
    /// Whether it is being deleted (B91).
    pub deleting: bool,
    /// Keys of its taints (B91).
    pub taints: Vec<String>,
}

impl NodeView {
    /// Whether load balancers are to leave the node (B91): it is being deleted, or about to be. A node that is cordoned or
    /// not ready goes on.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.deleting || self.taints.iter().any(|taint| taint == TO_BE_DELETED)
    }

    pub(super) fn read(node: &Node) -> (Self, Vec<Complaint>) {
        let mut problems = Vec::new();
        let mut addresses = Vec::new();
        for wanted in ["InternalIP", "ExternalIP"] {
            for address in node.status.addresses.iter().filter(|address| address.r#type == wanted) {
                match parse::unicast(&address.address) {
                    Some(addr) => addresses.push(addr),
                    None => {
                        let text = format!("{wanted} `{}` cannot be used: left out", address.address);
                        problems.push(Reason::InvalidAddress.because(text));
                    }
                }
            }
        }
        let zone = node.metadata.labels.get(ZONE).filter(|zone| !zone.is_empty()).cloned();
        let NodeSpec { pod_cidrs, pod_cidr, taints } = &node.spec;
        let first = (pod_cidrs.is_empty() && !pod_cidr.is_empty()).then(|| pod_cidr.clone());
        let pod_cidrs = pod_cidrs.iter().cloned().chain(first).collect();
        let taints = taints.iter().map(|taint| taint.key.clone()).collect();
        let deleting = node.metadata.deletion_timestamp.is_some();
        (Self { addresses, zone, pod_cidrs, deleting, taints }, problems)
    }
}
