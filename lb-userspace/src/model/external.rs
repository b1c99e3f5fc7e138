//! Where a Service is reached beside its ClusterIPs, by whom, and under which policy.

use std::net::IpAddr;

use super::object::{Service, ServiceSpec};
use super::parse;
use super::range::Range;
use super::{Complaint, External, Family, Reason};

/// What a Service asks for besides ClusterIPs and node ports, of both families.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Outside {
    /// `spec.externalIPs`.
    pub(super) external_ips: Vec<IpAddr>,
    /// Addresses of load balancers that leave it to the nodes to take them (B19).
    pub(super) load_balancer_ips: Vec<IpAddr>,
    /// Who may use those (B43); `None`: the Service does not say.
    pub(super) source_ranges: Option<Vec<Range>>,
    /// `externalTrafficPolicy: Local`, if there is anything that it could be about (B22).
    pub(super) local: bool,
}

impl Outside {
    /// Reads `service`, whose ClusterIPs are `own`, its external IPs only if they are `served`. `None`: it asks for nothing of
    /// this.
    pub(super) fn read(
        service: &Service,
        own: &[IpAddr],
        served: bool,
        problems: &mut Vec<Complaint>,
    ) -> Option<Box<Self>> {
        let Service { spec, status, .. } = service;
        // Whatever the type is: a load balancer is where its status says (B20).
        let ingress = status.load_balancer.ingress.iter();
        let ingress = ingress.filter(|ingress| matches!(ingress.ip_mode.as_str(), "" | "VIP"));
        let ingress = ingress.map(|ingress| ingress.ip.as_str());
        let load_balancer_ips = addresses("load balancer IP", ingress, own, problems);
        let given = spec.external_ips.iter().map(String::as_str);
        let mut external_ips = addresses("external IP", given, own, problems);
        // What is both is guarded as that of a load balancer.
        external_ips.retain(|addr| load_balancer_ips.binary_search(addr).is_err());
        if !served && !external_ips.is_empty() {
            let text = "its external IPs are not served: they are switched off here (--external-ips=false)";
            problems.push(Reason::ExternalIpsOff.because(text));
            external_ips.clear();
        }
        let reachable = has_node_ports(spec) || served && !spec.external_ips.is_empty();
        let policy = parse::policy("externalTrafficPolicy", &spec.external_traffic_policy, problems);
        let outside = Self {
            external_ips,
            load_balancer_ips,
            source_ranges: source_ranges(spec, problems),
            local: reachable && policy,
        };
        (outside != Self::default()).then(|| Box::new(outside))
    }

    /// Those of its addresses that are of `family`: external IPs, and those of load balancers.
    pub(super) fn addresses(&self, family: Family) -> [impl Iterator<Item = IpAddr>; 2] {
        [&self.external_ips, &self.load_balancer_ips]
            .map(|list| list.iter().copied().filter(move |addr| Family::of(addr) == family))
    }

    /// Who may reach load balancer addresses of `family`: `None` means everybody. Ranges of the other family say nothing
    /// (B16), and one of length 0 is none (B18).
    pub(super) fn sources(&self, family: Family) -> Option<Vec<Range>> {
        let all = self.source_ranges.as_deref()?;
        let ranges: Vec<_> = all.iter().copied().filter(|range| range.family() == family).collect();
        let restricts = !ranges.is_empty() && ranges.iter().all(|range| range.bits != 0);
        // Not one of the ranges could be read: whom they would have kept out is not let in.
        (restricts || all.is_empty()).then_some(ranges)
    }
}

impl External {
    /// Whether nothing leads there.
    pub(super) fn is_empty(&self) -> bool {
        self.node_port.is_none() && self.external_ips.is_empty() && self.load_balancer_ips.is_empty()
    }
}

/// Whether the type of the Service is one with node ports.
pub(super) fn has_node_ports(spec: &ServiceSpec) -> bool {
    matches!(spec.r#type.as_str(), "NodePort" | "LoadBalancer")
}

/// The addresses among `texts`, sorted and distinct. The Service's `own` need no second mention.
fn addresses<'a>(
    what: &str,
    texts: impl Iterator<Item = &'a str>,
    own: &[IpAddr],
    problems: &mut Vec<Complaint>,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in texts.filter(|text| !text.trim().is_empty()) {
        match parse::unicast(text) {
            Some(addr) if own.contains(&addr) => {}
            Some(addr) => addresses.push(addr),
            None => {
                let text = format!("{what} `{text}` is not an address that a Service can have: left out");
                problems.push(Reason::InvalidAddress.because(text));
            }
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The ranges that can be read, sorted and distinct; `None` if there are none to be read.
fn source_ranges(spec: &ServiceSpec, problems: &mut Vec<Complaint>) -> Option<Vec<Range>> {
    let given = spec.load_balancer_source_ranges.iter().map(String::as_str);
    let given: Vec<_> = given.filter(|text| !text.trim().is_empty()).collect();
    let mut ranges = Vec::new();
    for text in &given {
        match parse::range(text) {
            Some(range) => ranges.push(range),
            None => problems.push(Reason::InvalidSourceRange.because(format!(
                "loadBalancerSourceRanges: `{text}` is no range, such as 192.0.2.0/24: left out"
            ))),
        }
    }
    ranges.sort_unstable();
    ranges.dedup();
    (!given.is_empty()).then_some(ranges)
}
