//! Packets that leave the node, and the host's own connections from node ports.

use core::net::SocketAddr;
use std::format;
use std::string::String;

use lb_common::{Effect, FrontendKind, Lifetimes, Masquerade, Point, Proto, Reason};

use super::cast::{self, NODE_PORT};
use super::connection::{Phase, Shown};
use super::judge::{Expected, Outcome, Seen, translated};
use super::node::{Node, Way};
use crate::testing::wire;

/// A connection of the host's own, from a port that is a node port too. What comes in is all that is seen of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Host {
    proto: Proto,
    port: SocketAddr,
    peer: SocketAddr,
    shown: Shown,
    seen: u64,
}

impl Host {
    /// Whether it has been silent for longer than it may be.
    pub(super) const fn has_expired(&self, lifetimes: &Lifetimes, now: u64) -> bool {
        let Phase { lifetime, .. } = Phase::of(self.proto, [self.shown; 2], lifetimes);
        now.saturating_sub(self.seen) > lifetime as u64 * 1_000_000_000
    }
}

impl Node {
    /// The host's own connection that a packet from `peer` to `port` belongs to.
    pub(super) fn host(&mut self, proto: Proto, peer: SocketAddr, port: SocketAddr) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|it| (it.proto, it.peer, it.port) == (proto, peer, port))
    }

    /// Such a packet has come in.
    pub(super) fn host_heard(&mut self, proto: Proto, peer: SocketAddr, port: SocketAddr, flags: u8) {
        let now = self.now;
        if let Some(host) = self.host(proto, peer, port) {
            host.shown.note(flags);
            host.seen = now;
        }
    }

    /// A packet at egress that belongs to no connection.
    pub(super) fn left(&mut self, seen: &Seen<'_>, outcome: Outcome<'_>) -> Result<Expected, String> {
        let reason = match seen.point {
            Point::PodEgress => Reason::NotService,
            _ => self.departed(seen.proto, seen.src, seen.dst, seen.opens()),
        };
        let passes = matches!(reason, Reason::NotService | Reason::NotServicePort | Reason::PassedOn);
        if reason.effect() == Effect::Drop {
            Ok(Expected::drop(reason))
        } else if passes && seen.begins() && self.is_beset(seen) {
            self.set_apart(seen, outcome)
        } else {
            Ok(Expected::pass(reason, seen.packet.clone()))
        }
    }

    /// Whether the answers to what the host sends would be taken for those of a connection.
    fn is_beset(&self, seen: &Seen<'_>) -> bool {
        let answers = match seen.point {
            Point::PodEgress => Point::PodIngress,
            _ => Point::OutwardIngress,
        };
        let other = self.find(seen.proto, seen.dst, seen.src);
        let known =
            other.is_some_and(|(at, way)| way == Way::Back && self.connections[at].answers() == answers);
        known && cast::masquerade().any(|port| port == seen.src.port())
    }

    /// The host's connection gets another source.
    fn set_apart(&mut self, seen: &Seen<'_>, outcome: Outcome<'_>) -> Result<Expected, String> {
        let own = (seen.src.ip(), false);
        if outcome.reason == Reason::SnatPortsExhausted {
            let stuck = self.is_stuck(seen, seen.dst, own);
            return if stuck {
                Ok(Expected::drop(outcome.reason))
            } else {
                Err("source ports are free".into())
            };
        }
        let source = wire::parse(outcome.bytes)?.source();
        let source = source.ok_or_else(|| format!("expected a source, got {outcome:?}"))?;
        self.take_source(seen, seen.dst, source, own)?;
        self.begin(seen.connection(source, seen.dst, self.now));
        Ok(translated(seen.packet, source, seen.dst, Masquerade::None, Reason::FlowOpened))
    }

    /// What becomes of a packet that leaves the node and is no connection's: the reason with which it passes, or is
    /// dropped.
    fn departed(&mut self, proto: Proto, src: SocketAddr, dst: SocketAddr, opens: bool) -> Reason {
        let begins = opens || proto == Proto::Udp;
        if !begins {
            return Reason::NotService;
        }
        let reason = match self.served(proto, dst) {
            Ok((_, FrontendKind::ClusterIp)) | Err(Reason::PortNotServed) => return Reason::LeftUntranslated,
            Ok((service, kind)) if !self.services[service].admits(kind, src.ip()) => {
                return Reason::SourceNotInRange;
            }
            Ok(_) => Reason::PassedOn,
            Err(reason) => Self::silenced(reason, dst),
        };
        if reason.effect() == Effect::Drop {
            return reason;
        }
        let is_node_port = src == cast::node(src.is_ipv6(), NODE_PORT) && self.served(proto, src).is_ok();
        if !is_node_port || self.find(proto, dst, src).is_some() {
            return reason;
        }
        let now = self.now;
        match self.host(proto, dst, src) {
            Some(host) => {
                if proto != Proto::Udp {
                    host.shown = Shown::default();
                }
                host.seen = now;
            }
            None => self.hosts.push(Host { proto, port: src, peer: dst, shown: Shown::default(), seen: now }),
        }
        Reason::HostFlow
    }
}
