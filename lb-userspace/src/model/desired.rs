//! What the model says should be: the input of the plan.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use lb_common::FrontendKind;

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
}
