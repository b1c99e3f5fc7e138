//! The datapath against the reference: any story.

use std::cell::RefCell;
use std::collections::BTreeMap;

use lb_common::Reason;
use lb_ebpf::testing::reference::{decode, play_any};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

/// The same stories each time, unless there is time for more. What fails is made shorter by itself, event by event.
fn settings() -> ProptestConfig {
    let long = std::env::var_os("SLUICE_TEST_LONG").is_some();
    ProptestConfig {
        cases: if long { 20_000 } else { 400 },
        rng_seed: if long { RngSeed::Random } else { RngSeed::Fixed(4) },
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Whatever happens, datapath and reference agree about it; and what happens takes every way out of the datapath that a
/// story can take.
#[test]
fn any_story() {
    let taken = RefCell::new(BTreeMap::<Reason, u64>::new());
    let stories = prop::collection::vec(any::<u8>(), 0..400);
    let told = TestRunner::new(settings()).run(&stories, |bytes| {
        let played = play_any(decode(&bytes)).map_err(TestCaseError::fail)?;
        for (reason, count) in played {
            *taken.borrow_mut().entry(reason).or_default() += count;
        }
        Ok(())
    });
    if let Err(fault) = told {
        panic!("{fault}");
    }
    let taken = taken.into_inner();
    let ways = [
        Reason::NotService,
        Reason::OtherPoint,
        Reason::FlowOpened,
        Reason::FlowForward,
        Reason::FlowReverse,
        Reason::FlowAdopted,
        Reason::ResetPassedOn,
        Reason::FlowReopened,
        Reason::NoEndpoints,
        Reason::PortNotServed,
        Reason::NoLocalEndpoints,
        Reason::SnatPortsExhausted,
        Reason::NotServicePort,
        Reason::SourceNotInRange,
        Reason::LeftUntranslated,
        Reason::HostFlow,
        Reason::PassedOn,
    ];
    let missed: Vec<_> = ways.iter().filter(|reason| !taken.contains_key(reason)).collect();
    assert!(missed.is_empty(), "{missed:?} in none of the stories: {taken:?}");
}
