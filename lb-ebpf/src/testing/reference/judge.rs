//! What a packet must become, given what the node knows.

use core::net::SocketAddr;
use std::format;
use std::string::String;
use std::vec::Vec;

use lb_common::{Lifetimes, Point, Proto, Reason};

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
struct Expected {
    verdict: Verdict,
    reason: Reason,
    /// The packet afterwards; `None` if it was dropped.
    packet: Option<Packet>,
}

impl Expected {
    const fn pass(reason: Reason, packet: Packet) -> Self {
        Self { verdict: Verdict::Pass, reason, packet: Some(packet) }
    }

    const fn drop(reason: Reason) -> Self {
        Self { verdict: Verdict::Drop, reason, packet: None }
    }
}

/// A packet as the node sees it.
struct Seen<'p> {
    packet: &'p Packet,
    proto: Proto,
    src: SocketAddr,
    dst: SocketAddr,
    /// TCP flags; 0 for a datagram.
    flags: u8,
}

impl Seen<'_> {
    const fn opens(&self) -> bool {
        self.flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN
    }

    const fn resets(&self) -> bool {
        self.flags & flags::RST != 0
    }
}

impl Node {
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
        let seen = Seen { packet, proto, src, dst, flags };
        match (point, self.find(proto, src, dst)) {
            (Point::PodIngress, None) => self.opened(&seen, outcome),
            (Point::PodIngress, Some((at, Way::There))) if self.begins_anew(at, &seen) => {
                self.reopened(at, &seen, outcome)
            }
            (Point::PodIngress, Some((at, Way::There))) => Ok(self.follow(at, Way::There, &seen)),
            (Point::PodIngress, Some((at, Way::Back))) if self.connections[at].hairpin => {
                Ok(self.follow(at, Way::Back, &seen))
            }
            (Point::PodEgress, Some((at, Way::Back))) if !self.connections[at].hairpin => {
                Ok(self.follow(at, Way::Back, &seen))
            }
            (_, Some(_)) => untouched(Reason::OtherPoint),
            // Neither selects.
            (Point::PodEgress | Point::OutwardIngress | Point::OutwardEgress, None) => {
                untouched(Reason::NotService)
            }
        }
    }

    /// Whether a packet of a known connection asks for another one: a SYN after its end, a datagram after its time.
    fn begins_anew(&self, at: usize, seen: &Seen<'_>) -> bool {
        let connection = &self.connections[at];
        let expired = connection.has_expired(&LIFETIMES, self.now);
        match seen.proto {
            Proto::Tcp | Proto::Sctp => seen.opens() && (connection.is_over(&LIFETIMES) || expired),
            Proto::Udp => expired || !self.services[connection.service].still_serves(connection.pooled),
        }
    }

    fn reopened(&mut self, at: usize, seen: &Seen<'_>, outcome: Outcome<'_>) -> Result<Expected, String> {
        let served = self.served(seen.proto, seen.dst).and_then(|service| self.services[service].select());
        if served.is_err() {
            let kept = seen.proto == Proto::Udp && !self.connections[at].has_expired(&LIFETIMES, self.now);
            // A datagram has nowhere better to go while no endpoint serves (B98).
            return if kept { Ok(self.follow(at, Way::There, seen)) } else { self.opened(seen, outcome) };
        }
        self.connections.remove(at);
        let mut expected = self.opened(seen, outcome)?;
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
        let hairpin = connection.hairpin;
        translated(seen.packet, src, dst, hairpin, reason)
    }

    /// A packet that belongs to no connection.
    fn opened(&mut self, seen: &Seen<'_>, outcome: Outcome<'_>) -> Result<Expected, String> {
        let selected = self
            .served(seen.proto, seen.dst)
            .and_then(|service| self.services[service].select().map(|set| (service, set)));
        let (service, set) = match selected {
            Ok(selected) => selected,
            Err(Reason::NotService) => {
                self.make_way(seen);
                return Ok(Expected::pass(Reason::NotService, seen.packet.clone()));
            }
            Err(Reason::NoLocalEndpoints) => return Ok(Expected::drop(Reason::NoLocalEndpoints)),
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
        let hairpin = endpoint.ip() == seen.src.ip();
        if seen.resets() && !hairpin {
            return Ok(translated(seen.packet, seen.src, endpoint, false, Reason::ResetPassedOn));
        }
        self.take_source(seen, endpoint, source)?;
        let pool = &self.services[service].pool;
        let place = pool.iter().position(|it| it.addr == endpoint).unwrap_or_default();
        let mut shown = [Shown::default(); 2];
        shown[0].note(seen.flags);
        self.connections.push(Connection {
            proto: seen.proto,
            client: seen.src,
            frontend: seen.dst,
            source,
            endpoint,
            hairpin,
            service,
            pooled: (place, pool[place].generation),
            shown,
            seen: [self.now; 2],
        });
        let middle = seen.proto == Proto::Tcp && !seen.opens();
        let reason = if middle { Reason::FlowAdopted } else { Reason::FlowOpened };
        Ok(translated(seen.packet, source, endpoint, hairpin, reason))
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

    /// New connections take turns (B37). A segment from the middle of an unknown one goes where its like went before.
    fn take_turn(
        &mut self,
        service: usize,
        set: &[SocketAddr],
        endpoint: SocketAddr,
        seen: &Seen<'_>,
    ) -> Result<(), String> {
        let port = &mut self.services[service];
        let Some(at) = set.iter().position(|it| *it == endpoint) else {
            return Err(format!("{endpoint} is none of {set:?}"));
        };
        if seen.proto == Proto::Tcp && !seen.opens() {
            let before = *port.placed.entry((seen.src, seen.dst)).or_insert(endpoint);
            return same("by its hash", before, endpoint);
        }
        let expected = port.turn.and_then(|turn| set.get(turn)).unwrap_or(&endpoint);
        same("in turn", *expected, endpoint)?;
        port.turn = Some((at + 1) % set.len());
        Ok(())
    }

    /// A connection keeps its source unless it is a hairpin (B74), or the endpoint knows that source already from another
    /// connection that has not ended (B48); then the source gets another port, and a hairpin the node's address.
    fn take_source(
        &mut self,
        seen: &Seen<'_>,
        endpoint: SocketAddr,
        source: SocketAddr,
    ) -> Result<(), String> {
        let hairpin = endpoint.ip() == seen.src.ip();
        if !hairpin && self.free(seen.proto, endpoint, seen.src) {
            same("as source", seen.src, source)?;
        } else {
            let ip = if hairpin { cast::node(seen.src.is_ipv6(), 0).ip() } else { seen.src.ip() };
            same("as source", SocketAddr::new(ip, source.port()), source)?;
            if !cast::masquerade().any(|port| port == source.port()) {
                return Err(format!("{source} is not of the range for masquerading"));
            }
            if !self.free(seen.proto, endpoint, source) {
                return Err(format!("{endpoint} knows {source} from another connection"));
            }
        }
        // The one that it takes over.
        self.connections.retain(|it| (it.proto, it.endpoint, it.source) != (seen.proto, endpoint, source));
        Ok(())
    }

    /// Whether no connection that lives has this end.
    fn free(&self, proto: Proto, endpoint: SocketAddr, source: SocketAddr) -> bool {
        match self.find(proto, endpoint, source) {
            None => true,
            Some((_, Way::There)) => false,
            Some((at, Way::Back)) => self.connections[at].may_be_taken_over(&LIFETIMES, self.now),
        }
    }

    /// No free source port: true only if none is free towards the endpoint whose turn it was.
    fn exhausted(&mut self, service: usize, set: &[SocketAddr], seen: &Seen<'_>) -> Result<Expected, String> {
        let ports: Vec<u16> = cast::masquerade().collect();
        let stuck = |endpoint: &SocketAddr| {
            let hairpin = endpoint.ip() == seen.src.ip();
            let ip = if hairpin { cast::node(seen.src.is_ipv6(), 0).ip() } else { seen.src.ip() };
            let taken = |port: &u16| !self.free(seen.proto, *endpoint, SocketAddr::new(ip, *port));
            (hairpin || !self.free(seen.proto, *endpoint, seen.src)) && ports.iter().all(taken)
        };
        let turn = self.services[service].turn.filter(|_| seen.proto == Proto::Udp || seen.opens());
        let justified = match turn.and_then(|turn| set.get(turn)) {
            Some(endpoint) => stuck(endpoint),
            None => set.iter().any(stuck),
        };
        if !justified {
            return Err(format!("source ports towards {set:?} are free"));
        }
        if let Some(turn) = turn {
            self.services[service].turn = Some((turn + 1) % set.len());
        }
        Ok(Expected::drop(Reason::SnatPortsExhausted))
    }
}

/// The lifetimes that [`cast::config`] has.
const LIFETIMES: Lifetimes = Lifetimes::DEFAULT;

fn same(what: &str, expected: SocketAddr, got: SocketAddr) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("expected {expected} {what}, got {got}")) }
}

fn translated(packet: &Packet, src: SocketAddr, dst: SocketAddr, hairpin: bool, reason: Reason) -> Expected {
    let packet = packet.clone().between(src, dst);
    if !hairpin {
        return Expected::pass(reason, packet);
    }
    let macs = packet.macs.swapped();
    Expected { verdict: Verdict::Redirect, reason, packet: Some(packet.macs(macs)) }
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
