//! Manifests for the folder that an agent watches.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::helper::wire::Transport;

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name; empty for the only port of a Service.
    pub name: String,
    /// Its protocol.
    pub transport: Transport,
    /// The number at the Service's addresses.
    pub port: u16,
    /// The number at the pods.
    pub target: u16,
}

impl Port {
    /// A port with a name made of its protocol and number.
    #[must_use]
    pub fn new(transport: Transport, port: u16, target: u16) -> Self {
        let name = format!("{}-{port}", protocol(transport).to_lowercase());
        Self { name, transport, port, target }
    }
}

/// An endpoint of an EndpointSlice.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The pod's address.
    pub addr: IpAddr,
    /// The condition `ready`.
    pub ready: bool,
    /// The condition `serving`.
    pub serving: bool,
    /// The condition `terminating`.
    pub terminating: bool,
}

impl Endpoint {
    /// A ready endpoint.
    #[must_use]
    pub fn ready(addr: IpAddr) -> Self {
        Self { addr, ready: true, serving: true, terminating: false }
    }
}

fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

/// A Service with these cluster addresses and without a selector.
#[must_use]
pub fn service(name: &str, addresses: &[IpAddr], ports: &[Port]) -> Value {
    let families: Vec<_> =
        addresses.iter().map(|addr| if addr.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    let ports: Vec<_> = ports
        .iter()
        .map(|port| json!({"name": port.name, "protocol": protocol(port.transport), "port": port.port, "targetPort": port.target}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses.first(),
            "clusterIPs": addresses,
            "ipFamilies": families,
            "ports": ports,
        },
    })
}

/// An EndpointSlice of the Service `service`; its family is that of its endpoints, IPv4 if there are none.
#[must_use]
pub fn slice(name: &str, service: &str, ports: &[Port], endpoints: &[Endpoint]) -> Value {
    let ipv6 = endpoints.first().is_some_and(|endpoint| endpoint.addr.is_ipv6());
    let ports: Vec<_> = ports
        .iter()
        .map(|port| json!({"name": port.name, "protocol": protocol(port.transport), "port": port.target}))
        .collect();
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "addresses": [endpoint.addr],
                "conditions": {
                    "ready": endpoint.ready,
                    "serving": endpoint.serving,
                    "terminating": endpoint.terminating,
                },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": name,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": if ipv6 { "IPv6" } else { "IPv4" },
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// Several objects in one file.
#[must_use]
pub fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// The Node object of the node `name`.
#[must_use]
pub fn node(name: &str, addresses: &[IpAddr]) -> Value {
    let addresses: Vec<_> =
        addresses.iter().map(|addr| json!({"type": "InternalIP", "address": addr})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"addresses": addresses},
    })
}
