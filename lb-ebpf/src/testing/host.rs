//! Runs fixtures on the host.

use std::format;
use std::string::String;

use lb_common::{Addr4, Addr6, FlowKind, Point, Reason};

use super::bytes::Bytes;
use super::fixtures::{Exchange, Fixture, Held, Step};
use super::packet::{Checksum, SCTP};
use super::schedule::Schedule;
use super::tables::Tables;
use super::wire;
use super::world::{Counters, Cpu, Uplinks, World};
use crate::env::{FlowTable, Tables as _};
use crate::verdict::Verdict;

/// Plays `fixture` on a node with these programs at its uplinks; `arrive` may change the state in which its packets arrive. The world is returned as it is at the
/// end.
///
/// # Errors
/// The first thing that was not as the fixture says, in words.
pub fn play(fixture: &Fixture, uplinks: Uplinks, arrive: impl Fn(&Bytes) -> Bytes) -> Result<World, String> {
    let world = world_of(fixture, uplinks);
    for (number, step) in fixture.steps.iter().enumerate() {
        let judged = match step {
            Step::Packet(exchange) if !exchange.is_met(uplinks) => Ok(()),
            Step::Packet(exchange) => exchange_packet(&world, exchange, arrive(&exchange.input)),
            step => happen(&world, step),
        };
        judged.map_err(|fault| format!("{}, step {number}: {fault}", fixture.name))?;
    }
    Ok(world)
}

/// The world after the first `steps` steps of `fixture`, of which nobody judges the packets.
#[must_use]
pub fn after(fixture: &Fixture, uplinks: Uplinks, steps: usize) -> World {
    let world = world_of(fixture, uplinks);
    for step in fixture.steps.iter().take(steps) {
        match step {
            Step::Packet(exchange) if !exchange.is_met(uplinks) => {}
            Step::Packet(exchange) => {
                run(&world.on_cpu(0), exchange.point, &mut exchange.input.clone());
            }
            // What the tables hold is not judged either.
            step => drop(happen(&world, step)),
        }
    }
    world
}

/// The world that `fixture` begins with.
fn world_of(fixture: &Fixture, uplinks: Uplinks) -> World {
    let world = World::new(fixture.config, fixture.sizes, &Schedule::default()).uplinks(uplinks);
    world.program(&Tables::of(&fixture.services));
    for (proto, own, peer) in &fixture.sockets {
        world.connect(*proto, *own, *peer);
    }
    world
}

/// A step that is no packet.
fn happen(world: &World, step: &Step) -> Result<(), String> {
    match step {
        Step::Packet(_) => {}
        Step::Idle(seconds) => world.advance(seconds * 1_000_000_000),
        Step::Program(services) => world.program(&Tables::of(services)),
        Step::Sweep => {
            let cpu = world.on_cpu(1);
            let _ = (cpu.sweep::<Addr4>(), cpu.sweep::<Addr6>());
        }
        Step::Evict(kind) => evict(&world.on_cpu(1), world, *kind),
        Step::Holds(held) => {
            let holds = holds(world);
            if holds != *held {
                return Err(format!("expected {held:?}, is {holds:?}"));
            }
        }
    }
    Ok(())
}

fn evict(cpu: &Cpu<'_>, world: &World, kind: FlowKind) {
    let (v4, v6) = (world.flows4(FlowTable::Lru), world.flows6(FlowTable::Lru));
    for (key, _) in v4.iter().filter(|(_, value)| value.kind == kind as u8) {
        cpu.delete_flow(FlowTable::Lru, key);
    }
    for (key, _) in v6.iter().filter(|(_, value)| value.kind == kind as u8) {
        cpu.delete_flow(FlowTable::Lru, key);
    }
}

fn holds(world: &World) -> Held {
    let entries = |table| world.flows4(table).len() + world.flows6(table).len();
    Held { main: entries(FlowTable::Main), lru: entries(FlowTable::Lru), embryonic: world.embryonic() }
}

/// Lets one packet through the datapath.
pub fn run(cpu: &Cpu<'_>, point: Point, packet: &mut Bytes) -> Verdict {
    cpu.run(point, packet)
}

/// As [`run`], and tells the one reason that the packet left the datapath for.
///
/// # Errors
/// It was not one.
pub fn observe(world: &World, point: Point, packet: &mut Bytes) -> Result<(Verdict, Reason), String> {
    let before = world.reasons();
    let verdict = run(&world.on_cpu(0), point, packet);
    let changes = before.iter().zip(world.reasons()).map(|(before, after)| after - before);
    let counted = Reason::ALL.iter().zip(changes).filter(|(_, change)| *change != 0);
    match counted.collect::<std::vec::Vec<_>>().as_slice() {
        &[(reason, 1)] => Ok((verdict, *reason)),
        other => Err(format!("one packet, one reason: {other:?}")),
    }
}

fn exchange_packet(world: &World, exchange: &Exchange, mut packet: Bytes) -> Result<(), String> {
    let cpu = world.on_cpu(0);
    let (before, recorded, asked) = (world.counters(), world.events().len(), world.asked());
    let verdict = run(&cpu, exchange.point, &mut packet);
    let after = world.counters();
    let reasons = changed_reasons(&before, &after);
    if verdict != exchange.verdict || reasons != [(exchange.reason, 1)] {
        let (expected, reason) = (exchange.verdict, exchange.reason);
        return Err(format!("expected {expected:?} {reason:?}, got {verdict:?} {reasons:?}"));
    }
    exchange
        .judge(world.events().get(recorded..).unwrap_or_default())
        .map_err(|fault| format!("{:?}: {fault}", exchange.reason))?;
    if verdict != Verdict::Drop
        && let Some(text) = wire::difference(&exchange.output, packet.data())
    {
        return Err(format!("{:?}: {text}", exchange.reason));
    }
    // Before the host stack the way is found before the pair is made.
    let sent = cpu.take_sent().filter(|_| verdict != Verdict::Drop);
    if sent != exchange.leaves_by {
        return Err(format!(
            "{:?}: expected to leave by {:?}, left by {sent:?}",
            exchange.reason, exchange.leaves_by
        ));
    }
    if matches!(verdict, Verdict::Pass | Verdict::Route) && !packet.device_sum_holds() {
        return Err(format!("{:?}: the sum that the device took is not kept", exchange.reason));
    }
    if verdict != Verdict::Drop && packet.is_partial() {
        let completed = wire::parse(&packet.completed())?;
        if completed.proto() != SCTP && completed.checksum != Checksum::Complete {
            return Err(format!("{:?}: completed it is {completed:#?}", exchange.reason));
        }
    }
    exchange
        .judge_costs(cpu.take_early(), (cpu.take_accesses(), world.asked() - asked))
        .map_err(|fault| format!("{:?}: {fault}", exchange.reason))?;
    opened(&before, &after, exchange.opens)
}

fn changed_reasons(before: &Counters, after: &Counters) -> std::vec::Vec<(Reason, u64)> {
    let count = |counters: &Counters, reason| counters.reasons.get(reason).copied().unwrap_or(0);
    let changes = Reason::ALL.iter().map(|reason| (*reason, count(after, reason) - count(before, reason)));
    changes.filter(|(_, change)| *change != 0).collect()
}

fn opened(before: &Counters, after: &Counters, opens: Option<[u32; 2]>) -> Result<(), String> {
    let mut expected = [&before.services, &before.backends].map(|stats| {
        let connections = stats.iter().map(|(id, stats)| (*id, stats.connections));
        connections.collect::<std::collections::BTreeMap<u32, u64>>()
    });
    for (connections, id) in expected.iter_mut().zip(opens.into_iter().flatten()) {
        *connections.entry(id).or_default() += 1;
    }
    for (stats, expected) in [&after.services, &after.backends].into_iter().zip(expected) {
        let connections = stats.iter().map(|(id, stats)| (*id, stats.connections)).collect();
        if expected != connections {
            return Err(format!("connections: expected {expected:?}, got {connections:?}"));
        }
    }
    Ok(())
}
