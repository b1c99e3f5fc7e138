//! Tables that are full.

use std::time::Instant;

use lb_userspace::model::ServicePortKey;
use lb_userspace::plan::Capacity;
use lb_userspace::reconcile::Reconciler;
use lb_userspace::tables::{Fake, Tables as _};

use crate::support::{Desired, ROOMY, check, endpoint, key, service, settle, started, update, views_of};

/// Services a and b, each with an address of its own and two endpoints.
fn two() -> Desired {
    Desired::from([
        (key("a", "10.0.0.1:80"), service("10.0.0.1:80", &["10.1.0.1:1", "10.1.0.2:1"])),
        (key("b", "10.0.0.2:80"), service("10.0.0.2:80", &["10.1.0.3:1", "10.1.0.4:1"])),
    ])
}

fn without(desired: &Desired, name: &str) -> Desired {
    desired.iter().filter(|(key, _)| *key.name != *name).map(|(key, s)| (key.clone(), s.clone())).collect()
}

fn only_problem(reconciler: &Reconciler<Fake>) -> (String, String) {
    let mut problems = reconciler.report().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems.remove(0);
    (problem.object, problem.text)
}

#[test]
fn a_service_port_that_does_not_fit_is_left_out_whole_until_there_is_room() {
    let cases = [
        ("services", "--max-services", Capacity { services: 1, ..ROOMY }),
        ("backends", "--max-backends", Capacity { backends: 4, ..ROOMY }),
        ("slots", "--max-backends", Capacity { slots: [3; 2], ..ROOMY }),
        ("frontends", "--max-services", Capacity { frontends: [1; 2], ..ROOMY }),
        ("addresses", "--max-services", Capacity { addresses: [1; 2], ..ROOMY }),
    ];
    for (table, flag, capacity) in cases {
        let (desired, mut now) = (two(), Instant::now());
        let mut reconciler = started(Fake::new(capacity), &desired);
        let (object, text) = only_problem(&reconciler);
        assert_eq!(object, key("b", "10.0.0.2:80").to_string());
        assert!(text.contains(table) && text.contains(flag) && text.contains("left out"), "{text}");
        assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(&without(&desired, "b")), "{table}");

        reconciler.desire(update(&desired, &without(&desired, "a")));
        settle(&mut reconciler, &mut now);
        assert_eq!(reconciler.report().problems, [], "{table}");
        assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(&without(&desired, "a")), "{table}");
    }
}

#[test]
fn a_service_port_that_grows_too_large_keeps_its_last_state() {
    let old = two();
    let mut reconciler = started(Fake::new(Capacity { backends: 6, ..ROOMY }), &old);
    let mut new = old.clone();
    let a: ServicePortKey = key("a", "10.0.0.1:80");
    new.get_mut(&a).unwrap().serving.extend((5..8).map(|port| endpoint(&format!("10.1.0.9:{port}"))));
    reconciler.desire(update(&old, &new));
    reconciler.step(Instant::now());
    let (object, text) = only_problem(&reconciler);
    assert_eq!(object, a.to_string());
    assert!(text.contains("3 more backends, 1 are free: its last state stays"), "{text}");
    assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(&old));
}

#[test]
fn a_map_that_is_full_against_expectation_leaves_the_service_port_out_whole() {
    let desired = Desired::from([(key("a", "10.0.0.1:80"), service("10.0.0.1:80", &["10.1.0.1:1"]))]);
    let (mut now, nothing) = (Instant::now(), Desired::new());
    let mut reconciler = started(Fake::new(Capacity { addresses: [1; 2], ..ROOMY }), &nothing);
    let foreign = lb_common::Addr4([192, 0, 2, 1]);
    let value = lb_common::AddressValue::default();
    reconciler.tables_mut().v4.addresses.entries.insert(foreign, value);
    reconciler.desire(update(&nothing, &desired));
    reconciler.step(now);
    let (_, text) = only_problem(&reconciler);
    assert!(text.contains("addresses4"), "{text}");
    let snapshot = reconciler.tables().read().unwrap();
    assert_eq!((snapshot.services.len(), snapshot.frontends.len()), (0, 0));

    reconciler.verify();
    settle(&mut reconciler, &mut now);
    assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(&desired));
}

#[test]
fn room_that_rests_is_not_handed_out() {
    let desired = two();
    let mut reconciler = started(Fake::new(Capacity { backends: 4, ..ROOMY }), &desired);
    reconciler.desire(update(&desired, &without(&desired, "a")));
    let mut now = Instant::now();
    now = reconciler.due(now).unwrap();
    reconciler.step(now);
    assert_eq!(reconciler.report().problems.len(), 1, "the grace period has not ended");
    settle(&mut reconciler, &mut now);
    assert_eq!(reconciler.report().problems, []);
}
