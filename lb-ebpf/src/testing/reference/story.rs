//! What happens on the node, and how any bytes are a story.

use core::net::{IpAddr, SocketAddr};
use std::vec::Vec;

use lb_common::{Point, Proto};

use super::cast::{self, CLIENTS, NODE_PORT, PORTS, SERVICES};
use super::node::{ServicePort, State};
use crate::testing::fixtures::Scene;
use crate::testing::packet::{Checksum, Packet, TO_POD, UDP, flags};

/// One thing that happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A packet comes by, summed by the device that received it or not.
    Packet(Point, Packet, bool),
    /// The client of a connection, the `nth` of those that there are (counted round), sends a packet more with these TCP
    /// flags.
    More {
        /// Which connection.
        nth: u8,
        /// TCP flags.
        flags: u8,
    },
    /// Its endpoint answers.
    Answer {
        /// Which connection.
        nth: u8,
        /// TCP flags.
        flags: u8,
    },
    /// Its client sends a packet to its endpoint itself, from the port that the endpoint knows.
    Past {
        /// Which connection.
        nth: u8,
        /// TCP flags.
        flags: u8,
    },
    /// So many seconds pass.
    Idle(u32),
    /// The sweep runs.
    Sweep,
    /// An endpoint of a Service port is in this state from now on, or all are.
    Endpoint {
        /// Place of the Service port in the node's list.
        service: usize,
        /// Place of the endpoint in its pool; `None`: all.
        place: Option<usize>,
        /// Its state.
        state: State,
    },
    /// This is so of the Service from now on, or not.
    Set(usize, Setting, bool),
}

/// What may be so of a Service, or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// It is there.
    Exists,
    /// Its `internalTrafficPolicy` is Local.
    InternalLocal,
    /// Its `externalTrafficPolicy` is Local.
    ExternalLocal,
    /// It has source ranges.
    Guarded,
}

impl Setting {
    pub(super) const fn of(self, port: &mut ServicePort) -> &mut bool {
        match self {
            Self::Exists => &mut port.exists,
            Self::InternalLocal => &mut port.internal_local,
            Self::ExternalLocal => &mut port.external_local,
            Self::Guarded => &mut port.guarded,
        }
    }
}

/// The longest story: all its connections fit into the tables.
const LENGTH: usize = 56;

/// The story that `bytes` tell. Any bytes tell one; a change of a byte changes it little, but for the first, which says
/// what the story is about.
#[must_use]
pub fn decode(bytes: &[u8]) -> Vec<Event> {
    let (about, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let mut reader = Reader { bytes, about: *about };
    let mut events = Vec::new();
    while events.len() < LENGTH && !reader.bytes.is_empty() {
        events.push(event(&mut reader));
    }
    events
}

/// Bytes, and zeros behind them.
struct Reader<'b> {
    bytes: &'b [u8],
    /// Bit 0: one family and protocol only (bits 1 and 2 say which); bit 3: one client only, an endpoint; bit 4: clients
    /// outside this node only.
    about: u8,
}

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn pick<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[usize::from(self.byte()) % N]
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Number of a family and protocol, in the order of the node's Service ports.
    fn half(&mut self) -> usize {
        if self.about & 1 == 0 { self.below(4) } else { usize::from(self.about >> 1 & 3) }
    }

    fn scene(&mut self) -> Scene {
        let half = self.half();
        cast::scene(half / 2 == 1, [Proto::Tcp, Proto::Udp][half % 2])
    }

    fn service(&mut self) -> usize {
        self.half() * SERVICES + self.below(SERVICES)
    }

    /// Who sends, and where.
    fn sender(&mut self, scene: &Scene) -> (Point, IpAddr) {
        let senders = cast::senders(scene);
        let (pods, others) = senders.split_at(CLIENTS.len());
        if self.about & 8 != 0 {
            return pods[2];
        }
        let from = if self.about & 16 != 0 { others } else { &senders };
        from[self.below(from.len())]
    }
}

/// The flags of segments that are sent, the usual ones often.
const FLAGS: [u8; 12] = [
    flags::SYN,
    flags::SYN,
    flags::SYN,
    flags::SYN | flags::ACK,
    flags::ACK,
    flags::ACK,
    flags::PSH | flags::ACK,
    flags::FIN | flags::ACK,
    flags::FIN | flags::ACK,
    flags::RST,
    flags::RST | flags::ACK,
    0,
];

fn event(bytes: &mut Reader<'_>) -> Event {
    match bytes.byte() % 17 {
        0..=6 => {
            let scene = bytes.scene();
            let (point, client) = bytes.sender(&scene);
            let client = SocketAddr::new(client, bytes.pick(PORTS));
            // The last ones are no Service ports, beside others that are.
            let to = [
                scene.web(),
                scene.vip(11, 80),
                scene.vip(10, 81),
                scene.vip(12, 8000),
                scene.external(1, 80),
                scene.external(2, 80),
                scene.node(NODE_PORT),
                scene.vip(10, 82),
                scene.external(1, 82),
                scene.node(22),
            ];
            let (to, flags) = (bytes.pick(to), bytes.pick(FLAGS));
            dressed(point, scene.packet(client, to, flags), bytes.byte())
        }
        7 | 8 => Event::More { nth: bytes.byte(), flags: bytes.pick(FLAGS) },
        9..=11 => Event::Answer { nth: bytes.byte(), flags: bytes.pick(FLAGS) },
        12 => stray(bytes),
        // Beside every lifetime.
        13 => match bytes.pick([0, 1, 2, 4, 6, 11, 31, 61, 100, 121, 3_601, 86_401]) {
            0 => Event::Sweep,
            seconds => Event::Idle(seconds),
        },
        14 => {
            let states = [State::Absent, State::Ready, State::Terminating, State::Serving, State::Unready];
            Event::Endpoint {
                service: bytes.service(),
                place: bytes.pick([Some(0), Some(1), Some(2), None]),
                state: bytes.pick(states),
            }
        }
        15 => Event::Past { nth: bytes.byte(), flags: bytes.pick(FLAGS) },
        _ => {
            let service = bytes.service();
            let settings =
                [Setting::Exists, Setting::InternalLocal, Setting::ExternalLocal, Setting::Guarded];
            let how = bytes.byte();
            Event::Set(service, settings[usize::from(how >> 1 & 3)], how & 1 != 0)
        }
    }
}

/// A packet from anywhere to anywhere, at either hook.
fn stray(bytes: &mut Reader<'_>) -> Event {
    let scene = bytes.scene();
    let mut end = || {
        bytes.pick([
            scene.pod(7, 40_000),
            scene.pod(8, 1024),
            scene.endpoint(1),
            scene.endpoint(2),
            scene.node(1024),
            scene.node(8080),
            scene.node(NODE_PORT),
            scene.web(),
            scene.vip(11, 80),
            scene.external(1, 80),
            scene.outside(7, 443),
            scene.outside(8, 443),
        ])
    };
    let (src, dst) = (end(), end());
    let point = bytes.pick(Point::ALL);
    let flags = bytes.pick(FLAGS);
    let mut packet = scene.packet(src, dst, flags);
    if point == Point::PodEgress {
        packet.macs = TO_POD;
    }
    dressed(point, packet, bytes.byte())
}

/// The packet with what the datapath must not care about: checksum state, options, length.
fn dressed(point: Point, mut packet: Packet, dress: u8) -> Event {
    let v4 = packet.src.is_ipv4();
    let summed = dress & 3 == 1;
    packet.checksum = match dress & 3 {
        2 => Checksum::Partial,
        3 if v4 && packet.proto() == UDP => Checksum::Absent,
        _ => Checksum::Complete,
    };
    if dress & 4 != 0 {
        packet = if v4 {
            packet.options([7, 7, 4, 0, 0, 0, 0, 1].to_vec())
        } else {
            packet.extension(0, [5, 2, 0, 0, 1, 0].to_vec())
        };
    }
    match dress >> 3 & 3 {
        0 => {}
        1 => packet.data.clear(),
        2 => packet.data = [0xff; 61].to_vec(),
        _ => packet.data = (0..=255).cycle().take(1001).collect(),
    }
    Event::Packet(point, packet, summed)
}
