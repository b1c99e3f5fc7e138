//! Every packet of every fixture, cut short, in the state in which it comes: it is dropped, it passes, or it becomes
//! exactly what the whole packet becomes, as far as there is something of it.

use lb_common::Effect;
use lb_ebpf::testing::fixtures::{self, Exchange, Step};
use lb_ebpf::testing::world::{Uplinks, World};
use lb_ebpf::testing::{host, invariants};

/// Sends the first `len` bytes of the packet. Whether the tables are still as they were.
fn send(world: &World, exchange: &Exchange, len: usize) -> Result<bool, String> {
    let input = exchange.input.cut(len);
    let mut output = input.clone();
    let (verdict, reason) = host::observe(world, exchange.point, &mut output)?;
    invariants::check(&input, &output, verdict, reason)?;
    exchange.judge_cut(len, output.data(), verdict, reason)?;
    Ok(reason.effect() == Effect::Pass)
}

#[test]
fn b109_cut_packets_do_no_harm() {
    cut(Uplinks::Tc);
}

#[test]
fn b109_cut_packets_do_no_harm_with_xdp_at_the_uplinks() {
    cut(Uplinks::Xdp);
}

#[test]
fn b109_cut_packets_do_no_harm_where_uplinks_have_no_ethernet_header() {
    cut(Uplinks::Bare);
}

fn cut(uplinks: Uplinks) {
    // Many fixtures are alike: all together are cut everywhere, without each being so. Prime, so that they go round.
    let stride = if std::env::var_os("SLUICE_TEST_LONG").is_some() { 1 } else { 211 };
    let (mut cuts, mut failures) = (0, Vec::new());
    for fixture in fixtures::all() {
        for (number, step) in fixture.steps.iter().enumerate() {
            let Step::Packet(exchange) = step else { continue };
            let mut world = None;
            for len in 0..exchange.input.data().len() {
                cuts += 1;
                if cuts % stride != 0 {
                    continue;
                }
                let fresh = world.take().unwrap_or_else(|| host::after(&fixture, uplinks, number));
                match send(&fresh, exchange, len) {
                    Ok(unchanged) => world = unchanged.then_some(fresh),
                    Err(fault) => failures.push(format!("{}, step {number}, {len}: {fault}", fixture.name)),
                }
            }
        }
    }
    let some = &failures[..failures.len().min(3)];
    assert!(failures.is_empty(), "{} of {cuts} failed:\n{}", failures.len(), some.join("\n"));
}
