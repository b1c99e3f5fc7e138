//! Where the datapath is free to choose: endpoints in turn, sources for them.

use core::net::{IpAddr, SocketAddr};
use std::format;
use std::string::String;

use lb_common::{FrontendKind, Masquerade, Point, Proto, Reason};

use super::cast;
use super::judge::{Expected, LIFETIMES, Seen};
use super::node::{Node, Way};

impl Node {
    /// New connections take turns (B37). A segment from the middle of an unknown one goes where its like went before.
    pub(super) fn take_turn(
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
        let expected = port.turns.place(set.len()).and_then(|place| set.get(place)).unwrap_or(&endpoint);
        same("in turn", *expected, endpoint)?;
        port.turns.chose(at, set.len());
        Ok(())
    }

    /// A connection keeps its source unless it is masqueraded (B74, B79), or the endpoint knows that source already from
    /// another connection that has not ended (B48); then the source gets another port, and one that is masqueraded the
    /// node's address.
    pub(super) fn take_source(
        &mut self,
        seen: &Seen<'_>,
        endpoint: SocketAddr,
        source: SocketAddr,
        (ip, draws): (IpAddr, bool),
    ) -> Result<(), String> {
        if !draws && self.free(seen.proto, endpoint, seen.src) {
            same("as source", seen.src, source)?;
        } else {
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
    fn free(&mut self, proto: Proto, endpoint: SocketAddr, source: SocketAddr) -> bool {
        if self.host(proto, endpoint, source).is_some() {
            return false;
        }
        match self.find(proto, endpoint, source) {
            None => true,
            Some((_, Way::There)) => false,
            Some((at, Way::Back)) => self.connections[at].may_be_taken_over(&LIFETIMES, self.now),
        }
    }

    /// No free source port: true only if none is free towards the endpoint whose turn it was.
    pub(super) fn exhausted(
        &mut self,
        service: usize,
        set: &[SocketAddr],
        seen: &Seen<'_>,
    ) -> Result<Expected, String> {
        let in_turn = seen.proto == Proto::Udp || seen.opens();
        let place = self.services[service].turns.place(set.len()).filter(|_| in_turn);
        let mut stuck =
            |endpoint: &SocketAddr| self.is_stuck(seen, *endpoint, self.source_of(seen, endpoint.ip()));
        let justified = match place.and_then(|place| set.get(place)) {
            Some(endpoint) => stuck(endpoint),
            None => set.iter().any(stuck),
        };
        if !justified {
            return Err(format!("source ports towards {set:?} are free"));
        }
        if in_turn {
            self.services[service].turns.passed();
        }
        Ok(Expected::drop(Reason::SnatPortsExhausted))
    }

    /// Whether an endpoint knows all sources that a connection may have.
    pub(super) fn is_stuck(
        &mut self,
        seen: &Seen<'_>,
        endpoint: SocketAddr,
        (ip, draws): (IpAddr, bool),
    ) -> bool {
        (draws || !self.free(seen.proto, endpoint, seen.src))
            && cast::masquerade().all(|port| !self.free(seen.proto, endpoint, SocketAddr::new(ip, port)))
    }

    /// Whether a connection is masqueraded, and how: a hairpin (B74), and towards another node what comes in from outside
    /// or from a client that is no pod (B76, B77, B80), but for what asks where `externalTrafficPolicy` is Local (B55).
    pub(super) fn masquerade(&self, seen: &Seen<'_>, endpoint: IpAddr) -> Masquerade {
        let keeps = self.served(seen.proto, seen.dst).is_ok_and(|(service, kind)| {
            kind != FrontendKind::ClusterIp && self.services[service].external_local
        });
        if endpoint == seen.src.ip() {
            Masquerade::Hairpin
        } else if cast::leads_out(endpoint)
            && (seen.point == Point::OutwardIngress || !cast::is_pod(seen.src.ip()) && !keeps)
        {
            Masquerade::Away
        } else {
            Masquerade::None
        }
    }

    /// The address that an endpoint sees, and whether the port is another one in any case.
    pub(super) fn source_of(&self, seen: &Seen<'_>, endpoint: IpAddr) -> (IpAddr, bool) {
        match self.masquerade(seen, endpoint) {
            Masquerade::None => (seen.src.ip(), false),
            _ => (cast::node(seen.src.is_ipv6(), 0).ip(), true),
        }
    }
}

fn same(what: &str, expected: SocketAddr, got: SocketAddr) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("expected {expected} {what}, got {got}")) }
}
