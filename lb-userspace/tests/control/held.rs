//! Addresses of Services that interfaces of the node have.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use lb_common::address_flags::HELD;
use lb_userspace::plan::Own;
use lb_userspace::reconcile::{Change, Reconciler};
use lb_userspace::tables::{Fake, Fault, Faulty, Tables};

use crate::support::{Desired, NODE, ROOMY, key, replace, service, settle};

const SERVICES: [&str; 4] = ["10.0.0.1:80", "10.0.0.1:81", "10.0.0.2:80", "[fd00::1]:80"];

fn desired() -> Desired {
    let entry = |frontend: &&str| (key(frontend, frontend), service(frontend, &[]));
    SERVICES.iter().map(entry).collect()
}

fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|addr| addr.parse().unwrap()).collect()
}

fn held(list: &[&str]) -> Change {
    Change::Own(Own { held: addresses(list), ..Own::default() })
}

/// The addresses that the tables mark as held.
fn marked(tables: &impl Tables) -> BTreeSet<IpAddr> {
    let snapshot = tables.read().unwrap();
    snapshot
        .addresses
        .into_iter()
        .filter(|(_, value)| value.flags & HELD != 0)
        .map(|(addr, _)| addr)
        .collect()
}

/// Sends `change`, and asserts which addresses of Services are marked, and reported, then.
fn leads_to<T: Tables>(reconciler: &mut Reconciler<T>, change: Change, expected: &[&str]) {
    reconciler.desire(change);
    settle(reconciler, &mut Instant::now());
    assert_eq!(marked(reconciler.tables()), addresses(expected));
    assert_eq!(BTreeSet::from_iter(reconciler.report().held), addresses(expected));
    assert_eq!(reconciler.report().problems, []);
}

#[test]
fn held_addresses_are_marked_as_they_come_and_go() {
    let mut reconciler = Reconciler::adopt(Fake::new(ROOMY), NODE).unwrap();
    // Before the first list, and an address that is no Service's.
    reconciler.desire(held(&["10.0.0.1", "172.18.0.2"]));
    leads_to(&mut reconciler, replace(&desired()), &["10.0.0.1"]);
    leads_to(&mut reconciler, held(&["10.0.0.1", "fd00::1"]), &["10.0.0.1", "fd00::1"]);
    leads_to(&mut reconciler, held(&["fd00::1"]), &["fd00::1"]);
    // The Service of a held address goes and comes.
    leads_to(&mut reconciler, replace(&Desired::new()), &[]);
    leads_to(&mut reconciler, replace(&desired()), &["fd00::1"]);
    leads_to(&mut reconciler, held(&[]), &[]);
}

#[test]
fn an_address_is_never_published_otherwise_than_it_is() {
    let mut reconciler = Reconciler::adopt(Faulty::new(Fake::new(ROOMY), Fault::Never), NODE).unwrap();
    reconciler.desire(held(&["10.0.0.1"]));
    reconciler.desire(replace(&desired()));
    let before = reconciler.report().operations;
    settle(&mut reconciler, &mut Instant::now());
    let written = reconciler.report().operations - before;
    // One write for each of the three addresses, beside name, record and frontend of each Service port.
    assert_eq!(written, 3 + 3 * SERVICES.len() as u64);
}

#[test]
fn an_agent_corrects_what_the_one_before_it_knew() {
    let mut reconciler = Reconciler::adopt(Fake::new(ROOMY), NODE).unwrap();
    leads_to(&mut reconciler, replace(&desired()), &[]);
    leads_to(&mut reconciler, held(&["10.0.0.1"]), &["10.0.0.1"]);
    let mut next = Reconciler::adopt(reconciler.into_tables(), NODE).unwrap();
    assert_eq!(marked(next.tables()), addresses(&["10.0.0.1"]), "it holds until the source has spoken");
    next.desire(held(&["10.0.0.2"]));
    leads_to(&mut next, replace(&desired()), &["10.0.0.2"]);
}
