//! A story is played to the datapath and to the reference, side by side.

use core::fmt::Write as _;
use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use lb_common::{Addr4, Addr6, Point, Reason};

use super::cast;
use super::judge::Outcome;
use super::node::{Node, State};
use super::story::Event;
use crate::env::FlowTable;
use crate::testing::bytes::Bytes;
use crate::testing::host;
use crate::testing::packet::{Packet, TO_POD, flags};
use crate::testing::pairs::Faults;
use crate::testing::routes;
use crate::testing::schedule::Schedule;
use crate::testing::tables::Tables;
use crate::testing::world::{Sizes, Uplinks, World};
use crate::verdict::Verdict;

/// Room for all connections of the longest story, in either table.
const SIZES: Sizes = Sizes { main: 128, lru: 128 };

/// How often packets of a story left the datapath for each reason.
pub type Played = BTreeMap<Reason, u64>;

/// Plays `story`, on a node with tc alone at its uplinks and on one with XDP before it.
///
/// # Errors
/// The event after which datapath and reference disagree, and about what.
pub fn play(story: &[Event]) -> Result<Played, String> {
    let played = play_on(story, Uplinks::Tc)?;
    let early = play_on(story, Uplinks::Xdp).map_err(|fault| format!("XDP, {fault}"))?;
    if early == played { Ok(played) } else { Err(format!("{played:?}, and with XDP {early:?}")) }
}

fn play_on(story: &[Event], uplinks: Uplinks) -> Result<Played, String> {
    let world = World::new(cast::config(), SIZES, &Schedule::default()).uplinks(uplinks);
    let mut stage = Stage { world, node: Node::new(cast::services()), opened: BTreeMap::new() };
    stage.program();
    for (at, event) in story.iter().enumerate() {
        stage.play(event).map_err(|fault| format!("event {at}: {fault}"))?;
    }
    stage.tables_hold()?;
    Ok(stage.world.counters().reasons)
}

/// As [`play`], for a story that nobody has written: what fails is made short first.
///
/// # Errors
/// As [`play`]; and the events that suffice, one a line.
pub fn play_any(mut story: Vec<Event>) -> Result<Played, String> {
    let mut fault = match play(&story) {
        Ok(played) => return Ok(played),
        Err(fault) => fault,
    };
    let mut at = story.len();
    while at > 0 {
        at -= 1;
        let event = story.remove(at);
        match play(&story) {
            Ok(_) => story.insert(at, event),
            Err(other) => fault = other,
        }
    }
    Err(format!("{fault}\n{}", show(&story)))
}

/// The story in words, an event a line.
fn show(story: &[Event]) -> String {
    let mut text = String::new();
    for (at, event) in story.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = match event {
            Event::Packet(point, packet, summed) => {
                let ends = (packet.source(), packet.destination());
                writeln!(
                    text,
                    "{at}: {point:?} {ends:?} {:?} {:?} {} bytes, summed: {summed}",
                    packet.transport,
                    packet.checksum,
                    packet.data.len()
                )
            }
            other => writeln!(text, "{at}: {other:?}"),
        };
    }
    text
}

struct Stage {
    world: World,
    node: Node,
    /// Connections opened, by service id.
    opened: BTreeMap<u32, u64>,
}

impl Stage {
    fn play(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Packet(point, packet, summed) => return self.packet(*point, packet, *summed),
            Event::More { nth, flags } => return self.more(*nth, *flags),
            Event::Answer { nth, flags } => return self.answer(*nth, *flags),
            Event::Past { nth, flags } => return self.past(*nth, *flags),
            Event::Idle(seconds) => {
                let nanoseconds = u64::from(*seconds) * 1_000_000_000;
                self.world.advance(nanoseconds);
                self.node.now += nanoseconds;
            }
            Event::Sweep => {
                let cpu = self.world.on_cpu(1);
                let _ = (cpu.sweep::<Addr4>(), cpu.sweep::<Addr6>());
                self.node.sweep(&cast::config().lifetimes);
                return self.tables_hold();
            }
            Event::Endpoint { service, place, state } => {
                self.node.change(*service, |port| {
                    let chosen = |at: &usize| place.is_none_or(|place| place == *at);
                    for (_, pooled) in (0..).zip(&mut port.pool).filter(|(at, _)| chosen(at)) {
                        let comes = pooled.state == State::Absent && *state != State::Absent;
                        pooled.generation += u32::from(comes);
                        pooled.state = *state;
                    }
                });
                self.program();
            }
            Event::Set(service, setting, on) => {
                self.node.change(*service, |port| *setting.of(port) = *on);
                self.program();
            }
        }
        Ok(())
    }

    fn program(&self) {
        let services: Vec<_> = self.node.services.iter().map(super::node::ServicePort::programmed).collect();
        let mut tables = Tables::of(&services);
        let pooled = self.node.services.iter().flat_map(|port| &port.pool);
        for (id, pooled) in (1..).zip(pooled) {
            tables.renew(id, pooled.generation);
        }
        self.world.program(&tables);
    }

    fn more(&mut self, nth: u8, tcp: u8) -> Result<(), String> {
        let Some(connection) = self.nth(nth) else { return Ok(()) };
        let scene = cast::scene(connection.client.is_ipv6(), connection.proto);
        let packet = scene.packet(connection.client, connection.frontend, tcp);
        self.packet(connection.point, &packet, false)
    }

    fn answer(&mut self, nth: u8, tcp: u8) -> Result<(), String> {
        let Some(connection) = self.nth(nth) else { return Ok(()) };
        let scene = cast::scene(connection.client.is_ipv6(), connection.proto);
        // What begins with a SYN is answered with one, unless the story says otherwise.
        let tcp = if tcp == flags::SYN { tcp | flags::ACK } else { tcp };
        let packet = scene.packet(connection.endpoint, connection.source, tcp);
        match connection.answers() {
            Point::PodEgress => self.packet(Point::PodEgress, &packet.macs(TO_POD), false),
            point => self.packet(point, &packet, false),
        }
    }

    fn past(&mut self, nth: u8, tcp: u8) -> Result<(), String> {
        let Some(connection) = self.nth(nth) else { return Ok(()) };
        let scene = cast::scene(connection.client.is_ipv6(), connection.proto);
        let from = SocketAddr::new(connection.client.ip(), connection.source.port());
        self.packet(connection.point, &scene.packet(from, connection.endpoint, tcp), false)
    }

    fn nth(&self, nth: u8) -> Option<super::Connection> {
        let count = self.node.connections.len();
        self.node.connections.get(usize::from(nth).checked_rem(count)?).cloned()
    }

    fn packet(&mut self, point: Point, packet: &Packet, summed: bool) -> Result<(), String> {
        let mut bytes = if summed { Bytes::summed_by_device(packet.build()) } else { Bytes::of(packet) };
        bytes = bytes.by(routes::at(point));
        let (verdict, reason) = host::observe(&self.world, point, &mut bytes)?;
        if matches!(verdict, Verdict::Pass | Verdict::Route) && !bytes.device_sum_holds() {
            return Err(format!("{reason:?}: the sum that the device took is not kept"));
        }
        self.node.judge(point, packet, Outcome { verdict, reason, bytes: bytes.data() })?;
        if let (Reason::FlowOpened | Reason::FlowReopened | Reason::FlowAdopted, Some(newest)) =
            (reason, self.node.connections.last())
            && let Some(service) = newest.service
        {
            *self.opened.entry(u32::try_from(service + 1).unwrap_or(0)).or_default() += 1;
        }
        Ok(())
    }

    /// The flow tables hold the pair of each connection and nothing else; each connection was counted once.
    fn tables_hold(&self) -> Result<(), String> {
        let faults = Faults::of(&self.world);
        if !faults.none() {
            return Err(format!("{faults:#?}"));
        }
        let entries: usize = [FlowTable::Main, FlowTable::Lru]
            .into_iter()
            .map(|table| self.world.flows4(table).len() + self.world.flows6(table).len())
            .sum();
        if entries != 2 * self.node.connections.len() + self.node.hosts.len() {
            return Err(format!("{entries} entries for {:#?}", self.node));
        }
        let counted = self.world.counters().services.into_iter().map(|(id, stats)| (id, stats.connections));
        let counted: BTreeMap<u32, u64> = counted.filter(|(_, connections)| *connections != 0).collect();
        if counted != self.opened {
            return Err(format!("opened {:?}, counted {counted:?}", self.opened));
        }
        Ok(())
    }
}
