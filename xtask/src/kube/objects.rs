//! Objects as a kubelet and its users would post them.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::lab::Machine;

/// The Node object of `machine` in `zone`: as its kubelet registers it.
#[must_use]
pub fn node(machine: &Machine, zone: &str) -> Value {
    let cidrs = machine.pod_cidrs();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": machine.name(),
            "labels": {
                "kubernetes.io/hostname": machine.name(),
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": zone,
            },
        },
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
    })
}

/// What the status of the Node object of `machine` says, as a merge patch.
#[must_use]
pub fn node_status(machine: &Machine) -> Value {
    let mut addresses: Vec<_> =
        machine.ips().iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    addresses.push(json!({"type": "Hostname", "address": machine.name()}));
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    json!({"status": {
        "addresses": addresses,
        "capacity": room,
        "allocatable": room,
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    }})
}

/// A Pod object that is bound to no node yet. Its image stands for what runs in no container here.
#[must_use]
pub fn pod(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "server", "image": "none"}],
        },
    })
}

/// What the status of a running pod says, as a merge patch: its addresses, those of its node, and whether it is ready.
#[must_use]
pub fn pod_status(ips: &[IpAddr], node_ips: &[IpAddr], ready: bool) -> Value {
    let list = |ips: &[IpAddr]| ips.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>();
    let ready = if ready { "True" } else { "False" };
    let conditions = ["PodScheduled", "Initialized"].map(|kind| json!({"type": kind, "status": "True"}));
    let readiness = ["ContainersReady", "Ready"].map(|kind| json!({"type": kind, "status": ready}));
    let conditions = [conditions, readiness].concat();
    json!({"status": {
        "phase": "Running",
        "hostIP": node_ips.first(),
        "hostIPs": list(node_ips),
        "podIP": ips.first(),
        "podIPs": list(ips),
        "conditions": conditions,
    }})
}

/// A Service of both families with TCP and UDP port 80 at the port `target` of the pods that `selector` selects.
#[must_use]
pub fn service(namespace: &str, name: &str, selector: &Value, target: u16) -> Value {
    let ports = ["TCP", "UDP"].map(|protocol| {
        json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": 80, "targetPort": target})
    });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"ipFamilyPolicy": "RequireDualStack", "selector": selector, "ports": ports},
    })
}
