//! What a node knows: its Service ports, and the connections through them.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use lb_common::{FrontendKind, Proto, Reason};

use super::cast;
use super::connection::Connection;
use super::host::Host;
use crate::testing::tables::Service;

/// State of an endpoint, by its conditions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// There is none.
    Absent,
    /// Ready.
    Ready,
    /// Serving and terminating: used where a set has no ready one (B50, B51).
    Terminating,
    /// Serving, but neither ready nor terminating: not used, and not given up.
    Serving,
    /// Neither ready nor serving.
    Unready,
}

/// A place for an endpoint, which may be there or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pooled {
    /// Its address and port.
    pub addr: SocketAddr,
    /// Its state.
    pub state: State,
    /// Whether it is on this node.
    pub here: bool,
    /// Counts those that were there one after the other, from 1.
    pub generation: u32,
}

impl Pooled {
    const fn serves(&self) -> bool {
        matches!(self.state, State::Ready | State::Terminating | State::Serving)
    }
}

/// A port of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Protocol.
    pub proto: Proto,
    /// Where it is reached.
    pub frontends: Vec<(FrontendKind, SocketAddr)>,
    /// Whether the Service is there.
    pub exists: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Whether its LoadBalancer address is for some clients only.
    pub guarded: bool,
    /// Its endpoints.
    pub pool: Vec<Pooled>,
    /// Whose turn it is.
    pub(super) turns: Turns,
    /// What segments from the middle of unknown connections have been given, by who sent them where.
    pub(super) placed: BTreeMap<(SocketAddr, SocketAddr), SocketAddr>,
}

/// One rotation for all sets of a Service port: the n-th choice falls on place n of the set, counted round from a place
/// that shows at the first choice from a set of so many endpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Turns {
    choices: usize,
    starts: BTreeMap<usize, usize>,
}

impl Turns {
    /// The place whose turn it is among `len`, if that is known.
    pub(super) fn place(&self, len: usize) -> Option<usize> {
        self.starts.get(&len).map(|start| (start + self.choices) % len)
    }

    /// Place `place` among `len` was chosen.
    pub(super) fn chose(&mut self, place: usize, len: usize) {
        self.starts.insert(len, (place + len - self.choices % len) % len);
        self.passed();
    }

    /// There was a choice.
    pub(super) const fn passed(&mut self) {
        self.choices += 1;
    }
}

impl ServicePort {
    pub(super) fn new(proto: Proto, frontends: Vec<(FrontendKind, SocketAddr)>, pool: Vec<Pooled>) -> Self {
        let (placed, turns) = (BTreeMap::new(), Turns::default());
        let (internal_local, external_local, guarded) = (false, false, false);
        Self { proto, frontends, exists: true, internal_local, external_local, guarded, pool, turns, placed }
    }

    /// The ready ones, else those that terminate and still serve (B50, B51).
    fn usable(&self, counts: impl Fn(&Pooled) -> bool) -> Vec<SocketAddr> {
        let of = |state| {
            let pool = self.pool.iter().filter(|it| it.state == state && counts(it));
            pool.map(|it| it.addr).collect::<Vec<_>>()
        };
        let ready = of(State::Ready);
        if ready.is_empty() { of(State::Terminating) } else { ready }
    }

    fn cluster_set(&self) -> Vec<SocketAddr> {
        self.usable(|_| true)
    }

    fn local_set(&self) -> Vec<SocketAddr> {
        self.usable(|it| it.here)
    }

    /// Whether a client may use a frontend of this kind (B43).
    pub(super) fn admits(&self, kind: FrontendKind, client: IpAddr) -> bool {
        kind != FrontendKind::LoadBalancer || !self.guarded || cast::is_admitted(client)
    }

    /// The endpoints that new connections of a client to a frontend of this kind may use, or what becomes of them (B43,
    /// B45, B53 to B55, B57, B67, B69).
    pub(super) fn select(&self, kind: FrontendKind, client: IpAddr) -> Result<Vec<SocketAddr>, Reason> {
        if !self.admits(kind, client) {
            return Err(Reason::SourceNotInRange);
        }
        let cluster = self.cluster_set();
        if cluster.is_empty() {
            return Err(Reason::NoEndpoints);
        }
        let local = match kind {
            FrontendKind::ClusterIp => self.internal_local,
            _ => self.external_local && !cast::is_pod(client),
        };
        let set = if local { self.local_set() } else { cluster };
        if set.is_empty() { Err(Reason::NoLocalEndpoints) } else { Ok(set) }
    }

    /// Whether this endpoint, and no other that was there before or after it, serves (B96 to B98).
    pub(super) fn still_serves(&self, (place, generation): (usize, u32)) -> bool {
        self.pool.get(place).is_some_and(|it| it.generation == generation && it.serves())
    }

    /// As user space programs it; each place in the pool keeps its backend id.
    #[must_use]
    pub fn programmed(&self) -> Service {
        let serving = self.pool.iter().filter(|it| it.serves()).map(|it| it.addr);
        let frontends = self.frontends.iter().filter(|_| self.exists).copied();
        let (cluster_ips, others): (Vec<_>, _) =
            frontends.partition(|(kind, _)| *kind == FrontendKind::ClusterIp);
        let v6 = self.frontends.iter().any(|(_, addr)| addr.is_ipv6());
        Service {
            proto: self.proto,
            frontends: cluster_ips.into_iter().map(|(_, addr)| addr).collect(),
            others,
            cluster: self.cluster_set(),
            local: self.local_set(),
            serving: serving.collect(),
            retired: self.pool.iter().map(|it| it.addr).collect(),
            internal_local: self.internal_local,
            external_local: self.external_local,
            ranges: self.guarded.then(|| cast::ranges(v6).to_vec()),
            affinity: 0,
            new_flow_rate: 0,
            held: false,
        }
    }
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its Service ports.
    pub services: Vec<ServicePort>,
    /// Its connections, the oldest first.
    pub connections: Vec<Connection>,
    /// The host's own connections from node ports.
    pub(super) hosts: Vec<Host>,
    /// Addresses by which tables know packets, or have ever: what has none of them concerns nobody.
    pub(super) known: BTreeSet<IpAddr>,
    /// The time, nanoseconds.
    pub now: u64,
}

/// How a packet belongs to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// The client sends it.
    There,
    /// The endpoint answers.
    Back,
}

impl Node {
    /// A node with these Service ports.
    #[must_use]
    pub fn new(services: Vec<ServicePort>) -> Self {
        let known = services.iter().flat_map(|port| port.frontends.iter().map(|(_, at)| at.ip())).collect();
        Self { services, connections: Vec::new(), hosts: Vec::new(), known, now: 0 }
    }

    /// The connection that a packet belongs to.
    pub(super) fn find(&self, proto: Proto, src: SocketAddr, dst: SocketAddr) -> Option<(usize, Way)> {
        self.connections.iter().enumerate().find_map(|(at, it)| {
            if it.proto != proto {
                None
            } else if (it.client, it.frontend) == (src, dst) {
                Some((at, Way::There))
            } else if (it.endpoint, it.source) == (src, dst) {
                Some((at, Way::Back))
            } else {
                None
            }
        })
    }

    /// The Service port behind a destination, and by which frontend; or what becomes of what is sent there (B36, B41, B67,
    /// B73). Node ports are known by the one address that the node has in stories.
    pub(super) fn served(&self, proto: Proto, dst: SocketAddr) -> Result<(usize, FrontendKind), Reason> {
        let existing = self.services.iter().enumerate().filter(|(_, it)| it.exists);
        let here = existing.flat_map(|(at, it)| {
            let frontends = it.frontends.iter().filter(|(_, to)| to.ip() == dst.ip());
            frontends.map(move |(kind, to)| (at, it.proto, *kind, to.port()))
        });
        let here: Vec<_> = here.collect();
        match here.iter().find(|(_, served, _, port)| (*served, *port) == (proto, dst.port())) {
            Some((at, _, kind, _)) => Ok((*at, *kind)),
            None if here.is_empty() => Err(Reason::NotService),
            None if here.iter().any(|(_, _, kind, _)| *kind == FrontendKind::ClusterIp) => {
                Err(Reason::PortNotServed)
            }
            None => Err(Reason::NotServicePort),
        }
    }

    /// Why what begins something is not served that `reason` would let pass: where Services have their addresses, one
    /// that no Service has is silent (B73).
    pub(super) fn silenced(reason: Reason, dst: SocketAddr) -> Reason {
        let unallocated = reason == Reason::NotService && cast::is_allocated(dst.ip());
        if unallocated { Reason::AddressUnallocated } else { reason }
    }

    /// Changes a Service port. Where the sets for new connections are others then, what came from the middle may go
    /// elsewhere.
    pub fn change(&mut self, service: usize, change: impl FnOnce(&mut ServicePort)) {
        let Some(port) = self.services.get_mut(service) else { return };
        let sets = |port: &ServicePort| {
            (port.cluster_set(), port.local_set(), [port.internal_local, port.external_local])
        };
        let before = sets(port);
        change(port);
        if sets(port) != before {
            port.placed.clear();
        }
    }

    /// Removes what both ends have been silent about for longer than it may be.
    pub fn sweep(&mut self, lifetimes: &lb_common::Lifetimes) {
        let now = self.now;
        self.connections.retain(|it| !it.has_expired(lifetimes, now));
        self.hosts.retain(|it| !it.has_expired(lifetimes, now));
    }
}
