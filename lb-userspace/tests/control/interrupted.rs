//! A plan that stops after any of its writes, and an agent that goes on from there.

use std::time::Instant;

use lb_userspace::tables::{Fake, Fault, Faulty, Tables as _};

use crate::scenarios::{all, services_swap_addresses};
use crate::support::{Desired, ROOMY, check, replace, settle, started, update, views_of};

/// Tables in which `old` is programmed and the turn to `new` has stopped after `writes`; `None` if it takes no more.
fn stopped(old: &Desired, new: &Desired, writes: u64) -> Option<Fake> {
    let mut reconciler = started(Faulty::new(Fake::new(ROOMY), Fault::Never), old);
    let calls = reconciler.tables().calls();
    reconciler.tables_mut().fault = Fault::From(calls + writes);
    reconciler.desire(update(old, new));
    let outcome = reconciler.step(Instant::now());
    let finished = reconciler.report().problems.is_empty();
    assert!(finished || outcome.operations == writes);
    (!finished).then(|| reconciler.into_tables().inner)
}

#[test]
fn b7_after_each_write_every_path_leads_somewhere_and_the_next_agent_finishes() {
    let empty = Desired::new();
    for scenario in all() {
        let states: Vec<_> = [&empty].into_iter().chain(&scenario).chain([&empty]).collect();
        for turn in states.windows(2) {
            let (old, new) = (turn[0], turn[1]);
            let mut writes = 0;
            while let Some(tables) = stopped(old, new, writes) {
                check(&tables.read().unwrap());
                let mut next = started(tables, new);
                let mut now = Instant::now();
                settle(&mut next, &mut now);
                assert_eq!(check(&next.tables().read().unwrap()), views_of(new), "after {writes} writes");
                next.desire(replace(&empty));
                settle(&mut next, &mut now);
                assert!(next.shadow().is_untouched(), "after {writes} writes");
                writes += 1;
            }
            assert!(writes > 0, "there was something to interrupt");
        }
    }
}

#[test]
fn b7_a_turn_that_was_given_up_half_way_leaves_nothing() {
    let scenario = services_swap_addresses();
    let (old, new) = (&scenario[0], &scenario[1]);
    let mut writes = 0;
    while let Some(tables) = stopped(old, new, writes) {
        let mut next = started(tables, old);
        settle(&mut next, &mut Instant::now());
        assert_eq!(check(&next.tables().read().unwrap()), views_of(old), "after {writes} writes");
        writes += 1;
    }
}
