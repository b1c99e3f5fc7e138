//! Tables that an agent finds: its predecessor's, and such as somebody has damaged.

use std::time::Instant;

use lb_common::{
    AddressValue, BackendRecord, BackendWord, FrontendKey, FrontendValue, Port, ServiceMeta, Span,
    backend_flags,
};
use lb_userspace::plan::encode_meta;
use lb_userspace::reconcile::{Change, Reconciler};
use lb_userspace::tables::{Fake, Tables as _};

use crate::scenarios::{local_and_terminating, scale_1_3_0_1, services_swap_addresses};
use crate::support::{Desired, ROOMY, check, key, replace, service, settle, started, update, views_of};

fn busy() -> Desired {
    let mut all = scale_1_3_0_1()[1].clone();
    all.extend(services_swap_addresses()[2].iter().map(|(key, service)| (key.clone(), service.clone())));
    let mut service = local_and_terminating()[0].values().next().unwrap().clone();
    service.frontends[0].addr = "10.0.0.7".parse().unwrap();
    service.affinity = std::num::NonZeroU32::new(10_800);
    all.insert(key("local", "10.0.0.7:80"), service);
    all.insert(key("idle", "10.0.0.8:80"), crate::support::service("10.0.0.8:80", &[]));
    // Two at one address and port would be a fault of the model.
    all.remove(&key("a", "10.0.0.1:80"));
    all
}

#[test]
fn b9_a_restart_changes_nothing() {
    let desired = busy();
    let tables = started(Fake::new(ROOMY), &desired).into_tables();
    let mut before = tables.read().unwrap();
    let mut next = Reconciler::adopt(tables, "node-1").unwrap();
    next.desire(replace(&desired));
    assert_eq!(settle(&mut next, &mut Instant::now()).operations, 0);
    let mut after = next.tables().read().unwrap();
    before.services.sort_by_key(|entry| entry.id);
    after.services.sort_by_key(|entry| entry.id);
    assert_eq!((before.services, before.backends), (after.services, after.backends));
}

#[test]
fn b6_the_first_full_list_removes_what_is_not_in_it() {
    let desired = busy();
    let tables = started(Fake::new(ROOMY), &desired).into_tables();
    let mut rest = desired;
    rest.pop_first();
    rest.pop_last();
    let mut next = started(tables, &rest);
    assert_eq!(check(&next.tables().read().unwrap()), views_of(&rest));
    next.desire(update(&rest, &Desired::new()));
    settle(&mut next, &mut Instant::now());
    assert!(next.shadow().is_untouched());
}

#[test]
fn b7_what_may_be_in_an_unreadable_manifest_stays_until_all_can_be_read() {
    let names @ [gone, emptied, smaller] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
    let two = ["10.1.0.1:8080", "10.1.0.2:8080"];
    let mut old = Desired::from(names.map(|name| (key(name, name), service(name, &two))));
    old.insert(key("idle", "10.0.0.4:80"), service("10.0.0.4:80", &[]));
    let tables = started(Fake::new(ROOMY), &old).into_tables();
    let mut new = Desired::new();
    new.insert(key(emptied, emptied), service(emptied, &[]));
    new.insert(key(smaller, smaller), service(smaller, &["10.1.0.1:8080"]));
    let Change::Replace(list) = replace(&new) else { panic!() };
    let mut next = Reconciler::adopt(tables, "node-1").unwrap();
    let mut now = Instant::now();
    next.desire(Change::Partial(list));
    settle(&mut next, &mut now);
    next.verify();
    assert_eq!(settle(&mut next, &mut now).repairs, 0);
    let mut kept = new.clone();
    for name in [gone, emptied] {
        kept.insert(key(name, name), old[&key(name, name)].clone());
    }
    assert_eq!(check(&next.tables().read().unwrap()), views_of(&kept));
    let problems: Vec<_> = next.report().problems.into_iter().map(|problem| problem.object).collect();
    assert_eq!(problems, [key(gone, gone).to_string(), key(emptied, emptied).to_string()]);

    next.desire(Change::Whole);
    settle(&mut next, &mut now);
    assert_eq!(check(&next.tables().read().unwrap()), views_of(&new));
    assert_eq!(next.report().problems, []);
}

/// Programs a busy state, damages the tables, and sees the next comparison repair them.
fn repaired(damage: impl FnOnce(&mut Fake)) {
    let (desired, mut now) = (busy(), Instant::now());
    let mut reconciler = started(Fake::new(ROOMY), &desired);
    settle(&mut reconciler, &mut now);
    damage(reconciler.tables_mut());
    reconciler.verify();
    let outcome = settle(&mut reconciler, &mut now);
    assert!(outcome.repairs > 0);
    assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(&desired));
    reconciler.verify();
    assert_eq!(settle(&mut reconciler, &mut now).operations, 0, "once repaired, it stays so");
    reconciler.desire(replace(&Desired::new()));
    settle(&mut reconciler, &mut now);
    assert!(reconciler.shadow().is_untouched());
}

fn first_used(tables: &Fake) -> u32 {
    let used = |id: &u32| Span(tables.services.records[*id as usize].cluster).len() > 1;
    *tables.meta.entries.keys().filter(|id| used(id)).min().unwrap()
}

#[test]
fn b10_what_somebody_deleted_comes_back() {
    repaired(|tables| tables.v4.frontends.entries.clear());
    repaired(|tables| tables.v6.addresses.entries.clear());
    repaired(|tables| tables.services.records.fill(lb_common::ServiceRecord::default()));
    repaired(|tables| tables.backends.records.fill(BackendRecord::default()));
    repaired(|tables| tables.v4.slots.records.fill(lb_common::Slot::default()));
    repaired(|tables| tables.meta.entries.clear());
    repaired(|tables| *tables = Fake::new(ROOMY));
}

#[test]
fn b65_b66_what_words_say_of_scopes_and_timeouts_is_put_right() {
    for flags in [0, backend_flags::LOCAL, u32::MAX - backend_flags::SERVING] {
        repaired(|tables| {
            for record in tables.backends.records.iter_mut().filter(|record| record.word & 1 != 0) {
                let generation = BackendWord(record.word).generation();
                record.word = BackendWord::new(generation, flags | backend_flags::SERVING).0;
            }
        });
    }
    repaired(|tables| {
        for record in tables.services.records.iter_mut().filter(|record| record.flags != 0) {
            record.flags = 5 << 32;
        }
    });
}

#[test]
fn entries_of_no_service_port_are_removed() {
    repaired(|tables| {
        let key = FrontendKey::new(lb_common::Addr4([10, 0, 9, 9]), Port::new(80), 6);
        let value = FrontendValue { service: 63, kind: 0, pad: [0; 3] };
        tables.v4.frontends.entries.insert(key, value);
        tables.v4.addresses.entries.insert(key.addr, AddressValue::default());
    });
    repaired(|tables| {
        let addr = lb_common::Addr6([9; 16]);
        tables.v6.addresses.entries.insert(addr, AddressValue::default());
    });
    repaired(|tables| {
        let word = BackendWord::new(7, backend_flags::SERVING).0;
        for (id, family) in [(0, 4), (200, 4), (201, 9)] {
            tables.backends.records[id] =
                BackendRecord { word, family, service: 60, ..BackendRecord::default() };
        }
    });
}

#[test]
fn names_that_make_no_sense_or_come_twice_are_removed() {
    repaired(|tables| {
        let meta = *tables.meta.entries.values().next().unwrap();
        tables.meta.entries.insert(50, ServiceMeta { name: [0xff; 64], ..meta });
        tables.services.records[50].cluster = Span::new(3, 4).0;
    });
    repaired(|tables| {
        let meta = *tables.meta.entries.values().next().unwrap();
        tables.meta.entries.insert(51, meta);
    });
    repaired(|tables| {
        let meta = encode_meta(&key("beyond", "10.0.0.1:80"), 80);
        tables.meta.entries.insert(u32::MAX, meta);
    });
}

#[test]
fn spans_that_leave_the_array_or_overlap_are_rewritten() {
    repaired(|tables| {
        let id = first_used(tables) as usize;
        tables.services.records[id].cluster = Span::new(u32::MAX, u32::MAX).0;
    });
    repaired(|tables| {
        let id = first_used(tables) as usize;
        let mut other = tables.meta.entries.keys().copied().filter(|other| *other as usize != id);
        let span = Span(tables.services.records[id].cluster);
        tables.services.records[other.next().unwrap() as usize].local = Span::new(span.offset() + 1, 1).0;
    });
}

#[test]
fn a_frontend_that_names_the_wrong_service_is_put_right() {
    repaired(|tables| {
        let ids: Vec<u32> = tables.v4.frontends.entries.values().map(|value| value.service).collect();
        for (value, id) in tables.v4.frontends.entries.values_mut().zip(ids.into_iter().cycle().skip(1)) {
            value.service = id;
        }
    });
}

#[test]
fn b71_a_restart_keeps_ids() {
    let desired = busy();
    let reconciler = started(Fake::new(ROOMY), &desired);
    let ids: Vec<_> = desired.keys().map(|key| reconciler.shadow().service_id(key)).collect();
    let mut more = desired.clone();
    more.insert(key("aaa", "10.0.0.99:80"), service("10.0.0.99:80", &["10.1.9.9:1"]));
    let next = started(reconciler.into_tables(), &more);
    assert_eq!(desired.keys().map(|key| next.shadow().service_id(key)).collect::<Vec<_>>(), ids);
}
