//! Every fixture that the kernel can play, with tc alone at the uplinks and with XDP before it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use lb_common::{Addr4, Addr6, Point, Reason};
use lb_ebpf::pkt::Pkt as _;
use lb_ebpf::testing::fixtures::{self, Exchange, Fixture, Scene, Step};
use lb_ebpf::testing::packet::Checksum;
use lb_ebpf::testing::routes;
use lb_ebpf::testing::tables::Tables;
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Counters, Sizes, Uplinks};
use lb_ebpf::verdict::Verdict;

use crate::kernel::{Arrival, Kernel};
use crate::node;

#[test]
fn fixtures_hold() -> Result<()> {
    node::enter()?;
    // A checksum that is left to the hardware cannot be asked for: the host tests and the lab have those.
    let playable = |fixture: &Fixture| !fixture.host_only && !fixture.is_partial();
    let mut by_sizes: BTreeMap<(usize, usize), Vec<Fixture>> = BTreeMap::new();
    for fixture in fixtures::all().into_iter().filter(playable) {
        let sizes = (fixture.sizes.main, fixture.sizes.lru);
        by_sizes.entry(sizes).or_default().push(fixture);
    }
    let (mut played, mut failures) = (0, Vec::new());
    for ((main, lru), fixtures) in by_sizes {
        let mut kernel = Kernel::load_early(Sizes { main, lru })?;
        for fixture in fixtures {
            played += 1;
            if let Err(fault) = play_both(&mut kernel, &fixture) {
                failures.push(format!("{}: {fault:#}", fixture.name));
            }
        }
    }
    assert!(played > 100, "only {played} fixtures");
    assert!(failures.is_empty(), "{} of {played} failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// Whoever counts a packet and makes its pair, the flow tables are the same in the end.
fn play_both(kernel: &mut Kernel, fixture: &Fixture) -> Result<()> {
    play(kernel, fixture, Uplinks::Tc)?;
    let alone = (kernel.pairs::<Addr4>()?, kernel.pairs::<Addr6>()?);
    play(kernel, fixture, Uplinks::Xdp).context("with XDP")?;
    let early = (kernel.pairs::<Addr4>()?, kernel.pairs::<Addr6>()?);
    ensure!(alone == early, "{alone:?}\nand with XDP {early:?}");
    Ok(())
}

/// A sample of what the host tests do at every length.
#[test]
fn b109_cut_packets_do_no_harm() -> Result<()> {
    node::enter()?;
    let whole = Sizes::default();
    let playable = |fixture: &Fixture| !fixture.host_only && !fixture.is_partial() && fixture.sizes == whole;
    let mut kernel = Kernel::load_early(whole)?;
    let stride = if std::env::var_os("SLUICE_TEST_LONG").is_some() { 2503 } else { 10_007 };
    let (mut cuts, mut failures) = (0, Vec::new());
    for fixture in fixtures::all().into_iter().filter(playable) {
        for (number, step) in fixture.steps.iter().enumerate() {
            let Step::Packet(exchange) = step else { continue };
            for len in 0..exchange.input.data().len() {
                cuts += 1;
                if cuts % stride != 0 {
                    continue;
                }
                for uplinks in [Uplinks::Tc, Uplinks::Xdp] {
                    if let Err(fault) = play_cut(&mut kernel, &fixture, uplinks, number, exchange, len) {
                        failures
                            .push(format!("{}, {uplinks:?}, step {number}, {len}: {fault:#}", fixture.name));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// A frame whose end lies in another page is tc's from the start.
#[test]
fn frames_in_several_pieces_go_up() -> Result<()> {
    node::enter()?;
    let mut kernel = Kernel::load_early(Sizes::default())?;
    for scene in Scene::ALL.into_iter().filter(|scene| scene.checksum == Checksum::Complete) {
        kernel.reset(&scene.config())?;
        kernel.program(&Tables::of(&[scene.service(0)]))?;
        let whole = scene.first(scene.outside(7, 40_000), scene.web());
        for (length, verdict) in [(100, Verdict::Redirect), (6000, Verdict::Pass)] {
            let packet = whole.clone().data(vec![0x5a; length]);
            let arrival = Arrival::of(&Exchange::outward(&packet).input);
            let mut frame = packet.build();
            ensure!(kernel.run_early(arrival, &mut frame)? == Some(verdict), "{scene}, {length}");
            ensure!(verdict != Verdict::Pass || frame == packet.build(), "{scene}: changed, and goes up");
        }
    }
    Ok(())
}

/// Plays the first `steps` steps of `fixture`, then the first `len` bytes of the packet that comes next.
fn play_cut(
    kernel: &mut Kernel,
    fixture: &Fixture,
    uplinks: Uplinks,
    steps: usize,
    exchange: &Exchange,
    len: usize,
) -> Result<()> {
    let before = Fixture { steps: fixture.steps[..steps].to_vec(), ..fixture.clone() };
    play(kernel, &before, uplinks)?;
    let mut packet = exchange.input.data()[..len].to_vec();
    let counters = kernel.counters()?;
    let Some((verdict, _)) = pass(kernel, uplinks, exchange, &mut packet)? else { return Ok(()) };
    let reasons = changed_reasons(&counters, &kernel.counters()?);
    let [(reason, 1)] = reasons[..] else { bail!("one packet, one reason: {reasons:?}") };
    exchange.judge_cut(len, &packet, verdict, reason).map_err(anyhow::Error::msg)
}

fn play(kernel: &mut Kernel, fixture: &Fixture, uplinks: Uplinks) -> Result<()> {
    kernel.reset(&fixture.config)?;
    kernel.program(&Tables::of(&fixture.services))?;
    for (number, step) in fixture.steps.iter().enumerate() {
        match step {
            Step::Idle(seconds) => kernel.age(*seconds)?,
            Step::Program(services) => kernel.program(&Tables::of(services))?,
            Step::Sweep => {
                kernel.sweep(4, 0)?;
                kernel.sweep(6, 0)?;
            }
            Step::Evict(kind) => kernel.evict(*kind)?,
            Step::Holds(held) => {
                let holds = kernel.holds()?;
                ensure!(holds == *held, "step {number}: expected {held:?}, is {holds:?}");
            }
            Step::Packet(exchange) if !exchange.is_met(uplinks) => {}
            Step::Packet(exchange) => {
                exchange_packet(kernel, uplinks, exchange).with_context(|| format!("step {number}"))?;
                kernel.hold_rates()?;
            }
        }
    }
    Ok(())
}

/// Lets the packet through the programs that it meets: the verdict, and whether it was XDP's, if it meets that. `None` if
/// the kernel takes no packet of this length.
fn pass(
    kernel: &Kernel,
    uplinks: Uplinks,
    exchange: &Exchange,
    packet: &mut Vec<u8>,
) -> Result<Option<(Verdict, Option<bool>)>> {
    let arrival = Arrival::of(&exchange.input);
    let meets =
        uplinks == Uplinks::Xdp && exchange.point == Point::OutwardIngress && exchange.input.is_frame();
    let mut finished = None;
    if meets {
        let (before, left) = (packet.clone(), (kernel.counters()?.reasons, kernel.state()?.events));
        finished = match kernel.run_early(arrival, packet)? {
            None => None,
            Some(Verdict::Pass) => {
                ensure!(*packet == before, "changed, and goes up");
                ensure!(left == (kernel.counters()?.reasons, kernel.state()?.events), "counted, and goes up");
                Some(false)
            }
            Some(verdict) => return Ok(Some((sent(exchange, packet, verdict, true)?, Some(true)))),
        };
    }
    let verdict = kernel.run_from(arrival, exchange.point, packet)?;
    // Both are the same to the kernel.
    let routed = exchange.verdict == Verdict::Route && verdict == Some(Verdict::Redirect);
    let verdict = if routed { Some(Verdict::Route) } else { verdict };
    verdict.map(|verdict| Ok((sent(exchange, packet, verdict, false)?, finished))).transpose()
}

/// The verdict in the terms of the fixtures, which know nothing of neighbours, and the packet before it had the next hop's
/// addresses. XDP always gives it those, `early`; tc where the way is known, which it never is to what opens a flow or a
/// connection.
fn sent(exchange: &Exchange, packet: &mut [u8], verdict: Verdict, early: bool) -> Result<Verdict> {
    let Some(interface) = exchange.leaves_by else { return Ok(verdict) };
    let back = early && interface == exchange.input.ifindex();
    if verdict != if back { Verdict::Redirect } else { Verdict::Route } {
        ensure!(verdict != Verdict::Route, "another way than {interface}");
        return Ok(verdict);
    }
    let link = routes::link(interface);
    let addresses = packet.get_mut(..link.len()).context("no frame")?;
    let known = *addresses == link;
    let opens = exchange.opens.is_some() || exchange.is_opening();
    ensure!(known || !early, "sent by the addresses {addresses:x?}");
    ensure!(early || !known || !opens, "by a way that was known");
    if known {
        addresses.copy_from_slice(&exchange.output[..link.len()]);
    }
    Ok(Verdict::Route)
}

fn exchange_packet(kernel: &Kernel, uplinks: Uplinks, exchange: &Exchange) -> Result<()> {
    let mut packet = exchange.input.data().to_vec();
    let (before, recorded) = (kernel.counters()?, kernel.state()?.events);
    let Some((verdict, finished)) = pass(kernel, uplinks, exchange, &mut packet)? else { return Ok(()) };
    ensure!(
        finished.is_none_or(|finished| finished == exchange.is_finished_early()),
        "{verdict:?}, finished before the host stack: {finished:?}"
    );
    let after = kernel.counters()?;
    let reasons = changed_reasons(&before, &after);
    ensure!(
        verdict == exchange.verdict && reasons == [(exchange.reason, 1)],
        "expected {:?} {:?}, got {verdict:?} {reasons:?}",
        exchange.verdict,
        exchange.reason,
    );
    exchange.judge(&kernel.events(recorded)?).map_err(anyhow::Error::msg)?;
    if verdict != Verdict::Drop {
        let difference = wire::difference(&exchange.output, &packet);
        ensure!(difference.is_none(), "{:?}: {}", exchange.reason, difference.unwrap_or_default());
    }
    for (index, (before, after)) in
        [(&before.services, &after.services), (&before.backends, &after.backends)].into_iter().enumerate()
    {
        let mut expected: BTreeMap<u32, u64> =
            before.iter().map(|(id, stats)| (*id, stats.connections)).collect();
        if let Some(ids) = exchange.opens {
            *expected.entry(ids[index]).or_default() += 1;
        }
        let got: BTreeMap<u32, u64> = after.iter().map(|(id, stats)| (*id, stats.connections)).collect();
        ensure!(expected == got, "connections: expected {expected:?}, got {got:?}");
    }
    Ok(())
}

fn changed_reasons(before: &Counters, after: &Counters) -> Vec<(Reason, u64)> {
    let count = |counters: &Counters, reason| counters.reasons.get(reason).copied().unwrap_or(0);
    let changes = Reason::ALL.iter().map(|reason| (*reason, count(after, reason) - count(before, reason)));
    changes.filter(|(_, change)| *change != 0).collect()
}
