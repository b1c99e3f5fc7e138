//! What a packet must become, given what the node knows.

use core::net::SocketAddr;
use std::format;
use std::string::String;
use std::vec::Vec;

use lb_common::{Lifetimes, Masquerade, Point, Proto, Reason};

use super::cast;
use super::connection::{Connection, Shown};
use super::node::{Node, Way};
use crate::testing::packet::{Packet, TCP, Transport, UDP, flags};
use crate::testing::wire;
use crate::verdict::Verdict;

/// What the datapath did with a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'o> {
    /// What it said.
    pub(super) verdict: Verdict,
    /// The one reason that it counted.
    pub(super) reason: Reason,
    /// The packet afterwards.
    pub(super) bytes: &'o [u8],
}

/// What must have been done.
pub(super) struct Expected {
    verdict: Verdict,
    reason: Reason,
    /// The packet afterwards; `None` if it was dropped.
    packet: Option<Packet>,
}

impl Expected {
    pub(super) const fn pass(reason: Reason, packet: Packet) -> Self {
        Self { verdict: Verdict::Pass, reason, packet: Some(packet) }
    }

    pub(super) const fn drop(reason: Reason) -> Self {
        Self { verdict: Verdict::Drop, reason, packet: None }
    }
}

/// A packet as the node sees it.
pub(super) struct Seen<'p> {
    pub(super) packet: &'p Packet,
    pub(super) point: Point,
    pub(super) proto: Proto,
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    /// TCP flags; 0 for a datagram.
    pub(super) flags: u8,
}

impl Seen<'_> {
    /// Whether it is met on its way out of the host's stack.
    const fn leaves(&self) -> bool {
        leaves(self.point)
    }

    /// The connection that it begins if it is the host's own, whose endpoint is to see `source`.
    pub(super) fn connection(&self, source: SocketAddr, endpoint: SocketAddr, now: u64) -> Connection {
        let mut shown = [Shown::default(); 2];
        shown[0].note(self.flags);
        Connection {
            proto: self.proto,
            client: self.src,
            frontend: self.dst,
            source,
            endpoint,
            point: self.point,
            masquerade: Masquerade::None,
            service: None,
            pooled: (0, 0),
            shown,
            seen: [now; 2],
        }
    }

    pub(super) const fn opens(&self) -> bool {
        self.flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN
    }

    /// Whether it may begin something. Of a datagram that cannot be told.
    pub(super) fn begins(&self) -> bool {
        self.opens() || self.proto == Proto::Udp
    }

    const fn resets(&self) -> bool {
        self.flags & flags::RST != 0
    }
}

/// Whether packets are met there on their way out of the host's stack.
const fn leaves(point: Point) -> bool {
    matches!(point, Point::PodEgress | Point::OutwardEgress)
}

impl Node {
    /// Whether anything is looked up for a packet: it has the address by which tables know what is met there, or may begin
    /// something with an address that no Service has.
    fn concerns(&self, seen: &Seen<'_>) -> bool {
        let knows = |end: SocketAddr| self.known.contains(&end.ip());
        knows(if seen.leaves() { seen.src } else { seen.dst })
            || seen.point == Point::OutwardEgress && knows(seen.dst)
            || seen.point != Point::PodEgress && seen.begins() && cast::is_allocated(seen.dst.ip())
    }

    /// Has a connection, whose packets are known from now on where they are met.
    pub(super) fn begin(&mut self, connection: Connection) {
        let Connection { client, frontend, source, endpoint, point, .. } = connection;
        for (point, src, dst) in [(point, client, frontend), (connection.answers(), endpoint, source)] {
            self.known.insert(if leaves(point) { src.ip() } else { dst.ip() });
        }
        self.connections.push(connection);
    }

    /// Compares what the datapath did with `packet` with what it had to do, and takes note of the packet.
    ///
    /// # Errors
    /// The difference, in words.
    pub(super) fn judge(
        &mut self,
        point: Point,
        packet: &Packet,
        outcome: Outcome<'_>,
    ) -> Result<(), String> {
        let expected = self.expected(point, packet, outcome)?;
        let Expected { verdict, reason, packet } = expected;
        if (verdict, reason) != (outcome.verdict, outcome.reason) {
            return Err(format!("expected {verdict:?} {reason:?}, got {outcome:?}"));
        }
        match packet.and_then(|packet| wire::difference(&packet.build(), outcome.bytes)) {
            Some(text) => Err(format!("{verdict:?} {reason:?}: {text}")),
            None => Ok(()),
        }
    }

    fn expected(&mut self, point: Point, packet: &Packet, outcome: Outcome<'_>) -> Result<Expected, String> {
        let untouched = |reason| Ok(Expected::pass(reason, packet.clone()));
        let proto = match packet.proto() {
            TCP => Proto::Tcp,
            UDP => Proto::Udp,
            _ => return untouched(Reason::OtherProtocol),
        };
        let (Some(src), Some(dst)) = (packet.source(), packet.destination()) else {
            return Err("a packet without ports".into());
        };
        let flags = if let Transport::Tcp { flags, .. } = packet.transport { flags } else { 0 };
        let seen = Seen { packet, point, proto, src, dst, flags };
        if !self.concerns(&seen) {
            return untouched(Reason::NotService);
        }
        if self.host(proto, src, dst).is_some() {
            if point != Point::OutwardIngress {
                return untouched(Reason::OtherPoint);
            }
            self.host_heard(proto, src, dst, flags);
            return untouched(Reason::HostFlow);
        }
        match (self.find(proto, src, dst), point) {
            (Some((at, Way::There)), _) if self.connections[at].point == point => {
                if self.begins_anew(at, &seen) {
                    self.reopened(at, &seen, outcome)
                } else {
                    Ok(self.follow(at, Way::There, &seen))
                }
            }
            (Some((at, Way::Back)), _) if self.connections[at].answers() == point => {
                Ok(self.follow(at, Way::Back, &seen))
            }
            (Some(_), _) => untouched(Reason::OtherPoint),
            (None, _) if seen.leaves() => self.left(&seen, outcome),
            (None, _) => self.opened(&seen, outcome),
        }
    }

    /// Whether a packet of a known connection asks for another one: a SYN after its end, a datagram after its time.
    fn begins_anew(&self, at: usize, seen: &Seen<'_>) -> bool {
        let connection = &self.connections[at];
        let expired = connection.has_expired(&LIFETIMES, self.now);
        match seen.proto {
            Proto::Tcp | Proto::Sctp => seen.opens() && (connection.is_over(&LIFETIMES) || expired),
            // The host's own has no endpoint that could stop.
            Proto::Udp => {
                let stopped = |service: usize| !self.services[service].still_serves(connection.pooled);
                expired || connection.service.is_some_and(stopped)
            }
        }
    }

    fn reopened(&mut self, at: usize, seen: &Seen<'_>, outcome: Outcome<'_>) -> Result<Expected, String> {
        if !seen.leaves() && self.selected(seen).is_err() {
            let kept = seen.proto == Proto::Udp && !self.connections[at].has_expired(&LIFETIMES, self.now);
            // A datagram has nowhere better to go while no endpoint serves (B98).
            return if kept { Ok(self.follow(at, Way::There, seen)) } else { self.opened(seen, outcome) };
        }
        self.connections.remove(at);
        let mut expected =
            if seen.leaves() { self.left(seen, outcome)? } else { self.opened(seen, outcome)? };
        if expected.reason == Reason::FlowOpened {
            expected.reason = Reason::FlowReopened;
        }
        Ok(expected)
    }

    /// A packet of a known connection.
    fn follow(&mut self, at: usize, way: Way, seen: &Seen<'_>) -> Expected {
        let connection = &mut self.connections[at];
        let side = if way == Way::There { 0 } else { 1 };
        connection.shown[side].note(seen.flags);
        connection.seen[side] = self.now;
        let (src, dst, reason) = match way {
            Way::There => (connection.source, connection.endpoint, Reason::FlowForward),
            Way::Back => (connection.frontend, connection.client, Reason::FlowReverse),
        };
        translated(seen.packet, src, dst, connection.masquerade, reason)
    }

    /// The Service port and the endpoints for a packet that begins a connection.
    fn selected(&self, seen: &Seen<'_>) -> Result<(usize, Vec<SocketAddr>), Reason> {
        let (service, kind) = self.served(seen.proto, seen.dst)?;
        self.services[service].select(kind, seen.src.ip()).map(|set| (service, set))
    }

    /// A packet that belongs to no connection.
    fn opened(&mut self, seen: &Seen<'_>, outcome: Outcome<'_>) -> Result<Expected, String> {
        let (service, set) = match self.selected(seen) {
            Ok(selected) => selected,
            Err(reason @ (Reason::NotService | Reason::NotServicePort)) => {
                if seen.begins() && Self::silenced(reason, seen.dst) != reason {
                    return Ok(Expected::drop(Self::silenced(reason, seen.dst)));
                }
                self.make_way(seen);
                return Ok(Expected::pass(reason, seen.packet.clone()));
            }
            Err(reason @ (Reason::NoLocalEndpoints | Reason::SourceNotInRange)) => {
                return Ok(Expected::drop(reason));
            }
            Err(reason) => return Ok(refused(seen, reason)),
        };
        if outcome.reason == Reason::SnatPortsExhausted {
            return self.exhausted(service, &set, seen);
        }
        let chosen = wire::parse(outcome.bytes)?;
        let (Some(source), Some(endpoint)) = (chosen.source(), chosen.destination()) else {
            return Err(format!("expected an endpoint of {set:?}, got {outcome:?}"));
        };
        self.take_turn(service, &set, endpoint, seen)?;
        let masquerade = self.masquerade(seen, endpoint.ip());
        if seen.resets() && masquerade != Masquerade::Hairpin {
            let none = Masquerade::None;
            return Ok(translated(seen.packet, seen.src, endpoint, none, Reason::ResetPassedOn));
        }
        self.take_source(seen, endpoint, source, self.source_of(seen, endpoint.ip()))?;
        let pool = &self.services[service].pool;
        let place = pool.iter().position(|it| it.addr == endpoint).unwrap_or_default();
        let pooled = (place, pool[place].generation);
        let begun = seen.connection(source, endpoint, self.now);
        self.begin(Connection { masquerade, service: Some(service), pooled, ..begun });
        let middle = seen.proto == Proto::Tcp && !seen.opens();
        let reason = if middle { Reason::FlowAdopted } else { Reason::FlowOpened };
        Ok(translated(seen.packet, source, endpoint, masquerade, reason))
    }

    /// What has ended stands in the way neither of a connection that is no Service's nor of the answers to it.
    fn make_way(&mut self, seen: &Seen<'_>) {
        let (ends, now) = ((seen.src, seen.dst), self.now);
        self.connections.retain(|it| {
            let ended = it.is_over(&LIFETIMES) || it.has_expired(&LIFETIMES, now);
            let answers = seen.opens() && it.client.ip() == seen.src.ip() && (it.source, it.endpoint) == ends;
            it.proto != seen.proto || !ended || !(answers || (it.client, it.frontend) == ends)
        });
    }
}

/// The lifetimes that [`cast::config`] has.
pub(super) const LIFETIMES: Lifetimes = Lifetimes::DEFAULT;

pub(super) fn translated(
    packet: &Packet,
    src: SocketAddr,
    dst: SocketAddr,
    masquerade: Masquerade,
    reason: Reason,
) -> Expected {
    let mut packet = packet.clone().between(src, dst);
    match masquerade {
        Masquerade::None => Expected::pass(reason, packet),
        Masquerade::Hairpin => {
            let macs = packet.macs.swapped();
            Expected { verdict: Verdict::Redirect, reason, packet: Some(packet.macs(macs)) }
        }
        Masquerade::Here | Masquerade::Away if cast::is_routed(dst.ip()) => {
            packet.hop_limit -= 1;
            Expected { verdict: Verdict::Route, reason, packet: Some(packet) }
        }
        Masquerade::Here | Masquerade::Away => Expected::drop(Reason::NoRoute),
    }
}

/// A RST for a SYN, nothing for a RST, else an ICMP error that quotes what was sent (B67, B68).
fn refused(seen: &Seen<'_>, reason: Reason) -> Expected {
    if seen.resets() {
        return Expected::drop(reason);
    }
    let scene = cast::scene(seen.src.is_ipv6(), seen.proto);
    let answer = if seen.opens() { scene.reset(seen.packet) } else { scene.unreachable(seen.packet) };
    Expected { verdict: Verdict::Redirect, reason, packet: Some(answer) }
}
