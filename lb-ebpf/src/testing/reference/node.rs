//! What a node knows: its Service ports, and the connections through them.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::vec::Vec;

use lb_common::{Proto, Reason};

use super::connection::Connection;
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
    pub frontends: Vec<SocketAddr>,
    /// Whether the Service is there.
    pub exists: bool,
    /// `internalTrafficPolicy: Local`.
    pub local: bool,
    /// Its endpoints.
    pub pool: Vec<Pooled>,
    /// Whose turn it is in the set that new connections use; unknown until the first choice from that set.
    pub(super) turn: Option<usize>,
    /// What segments from the middle of unknown connections have been given, by who sent them where.
    pub(super) placed: BTreeMap<(SocketAddr, SocketAddr), SocketAddr>,
}

impl ServicePort {
    pub(super) const fn new(proto: Proto, frontends: Vec<SocketAddr>, pool: Vec<Pooled>) -> Self {
        let placed = BTreeMap::new();
        Self { proto, frontends, exists: true, local: false, pool, turn: None, placed }
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

    /// The endpoints that new connections may use, or what becomes of them (B53, B67, B69).
    pub(super) fn select(&self) -> Result<Vec<SocketAddr>, Reason> {
        let cluster = self.cluster_set();
        if cluster.is_empty() {
            return Err(Reason::NoEndpoints);
        }
        let set = if self.local { self.local_set() } else { cluster };
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
        Service {
            proto: self.proto,
            frontends: if self.exists { self.frontends.clone() } else { Vec::new() },
            cluster: self.cluster_set(),
            local: self.local_set(),
            serving: serving.collect(),
            retired: self.pool.iter().map(|it| it.addr).collect(),
            others: Vec::new(),
            internal_local: self.local,
            external_local: false,
            ranges: None,
            affinity: 0,
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
    pub const fn new(services: Vec<ServicePort>) -> Self {
        Self { services, connections: Vec::new(), now: 0 }
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

    /// The Service port behind a destination, or what becomes of what is sent there (B67, B73).
    pub(super) fn served(&self, proto: Proto, dst: SocketAddr) -> Result<usize, Reason> {
        let has = |it: &ServicePort, to: SocketAddr| it.exists && it.frontends.contains(&to);
        let known = |it: &ServicePort| it.exists && it.frontends.iter().any(|to| to.ip() == dst.ip());
        if let Some(at) = self.services.iter().position(|it| it.proto == proto && has(it, dst)) {
            return Ok(at);
        }
        let reason = if self.services.iter().any(known) { Reason::PortNotServed } else { Reason::NotService };
        Err(reason)
    }

    /// Changes a Service port. Where the set for new connections is another one then, turns begin anew.
    pub fn change(&mut self, service: usize, change: impl FnOnce(&mut ServicePort)) {
        let Some(port) = self.services.get_mut(service) else { return };
        let before = port.select();
        change(port);
        if port.select() != before {
            port.turn = None;
            port.placed.clear();
        }
    }

    /// Removes what both ends have been silent about for longer than it may be.
    pub fn sweep(&mut self, lifetimes: &lb_common::Lifetimes) {
        let now = self.now;
        self.connections.retain(|it| !it.has_expired(lifetimes, now));
    }
}
