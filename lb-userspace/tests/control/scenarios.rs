//! Scenarios from the first Service to empty tables, over any tables.

use std::time::Instant;

use lb_userspace::tables::{Fake, Tables};

use crate::outside::reached_from_outside;
use crate::support::{
    Desired, ROOMY, check, endpoints, key, replace, service, settle, started, update, views_of,
};

/// Programs one state after the other and compares the tables with each; ends with everything gone and given back.
pub(crate) fn play<T: Tables>(tables: T, states: &[Desired]) {
    let mut now = Instant::now();
    let nothing = Desired::new();
    let mut reconciler = started(tables, &nothing);
    let mut last = &nothing;
    for desired in states.iter().chain([&nothing]) {
        reconciler.desire(update(last, desired));
        settle(&mut reconciler, &mut now);
        assert_eq!(reconciler.report().problems, []);
        assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(desired));
        last = desired;
    }
    assert!(reconciler.shadow().is_untouched(), "everything has been given back");
}

/// All scenarios.
pub(crate) fn all() -> Vec<Vec<Desired>> {
    vec![scale_1_3_0_1(), services_swap_addresses(), local_and_terminating(), reached_from_outside()]
}

pub(crate) fn scale_1_3_0_1() -> Vec<Desired> {
    let state = |ready4: &[&str], ready6: &[&str]| {
        Desired::from([
            (key("web", "10.0.0.1:80"), service("10.0.0.1:80", ready4)),
            (key("web", "[fd00::1]:80"), service("[fd00::1]:80", ready6)),
        ])
    };
    vec![
        state(&["10.1.0.1:8080"], &["[fd01::1]:8080"]),
        state(
            &["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"],
            &["[fd01::1]:8080", "[fd01::2]:8080", "[fd01::3]:8080"],
        ),
        state(&[], &[]),
        state(&["10.1.0.4:8080"], &["[fd01::4]:8080"]),
    ]
}

pub(crate) fn services_swap_addresses() -> Vec<Desired> {
    let state = |a: &str, b: &str| {
        Desired::from([
            (key("a", a), service(a, &["10.1.0.1:1", "10.1.0.2:1"])),
            (key("b", b), service(b, &["10.1.0.1:1"])),
        ])
    };
    vec![
        state("10.0.0.1:80", "10.0.0.2:80"),
        state("10.0.0.2:80", "10.0.0.1:80"),
        state("10.0.0.1:80", "10.0.0.1:81"),
    ]
}

pub(crate) fn local_and_terminating() -> Vec<Desired> {
    let state = |cluster: &[&str], local: &[&str], serving: &[&str], internal_local| {
        let mut service = service("10.0.0.1:80", cluster);
        (service.local, service.serving) = (endpoints(local), endpoints(serving));
        service.internal_local = internal_local;
        Desired::from([(key("web", "10.0.0.1:80"), service)])
    };
    let (a, b) = ("10.1.0.1:1", "10.1.0.2:1");
    vec![
        state(&[a, b], &[b], &[a, b], false),
        state(&[a, b], &[b], &[a, b], true),
        state(&[b], &[b], &[a, b], true),
        state(&[a, b], &[a, b], &[a, b], false),
        state(&[], &[], &[a], false),
    ]
}

#[test]
fn b98_scale_1_3_0_1() {
    play(Fake::new(ROOMY), &scale_1_3_0_1());
}

#[test]
fn b13_services_swap_addresses() {
    play(Fake::new(ROOMY), &services_swap_addresses());
    play(Fake::new(ROOMY), &services_swap_addresses().into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn b51_b97_local_and_terminating() {
    play(Fake::new(ROOMY), &local_and_terminating());
}

#[test]
fn b9_what_ends_where_it_began_is_no_write() {
    let desired = &scale_1_3_0_1()[1];
    let mut reconciler = started(Fake::new(ROOMY), desired);
    let mut now = Instant::now();
    let other = Desired::from([(key("brief", "10.0.0.9:80"), service("10.0.0.9:80", &["10.1.0.9:1"]))]);
    reconciler.desire(update(desired, &other));
    reconciler.desire(update(&other, desired));
    assert_eq!(settle(&mut reconciler, &mut now).operations, 0);
}

#[test]
fn b6_nothing_is_written_before_the_full_list() {
    let desired = &scale_1_3_0_1()[0];
    let tables = started(Fake::new(ROOMY), desired);
    let before = tables.tables().read().unwrap();
    let mut reconciler = lb_userspace::reconcile::Reconciler::adopt(Fake::new(ROOMY), "n").unwrap();
    reconciler.desire(update(&Desired::new(), desired));
    let mut now = Instant::now();
    assert_eq!(settle(&mut reconciler, &mut now).operations, 0);
    assert!(!reconciler.report().synced);
    reconciler.desire(replace(desired));
    settle(&mut reconciler, &mut now);
    assert!(reconciler.report().synced);
    assert_eq!(check(&reconciler.tables().read().unwrap()), check(&before));
}
