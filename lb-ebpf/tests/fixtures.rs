//! All fixtures, on the host.

use std::collections::BTreeMap;

use lb_common::{Addr4, Addr6, Reason, ServiceStats};
use lb_ebpf::env::FlowTable;
use lb_ebpf::pkt::Pkt as _;
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::{self, Fixture, Step};
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::Checksum;
use lb_ebpf::testing::pairs::Faults;
use lb_ebpf::testing::world::{Counters, Uplinks};

fn play(uplinks: Uplinks, arrive: impl Fn(&Bytes) -> Bytes, which: impl Fn(&Fixture) -> bool) {
    let fault = |fixture: &Fixture| match host::play(fixture, uplinks, &arrive) {
        Err(fault) => Some(fault),
        Ok(world) => {
            let faults = Faults::of(&world);
            (!faults.none()).then(|| format!("{} leaves {faults:#?}", fixture.name))
        }
    };
    let fixtures = fixtures::all();
    let failures: Vec<String> =
        (fixtures.iter().filter(|fixture| which(fixture)).filter_map(fault)).collect();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn fixtures_hold() {
    play(Uplinks::Tc, Bytes::clone, |_| true);
}

#[test]
fn fixtures_hold_with_xdp_at_the_uplinks() {
    play(Uplinks::Xdp, Bytes::clone, |_| true);
}

#[test]
fn fixtures_hold_where_uplinks_have_no_ethernet_header() {
    play(Uplinks::Bare, Bytes::clone, |_| true);
}

/// Whoever counts a packet and makes its pair, the tables are the same in the end.
#[test]
fn tables_are_the_same_whatever_the_uplinks_are() {
    let left = |fixture: &Fixture, uplinks| {
        let world = host::after(fixture, uplinks, fixture.steps.len());
        let flows = [FlowTable::Main, FlowTable::Lru].map(|table| (world.flows4(table), world.flows6(table)));
        let mut counters = world.counters();
        // What tc has sent on is met once more, and passes.
        let unmet = |step: &&Step| matches!(step, Step::Packet(exchange) if !exchange.is_met(uplinks));
        for _ in fixture.steps.iter().filter(unmet) {
            *counters.reasons.entry(Reason::OtherPoint).or_default() += 1;
        }
        (flows, counters, world.affinity(), world.embryonic())
    };
    for fixture in fixtures::all() {
        let [alone, others @ ..] = Uplinks::ALL.map(|uplinks| left(&fixture, uplinks));
        for other in others {
            assert_eq!(alone, other, "{}", fixture.name);
        }
    }
}

/// What is the host's own alone is counted for no backend either.
#[test]
fn backends_count_what_their_services_count() {
    let traffic = |all: &BTreeMap<u32, ServiceStats>| {
        let of = |it: &ServiceStats| [it.packets_in, it.bytes_in, it.packets_out, it.bytes_out];
        all.values().map(of).fold([0; 4], |sum, it| [0, 1, 2, 3].map(|at| sum[at] + it[at]))
    };
    for fixture in fixtures::all() {
        let world = host::after(&fixture, Uplinks::Tc, fixture.steps.len());
        world.advance(1_000_000_000_000_000);
        let cpu = world.on_cpu(1);
        let _ = (cpu.sweep::<Addr4>(), cpu.sweep::<Addr6>());
        let Counters { services, backends, .. } = world.counters();
        assert_eq!(traffic(&services), traffic(&backends), "{}", fixture.name);
    }
}

#[test]
fn fixtures_hold_for_packets_that_the_device_has_summed() {
    // The helper returns early for a datagram without a checksum; nobody looks at the sum of such a one.
    let complete =
        |fixture: &Fixture| !fixture.name.contains("partial") && !fixture.name.contains("without_checksum");
    play(
        Uplinks::Tc,
        |packet| {
            let summed = Bytes::summed_by_device(packet.data().to_vec()).aggregate(packet.segment());
            summed.by(packet.ifindex()).via(packet.came_by())
        },
        complete,
    );
}

#[test]
fn names_are_distinct() {
    let fixtures = fixtures::all();
    let names: std::collections::BTreeSet<_> = fixtures.iter().map(|fixture| &fixture.name).collect();
    assert_eq!(names.len(), fixtures.len());
    assert!(fixtures::Scene::ALL.iter().any(|scene| scene.checksum == Checksum::Partial));
}
