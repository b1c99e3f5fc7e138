//! What the model says should be: the input of the plan.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use lb_common::FrontendKind;

use super::Range;

/// An address and port at which a Service port is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Frontend {
    /// The address.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
    /// What kind of address it is.
    pub kind: FrontendKind,
}

/// The desired state of one Service port of one family. All lists are sorted and without duplicates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// `spec.ports[].port`.
    pub port: u16,
    /// Where it is reached; no other Service port has any of them (B26). Never empty.
    pub frontends: Vec<Frontend>,
    /// Endpoints usable from anywhere (B50).
    pub cluster: Vec<SocketAddr>,
    /// Endpoints usable under a Local policy: those on this node (B51).
    pub local: Vec<SocketAddr>,
    /// Endpoints whose datagram flows stay (B96, B97): all that serve, used for new flows or not. Holds `cluster` and `local`.
    pub serving: Vec<SocketAddr>,
    /// `internalTrafficPolicy: Local`: ClusterIP frontends use `local` only (B53).
    pub internal_local: bool,
    /// Seconds for which a client keeps its endpoint after its last new connection (B62, B64); `None`: not at all.
    pub affinity: Option<NonZeroU32>,
    /// Flows that may begin a second on the packet path; `None`: any number.
    pub new_flow_rate: Option<NonZeroU32>,
    /// Where else it is to be reached. Boxed: most Services have nothing of it.
    pub external: Option<Box<External>>,
}

impl ServicePort {
    /// Whether not everybody may use the addresses of load balancers.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.external.as_ref().is_some_and(|external| external.source_ranges.is_some())
    }

    /// Address and port of all that leads to it; a node port has no address.
    pub fn places(&self) -> impl Iterator<Item = (Option<IpAddr>, u16)> {
        let frontends = self.frontends.iter().map(|frontend| (Some(frontend.addr), frontend.port));
        let external = self.external.iter().flat_map(|external| {
            let addresses = external.external_ips.iter().chain(&external.load_balancer_ips);
            let addresses = addresses.map(|addr| (Some(*addr), self.port));
            addresses.chain(external.node_port.map(|port| (None, port.get())))
        });
        frontends.chain(external)
    }
}

/// Where a Service port is reached beside its ClusterIP, in its family; nothing of it is another's (B26). Lists are
/// sorted and without duplicates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct External {
    /// The port at the addresses of nodes (B40); a load balancer may do without (B21).
    pub node_port: Option<NonZeroU16>,
    /// `spec.externalIPs` (B41), but for those of load balancers.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of load balancers (B42), but for those that send packets of their own (B19).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use those (B43); `None`: everybody (B18).
    pub source_ranges: Option<Vec<Range>>,
    /// `externalTrafficPolicy: Local`: `local` only, but for clients of the cluster (B22, B54, B55).
    pub local: bool,
}
