//! All fixtures, on the host.

use lb_ebpf::env::FlowTable;
use lb_ebpf::pkt::Pkt as _;
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::{self, Fixture};
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::Checksum;
use lb_ebpf::testing::pairs::Faults;
use lb_ebpf::testing::world::Uplinks;

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
        (flows, world.counters(), world.affinity(), world.embryonic())
    };
    for fixture in fixtures::all() {
        let [alone, others @ ..] = Uplinks::ALL.map(|uplinks| left(&fixture, uplinks));
        for other in others {
            assert_eq!(alone, other, "{}", fixture.name);
        }
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
