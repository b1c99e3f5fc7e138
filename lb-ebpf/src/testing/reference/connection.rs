//! One connection.

use core::net::SocketAddr;

use lb_common::{Lifetimes, Masquerade, Point, Proto};

use crate::testing::packet::flags;

/// What packets of one direction have shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// A SYN.
    pub syn: bool,
    /// Anything that is neither SYN nor RST.
    pub data: bool,
    /// A FIN.
    pub fin: bool,
    /// A RST, and no data since: data shows that the RST was forged or out of the window.
    pub rst: bool,
}

impl Shown {
    /// Takes note of a packet with these TCP flags (0 for a datagram).
    pub(super) const fn note(&mut self, tcp: u8) {
        if tcp & flags::RST != 0 {
            self.rst = true;
        } else if tcp & flags::SYN != 0 {
            self.syn = true;
        } else {
            self.data = true;
            self.rst = false;
            self.fin |= tcp & flags::FIN != 0;
        }
    }

    const fn anything(self) -> bool {
        self.syn || self.data || self.fin || self.rst
    }
}

/// A connection: `client` asked for `frontend`, and `source` talks to `endpoint`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Protocol.
    pub proto: Proto,
    /// Who asked.
    pub client: SocketAddr,
    /// What it asked for.
    pub frontend: SocketAddr,
    /// Whom the endpoint sees.
    pub source: SocketAddr,
    /// Who answers.
    pub endpoint: SocketAddr,
    /// Where the client's packets come by.
    pub point: Point,
    /// Whether the source is the node's, and so where packets go.
    pub masquerade: Masquerade,
    /// Position of the Service port in the node's list; `None`: it is a connection of the host's own, which needs another
    /// source.
    pub service: Option<usize>,
    /// Position of the endpoint in the Service port's pool, and which of those that were there one after the other.
    pub pooled: (usize, u32),
    /// What client and endpoint have shown.
    pub shown: [Shown; 2],
    /// When they were last heard of, nanoseconds.
    pub seen: [u64; 2],
}

/// How long a connection may be silent, seconds, and whether it is over.
pub(super) struct Phase {
    pub(super) lifetime: u32,
    over: bool,
}

impl Phase {
    /// As conntrack has it (B103), of a connection whose ends have shown this.
    pub(super) const fn of(proto: Proto, [client, endpoint]: [Shown; 2], lifetimes: &Lifetimes) -> Self {
        let (lifetime, over) = match proto {
            Proto::Udp if endpoint.anything() => (lifetimes.udp_replied, false),
            Proto::Udp => (lifetimes.udp_unreplied, false),
            Proto::Tcp | Proto::Sctp if client.rst || endpoint.rst => (lifetimes.tcp_close, true),
            Proto::Tcp | Proto::Sctp if client.fin && endpoint.fin => (lifetimes.tcp_time_wait, true),
            Proto::Tcp | Proto::Sctp if client.fin || endpoint.fin => (lifetimes.tcp_half_closed, false),
            Proto::Tcp | Proto::Sctp if !endpoint.anything() => (lifetimes.tcp_syn_sent, false),
            Proto::Tcp if client.data => (lifetimes.tcp_established, false),
            Proto::Sctp if client.data => (lifetimes.sctp_established, false),
            Proto::Tcp | Proto::Sctp => (lifetimes.tcp_syn_recv, false),
        };
        Self { lifetime, over }
    }
}

impl Connection {
    /// Where the endpoint's packets come by.
    pub(super) const fn answers(&self) -> Point {
        match (self.masquerade, self.point) {
            (Masquerade::Hairpin, point) => point,
            (Masquerade::Here, _) => Point::PodIngress,
            (Masquerade::Away, _) => Point::OutwardIngress,
            (Masquerade::None, Point::OutwardIngress) => Point::OutwardEgress,
            (Masquerade::None, Point::OutwardEgress) => Point::OutwardIngress,
            (Masquerade::None, Point::PodIngress) => Point::PodEgress,
            (Masquerade::None, Point::PodEgress) => Point::PodIngress,
        }
    }

    const fn phase(&self, lifetimes: &Lifetimes) -> Phase {
        Phase::of(self.proto, self.shown, lifetimes)
    }

    /// Whether both ends have sent their last packet: FIN from both, or RST from one.
    pub(super) const fn is_over(&self, lifetimes: &Lifetimes) -> bool {
        self.phase(lifetimes).over
    }

    /// Whether both ends have been silent for longer than the connection may.
    pub(super) const fn has_expired(&self, lifetimes: &Lifetimes, now: u64) -> bool {
        self.silent_for_more_than(self.phase(lifetimes).lifetime, now)
    }

    /// Whether another connection may take its source port.
    pub(super) const fn may_be_taken_over(&self, lifetimes: &Lifetimes, now: u64) -> bool {
        let Phase { lifetime, over } = self.phase(lifetimes);
        self.silent_for_more_than(if over { lifetimes.reuse_closed } else { lifetime }, now)
    }

    const fn silent_for_more_than(&self, seconds: u32, now: u64) -> bool {
        let limit = seconds as u64 * 1_000_000_000;
        let [client, endpoint] = self.seen;
        now.saturating_sub(client) > limit && now.saturating_sub(endpoint) > limit
    }
}
