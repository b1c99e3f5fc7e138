//! Ten thousand Service ports of ten endpoints.

use std::time::{Duration, Instant};

use lb_common::maps::{BACKENDS, SERVICES, SLOTS_PER_BACKEND};
use lb_userspace::plan::Capacity;
use lb_userspace::reconcile::{Change, Reconciler};
use lb_userspace::tables::{Fake, Tables};

use crate::support::{Desired, key, service, started};

const DEFAULT: Capacity = Capacity {
    services: SERVICES,
    backends: BACKENDS,
    slots: [BACKENDS * SLOTS_PER_BACKEND; 2],
    frontends: [SERVICES; 2],
    addresses: [SERVICES; 2],
    ranges: [SERVICES; 2],
};

fn ten_thousand() -> Desired {
    let entry = |i: u32| {
        let frontend = format!("10.96.{}.{}:80", i >> 8, i & 255);
        let endpoint = |n: u32| format!("10.{}.{}.{n}:8080", 100 + (i >> 8), i & 255);
        let endpoints: Vec<_> = (0..10).map(endpoint).collect();
        let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
        (key(&format!("service-{i}"), &frontend), service(&frontend, &endpoints))
    };
    (0..10_000).map(entry).collect()
}

/// Turns one endpoint of each of a hundred Service ports off and on again: the mean time of a change.
fn mean_of_changes<T: Tables>(reconciler: &mut Reconciler<T>, desired: &Desired) -> Duration {
    let chosen: Vec<_> = desired.iter().step_by(desired.len() / 100).collect();
    let mut before = Instant::now();
    let mut spent = Duration::ZERO;
    for (key, service) in &chosen {
        let mut smaller = (*service).clone();
        smaller.cluster.pop();
        smaller.serving.pop();
        for service in [smaller, (*service).clone()] {
            reconciler.desire(Change::Update(vec![((*key).clone(), Some(service.into()))]));
            before = Instant::now().max(before);
            let outcome = reconciler.step(before);
            spent += before.elapsed();
            assert!((3..=4).contains(&outcome.operations), "{outcome:?}");
        }
        if let Some(grace) = reconciler.begin_grace() {
            grace();
            reconciler.end_grace();
        }
    }
    spent / (2 * u32::try_from(chosen.len()).unwrap())
}

#[test]
fn a_change_costs_the_same_among_ten_thousand_as_alone() {
    let desired = ten_thousand();
    let before = Instant::now();
    let mut reconciler = started(Fake::new(DEFAULT), &desired);
    println!("first sync: {:?}", before.elapsed());
    assert_eq!(reconciler.report().problems, []);
    let among = mean_of_changes(&mut reconciler, &desired);

    let few: Desired =
        desired.iter().step_by(100).map(|(key, service)| (key.clone(), service.clone())).collect();
    let alone = mean_of_changes(&mut started(Fake::new(DEFAULT), &few), &few);
    println!("a change: {among:?} among ten thousand, {alone:?} among a hundred");
    // Work for all would be a hundred times as much.
    assert!(among < alone * 20 + Duration::from_millis(1), "{among:?} against {alone:?}");
}
