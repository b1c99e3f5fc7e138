//! What a Service asks for, checked and reduced.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use lb_common::Proto;
use lb_common::service_flags::MAX_NEW_FLOW_RATE;

use super::external::{self, Outside};
use super::flat::Flat;
use super::object::{Annotations, Service, ServiceSpec, ServiceSpecPort, TargetPort};
use super::parse::{self, MAX_NAME};
use super::{Complaint, Family, Reason};

/// The label that gives a Service to another proxy (B1).
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The label that makes slices invisible to proxies (B2); the slice controller copies it from the Service.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
/// Seconds that session affinity lasts where the Service does not say (B23).
const DEFAULT_AFFINITY: NonZeroU32 = NonZeroU32::new(10_800).unwrap();
/// Most seconds that it may last.
const MAX_AFFINITY: u32 = 86_400;

/// A Service that is to be balanced. Equal views mean equal treatment, so that an update of anything else is none (B25).
#[derive(PartialEq, Eq, Debug)]
pub(super) struct ServiceView {
    /// `metadata.uid`; empty if it is from no API server.
    pub(super) uid: Box<str>,
    /// `metadata.creationTimestamp`: the older Service keeps an address that two want.
    pub(super) created: Option<String>,
    /// ClusterIPs, at most one a family.
    pub(super) addresses: Vec<IpAddr>,
    /// Ports, distinct by name and protocol.
    pub(super) ports: Vec<PortView>,
    /// `internalTrafficPolicy: Local`.
    pub(super) internal_local: bool,
    /// What it asks for beside those; boxed, since most Services ask for nothing.
    pub(super) outside: Option<Box<Outside>>,
    /// Seconds that a client keeps its endpoint; `None` without session affinity.
    pub(super) affinity: Option<NonZeroU32>,
    /// Flows that may begin a second through each port; `None`: any number.
    pub(super) new_flow_rate: Option<NonZeroU32>,
    /// Empty: endpoints are made by hand.
    pub(super) selector: Flat<String, String>,
    /// `publishNotReadyAddresses`.
    pub(super) publish_not_ready: bool,
    /// Slices made from this Service's Pods would carry the headless label.
    pub(super) headless: bool,
    /// Where load balancers ask each node for it (B84).
    pub(super) health_check: Option<NonZeroU16>,
}

/// A port of a Service.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct PortView {
    pub(super) name: Arc<str>,
    pub(super) proto: Proto,
    pub(super) port: u16,
    /// At the addresses of nodes; `None` too if a load balancer does without (B21).
    pub(super) node_port: Option<NonZeroU16>,
    pub(super) target: TargetPort,
}

impl ServiceView {
    /// Reads `service`, of which `external_ips` may be served or not. `None`: it is not ours to balance, or nothing of it can
    /// be. The texts say what is left out.
    pub(super) fn read(service: &Service, external_ips: bool) -> (Option<Self>, Vec<Complaint>) {
        let Service { metadata, spec, .. } = service;
        let headless = spec.cluster_ip == "None" || spec.cluster_ips.iter().any(|ip| ip == "None");
        if headless || spec.r#type == "ExternalName" || metadata.labels.contains_key(PROXY_NAME) {
            return (None, Vec::new());
        }
        if metadata.name.len() > MAX_NAME || metadata.namespace.len() > MAX_NAME {
            let text = format!("left out: a name is longer than {MAX_NAME} characters");
            return (None, vec![Reason::InvalidName.because(text)]);
        }
        let mut problems = Vec::new();
        let addresses = addresses(spec, &mut problems);
        let view = Self {
            uid: metadata.uid.as_str().into(),
            created: metadata.creation_timestamp.clone(),
            ports: ports(spec, &mut problems),
            internal_local: parse::policy(
                "internalTrafficPolicy",
                &spec.internal_traffic_policy,
                &mut problems,
            ),
            outside: Outside::read(service, &addresses, external_ips, &mut problems),
            addresses,
            affinity: affinity(spec, &mut problems),
            new_flow_rate: new_flow_rate(&metadata.annotations, &mut problems),
            selector: spec.selector.clone().into(),
            publish_not_ready: spec.publish_not_ready_addresses,
            headless: metadata.labels.contains_key(HEADLESS),
            health_check: health_check(spec),
        };
        ((!view.addresses.is_empty()).then_some(view), problems)
    }

    /// Whether the Service selects Pods with `labels`. A Service without a selector selects none.
    pub(super) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Service {
    /// What an API server would refuse the object for. A folder has none to do that: a slip of the pen there must not
    /// take a Service away.
    pub(crate) fn refused(&self) -> Option<String> {
        let ServiceSpec { cluster_ip, cluster_ips, ports, r#type, .. } = &self.spec;
        let mut given = cluster_ips.iter().chain([cluster_ip]).filter(|ip| !ip.trim().is_empty());
        if r#type == "ExternalName" || given.clone().any(|ip| ip == "None") {
            return None;
        }
        if let Some(ip) = given.find(|ip| parse::unicast(ip).is_none()) {
            return Some(format!("spec.clusterIP: `{ip}` is not an address that a Service can have"));
        }
        ports.is_empty().then(|| "spec.ports: a Service needs at least one port".to_owned())
    }
}

/// The ClusterIPs: those whose family `ipFamilies` confirms (B14), or all where it is empty.
fn addresses(spec: &ServiceSpec, problems: &mut Vec<Complaint>) -> Vec<IpAddr> {
    let given = match spec.cluster_ips.as_slice() {
        [] => std::slice::from_ref(&spec.cluster_ip),
        all => all,
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (position, text) in given.iter().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let Some(addr) = parse::unicast(text) else {
            let text = format!("clusterIP `{text}` is not an address that a Service can have: left out");
            problems.push(Reason::InvalidAddress.because(text));
            continue;
        };
        let family = Family::of(&addr);
        let confirmed = match spec.ip_families.as_slice() {
            [] => true,
            families => families.get(position).is_some_and(|name| name == family.kubernetes_name()),
        };
        if !confirmed {
            let text = format!("clusterIP {addr} does not match spec.ipFamilies: left out");
            problems.push(Reason::InvalidAddress.because(text));
        } else if addresses.iter().any(|other| Family::of(other) == family) {
            let text = format!("clusterIP {addr} is the second of its family: left out");
            problems.push(Reason::InvalidAddress.because(text));
        } else {
            addresses.push(addr);
        }
    }
    if addresses.is_empty() && problems.is_empty() {
        problems.push(Reason::InvalidAddress.because("it has no address: write one into spec.clusterIP"));
    }
    addresses
}

fn ports(spec: &ServiceSpec, problems: &mut Vec<Complaint>) -> Vec<PortView> {
    let mut ports: Vec<PortView> = Vec::with_capacity(spec.ports.len());
    for given in &spec.ports {
        match port(given, &ports) {
            Ok(port) => ports.push(PortView {
                node_port: NonZeroU16::new(given.node_port).filter(|_| external::has_node_ports(spec)),
                ..port
            }),
            Err(text) => problems.push(Reason::InvalidPort.because(text)),
        }
    }
    if spec.ports.is_empty() {
        problems.push(Reason::InvalidPort.because("it has no ports"));
    }
    ports
}

fn port(given: &ServiceSpecPort, others: &[PortView]) -> Result<PortView, String> {
    let ServiceSpecPort { name, protocol, port, target_port, .. } = given;
    let refuse = |reason: &dyn Display| Err(format!("port `{name}` ({port}) is left out: {reason}"));
    let Some(proto) = parse::proto(protocol) else {
        return refuse(&format_args!("there is no protocol `{protocol}`"));
    };
    if *port == 0 {
        return refuse(&"a port number is from 1 to 65535");
    }
    if name.len() > MAX_NAME {
        return refuse(&format_args!("its name is longer than {MAX_NAME} characters"));
    }
    if others.iter().any(|other| *other.name == **name && other.proto == proto) {
        return refuse(&format_args!("another {proto} port has the same name"));
    }
    let target = match target_port {
        None | Some(TargetPort::Number(0)) => TargetPort::Number(*port),
        Some(target) => target.clone(),
    };
    Ok(PortView { name: name.as_str().into(), proto, port: *port, node_port: None, target })
}

/// The health check port: it says which nodes have endpoints, which only an external policy Local makes matter (B24).
fn health_check(spec: &ServiceSpec) -> Option<NonZeroU16> {
    let asked = spec.r#type == "LoadBalancer" && spec.external_traffic_policy == "Local";
    NonZeroU16::new(spec.health_check_node_port).filter(|_| asked)
}

/// The timeout of session affinity, if there is any (B23).
fn affinity(spec: &ServiceSpec, problems: &mut Vec<Complaint>) -> Option<NonZeroU32> {
    match spec.session_affinity.as_str() {
        "ClientIP" => {}
        "" | "None" => return None,
        other => {
            let text = format!("there is no sessionAffinity `{other}`: None is used");
            problems.push(Reason::InvalidValue.because(text));
            return None;
        }
    }
    let Some(given) = spec.session_affinity_config.client_ip.timeout_seconds else {
        return Some(DEFAULT_AFFINITY);
    };
    let seconds =
        u32::try_from(given).ok().filter(|seconds| *seconds <= MAX_AFFINITY).and_then(NonZeroU32::new);
    if seconds.is_none() {
        problems.push(Reason::InvalidValue.because(format!(
            "sessionAffinityConfig.clientIP.timeoutSeconds is {given}, but must be from 1 to {MAX_AFFINITY}: \
             {DEFAULT_AFFINITY} is used"
        )));
    }
    Some(seconds.unwrap_or(DEFAULT_AFFINITY))
}

/// The limit on new flows, if there is any.
fn new_flow_rate(annotations: &Annotations, problems: &mut Vec<Complaint>) -> Option<NonZeroU32> {
    let given = annotations.new_flow_rate.as_deref()?;
    let rate = given.trim().parse().ok().filter(|rate: &NonZeroU32| rate.get() <= MAX_NEW_FLOW_RATE);
    if rate.is_none() {
        problems.push(Reason::InvalidValue.because(format!(
            "annotation lb.sluice/new-flow-rate is `{given}`, but must be a number of flows a second from 1 to \
             {MAX_NEW_FLOW_RATE}: no limit is used"
        )));
    }
    rate
}
