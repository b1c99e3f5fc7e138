//! The objects as Kubernetes writes them, reduced to the fields that are used.
//!
//! Unknown fields are ignored. An absent list or map and a `null` one are the same, as for the API server.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{Kind, ObjectKey};

/// Reads `null` as the default: `serde(default)` alone covers only the absent field.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(de: D) -> Result<T, D::Error> {
    Option::deserialize(de).map(Option::unwrap_or_default)
}

/// Declares lean manifest types: all fields optional, camelCase, public.
macro_rules! manifest {
    ($($(#[$meta:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                $($(#[$attr])* #[serde(deserialize_with = "nullable")] pub $field: $ty,)*
            }
        )*
    };
}

manifest! {
    /// `metadata` of any object.
    Metadata {
        /// The object's name.
        name: String,
        /// Its namespace; empty if it has none.
        namespace: String,
        /// What tells it from others that had its name before; only an API server gives one.
        uid: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// RFC 3339, in UTC.
        creation_timestamp: Option<String>,
        /// Set while the object is being deleted.
        deletion_timestamp: Option<String>,
        /// Which state of the API server it is from; not part of what is wanted.
        resource_version: String,
        /// Those of its annotations that are used.
        annotations: Annotations,
    }

    /// `metadata.annotations`, of which an object can have many and long ones.
    Annotations {
        /// Of an EndpointSlice: when what it tells happened, RFC 3339.
        #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
        last_change_trigger_time: Option<String>,
        /// Of a Service: how many flows may begin a second through each of its ports, on each node.
        #[serde(rename = "lb.sluice/new-flow-rate")]
        new_flow_rate: Option<String>,
    }

    /// A Service.
    Service {
        /// Name and labels.
        metadata: Metadata,
        /// What it wants.
        spec: ServiceSpec,
        /// What was given to it.
        status: ServiceStatus,
    }

    /// `spec` of a Service.
    ServiceSpec {
        /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`; empty means `ClusterIP`.
        r#type: String,
        /// The first address, `None` or empty.
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        /// All addresses, at most one a family.
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        /// `IPv4` or `IPv6` for each of `cluster_ips`.
        ip_families: Vec<String>,
        /// Labels of the Pods behind it.
        selector: BTreeMap<String, String>,
        /// The ports.
        ports: Vec<ServiceSpecPort>,
        /// `Cluster` or `Local`.
        internal_traffic_policy: String,
        /// `Cluster` or `Local`, for what comes from outside.
        external_traffic_policy: String,
        /// Where load balancers ask each node whether it has endpoints; 0 means nowhere.
        health_check_node_port: u16,
        /// `None` or `ClientIP`.
        session_affinity: String,
        /// How long it lasts.
        session_affinity_config: SessionAffinityConfig,
        /// Whether Pods that are not ready count as ready.
        publish_not_ready_addresses: bool,
        /// Addresses that are routed to the nodes from outside.
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
        /// Who may use the addresses of its load balancers; empty: everybody.
        load_balancer_source_ranges: Vec<String>,
    }

    /// `spec.sessionAffinityConfig` of a Service.
    SessionAffinityConfig {
        /// For `ClientIP`.
        #[serde(rename = "clientIP")]
        client_ip: ClientIpConfig,
    }

    /// `spec.sessionAffinityConfig.clientIP` of a Service.
    ClientIpConfig {
        /// From 1 to 86400; absent means 10800.
        timeout_seconds: Option<i64>,
    }

    /// An entry of `spec.ports` of a Service.
    ServiceSpecPort {
        /// Empty for an unnamed port.
        name: String,
        /// `TCP`, `UDP` or `SCTP`; empty means `TCP`.
        protocol: String,
        /// Port at the Service's addresses.
        port: u16,
        /// Port at the Pods; absent means `port`.
        target_port: Option<TargetPort>,
        /// Port at the nodes' addresses; 0 means none.
        node_port: u16,
    }

    /// `status` of a Service.
    ServiceStatus {
        /// Addresses of load balancers.
        load_balancer: LoadBalancerStatus,
    }

    /// `status.loadBalancer` of a Service.
    LoadBalancerStatus {
        /// One entry for each load balancer.
        ingress: Vec<LoadBalancerIngress>,
    }

    /// An entry of `status.loadBalancer.ingress` of a Service.
    LoadBalancerIngress {
        /// The address; empty if the load balancer has a host name only.
        ip: String,
        /// `VIP`: packets come with this address; `Proxy`: the load balancer is their sender. Empty means `VIP`.
        ip_mode: String,
    }

    /// An EndpointSlice.
    EndpointSlice {
        /// Name and labels; `kubernetes.io/service-name` names the Service.
        metadata: Metadata,
        /// `IPv4`, `IPv6` or `FQDN`.
        address_type: String,
        /// The endpoints.
        endpoints: Vec<SliceEndpoint>,
        /// Ports that all endpoints have.
        ports: Vec<SlicePort>,
    }

    /// An entry of `endpoints` of an EndpointSlice.
    SliceEndpoint {
        /// Only the first is used (B28).
        addresses: Vec<String>,
        /// Its state.
        conditions: SliceConditions,
        /// The node it is on; nowhere if empty (B33).
        node_name: String,
        /// Where it should be used from.
        hints: SliceHints,
    }

    /// `conditions` of an endpoint. Absent means true, true and false (B32).
    SliceConditions {
        /// Usable for new connections.
        ready: Option<bool>,
        /// Would be ready if it were not terminating.
        serving: Option<bool>,
        /// Going away.
        terminating: Option<bool>,
    }

    /// `hints` of an endpoint.
    SliceHints {
        /// Zones.
        for_zones: Vec<Named>,
        /// Nodes.
        for_nodes: Vec<Named>,
    }

    /// A map that holds a name.
    Named {
        /// The name.
        name: String,
    }

    /// An entry of `ports` of an EndpointSlice.
    SlicePort {
        /// Name of the Service port that it belongs to; the port is skipped if absent (B29).
        name: Option<String>,
        /// `TCP`, `UDP` or `SCTP`; empty means `TCP`.
        protocol: String,
        /// The number; the port is skipped if it is absent or 0 (B29).
        port: Option<u16>,
    }

    /// An Endpoints object, the forerunner of EndpointSlices.
    Endpoints {
        /// Name, which is that of the Service, and labels.
        metadata: Metadata,
        /// Addresses by the ports that they have.
        subsets: Vec<Subset>,
    }

    /// An entry of `subsets` of an Endpoints object.
    Subset {
        /// Ready addresses.
        addresses: Vec<SubsetAddress>,
        /// Addresses that are not ready.
        not_ready_addresses: Vec<SubsetAddress>,
        /// Ports of all of them.
        ports: Vec<SlicePort>,
    }

    /// An address of a subset.
    SubsetAddress {
        /// The address.
        ip: String,
        /// The node it is on.
        node_name: String,
    }

    /// A Node.
    Node {
        /// Name and labels; `topology.kubernetes.io/zone` names the zone.
        metadata: Metadata,
        /// The addresses of its pods.
        spec: NodeSpec,
        /// Its addresses.
        status: NodeStatus,
    }

    /// `spec` of a Node.
    NodeSpec {
        /// The ranges of its pods' addresses, at most one of each family.
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
        /// The first of them, where the list is missing.
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        /// What keeps pods away from it.
        taints: Vec<Taint>,
    }

    /// An entry of `spec.taints` of a Node.
    Taint {
        /// What kind of taint it is.
        key: String,
    }

    /// `status` of a Node.
    NodeStatus {
        /// Its addresses.
        addresses: Vec<NodeAddress>,
    }

    /// An entry of `status.addresses` of a Node.
    NodeAddress {
        /// `InternalIP`, `ExternalIP`, `Hostname` and others.
        r#type: String,
        /// The address or name.
        address: String,
    }

    /// A range that addresses of Services are taken from.
    ServiceCidr {
        /// Its name.
        metadata: Metadata,
        /// The range, of each family.
        spec: ServiceCidrSpec,
    }

    /// `spec` of a ServiceCIDR.
    ServiceCidrSpec {
        /// At most one range of each family.
        cidrs: Vec<String>,
    }

    /// A Pod.
    Pod {
        /// Name, labels and deletion time.
        metadata: Metadata,
        /// Containers and node.
        spec: PodSpec,
        /// Addresses and state.
        status: PodStatus,
    }

    /// `spec` of a Pod.
    PodSpec {
        /// The node it is on.
        node_name: String,
        /// Its containers.
        containers: Vec<Container>,
        /// Containers that run before those; one that is always restarted runs beside them.
        init_containers: Vec<Container>,
    }

    /// A container of a Pod.
    Container {
        /// `Always` makes an init container a sidecar.
        restart_policy: String,
        /// Ports that it names.
        ports: Vec<ContainerPort>,
    }

    /// An entry of `ports` of a container.
    ContainerPort {
        /// Name that a Service's target port may give.
        name: String,
        /// `TCP`, `UDP` or `SCTP`; empty means `TCP`.
        protocol: String,
        /// The number.
        container_port: u16,
    }

    /// `status` of a Pod.
    PodStatus {
        /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        phase: String,
        /// State by aspect.
        conditions: Vec<PodCondition>,
        /// The first address.
        #[serde(rename = "podIP")]
        pod_ip: String,
        /// All addresses, at most one a family.
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
    }

    /// An entry of `status.conditions` of a Pod.
    PodCondition {
        /// `Ready` and others.
        r#type: String,
        /// `True`, `False` or `Unknown`.
        status: String,
    }

    /// An entry of `status.podIPs` of a Pod.
    PodIp {
        /// The address.
        ip: String,
    }
}

/// `targetPort` of a Service port: a number, or the name of a container's port.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// The number.
    Number(u16),
    /// The name.
    Name(String),
}

/// One object of any kind that the model is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the variants are named as their contents")]
pub enum Object {
    Service(Service),
    EndpointSlice(EndpointSlice),
    Endpoints(Endpoints),
    Node(Node),
    Pod(Pod),
    ServiceCidr(ServiceCidr),
}

impl Object {
    /// The object's kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
        }
    }

    /// The object's identity.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let (kind, metadata) = (self.kind(), self.metadata());
        let namespace = if kind.is_namespaced() { metadata.namespace.as_str() } else { "" };
        ObjectKey::new(kind, namespace, metadata.name.as_str())
    }

    /// The object's `metadata`.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        match self {
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Endpoints(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::ServiceCidr(object) => &object.metadata,
        }
    }

    /// The object's `metadata`, to be changed.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        match self {
            Self::Service(object) => &mut object.metadata,
            Self::EndpointSlice(object) => &mut object.metadata,
            Self::Endpoints(object) => &mut object.metadata,
            Self::Node(object) => &mut object.metadata,
            Self::Pod(object) => &mut object.metadata,
            Self::ServiceCidr(object) => &mut object.metadata,
        }
    }
}
