//! Writes that fail, with or without effect.

use std::time::Instant;

use lb_userspace::tables::{Fake, Fault, Faulty, Tables as _};

use crate::scenarios::all;
use crate::support::{
    Desired, ROOMY, check, check_paths, key, replace, service, settle, started, update, views_of,
};

#[test]
fn b8_one_failed_write_is_tried_again_whether_it_had_an_effect_or_not() {
    for scenario in all() {
        for (old, new) in scenario.iter().zip(&scenario[1..]) {
            for (applied, write) in [false, true].into_iter().flat_map(|a| (0..12).map(move |w| (a, w))) {
                let mut now = Instant::now();
                let mut reconciler = started(Faulty::new(Fake::new(ROOMY), Fault::Never), old);
                let call = reconciler.tables().calls() + write;
                reconciler.tables_mut().fault = Fault::Once { call, applied };
                reconciler.desire(update(old, new));
                settle(&mut reconciler, &mut now);
                assert_eq!(check(&reconciler.tables().inner.read().unwrap()), views_of(new));
                reconciler.desire(replace(&Desired::new()));
                settle(&mut reconciler, &mut now);
                assert!(reconciler.shadow().is_untouched(), "write {write}, applied: {applied}");
            }
        }
    }
}

#[test]
fn b8_random_failures_converge_and_no_path_is_ever_broken() {
    let scenarios = all().concat();
    for seed in 0..40 {
        let mut now = Instant::now();
        let mut reconciler = started(Faulty::new(Fake::new(ROOMY), Fault::Never), &Desired::new());
        reconciler.tables_mut().fault = Fault::Random { seed, per_mille: 50 + seed * 8 };
        let mut last = Desired::new();
        for desired in &scenarios {
            reconciler.desire(update(&last, desired));
            // The next change often comes before this one is through.
            for _ in 0..seed % 3 {
                reconciler.step(now);
                check_paths(&reconciler.tables().inner.read().unwrap());
            }
            last.clone_from(desired);
        }
        settle(&mut reconciler, &mut now);
        assert_eq!(check(&reconciler.tables().inner.read().unwrap()), views_of(&last), "seed {seed}");
        reconciler.desire(replace(&Desired::new()));
        settle(&mut reconciler, &mut now);
        reconciler.tables_mut().fault = Fault::Never;
        reconciler.verify();
        settle(&mut reconciler, &mut now);
        assert_eq!(check(&reconciler.tables().inner.read().unwrap()), views_of(&Desired::new()));
        assert!(reconciler.shadow().is_untouched(), "seed {seed}");
    }
}

#[test]
fn b17_one_service_that_cannot_be_programmed_holds_up_no_other() {
    let bad = key("bad", "10.0.0.1:80");
    let mut mapped = service("10.0.0.1:80", &[]);
    mapped.serving = vec!["[::ffff:10.1.0.1]:1".parse().unwrap()];
    let bad6 = key("bad", "[fd00::1]:80");
    let mut desired =
        Desired::from([(bad6.clone(), service("[fd00::1]:80", &["[::ffff:10.1.0.1]:1"])), (bad, mapped)]);
    let good = (key("good", "[fd00::2]:80"), service("[fd00::2]:80", &["[fd01::1]:1"]));
    desired.extend([good.clone()]);
    let reconciler = started(Fake::new(ROOMY), &desired);
    let problems = reconciler.report().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].object, bad6.to_string());
    assert!(problems[0].text.contains("::ffff:10.1.0.1"), "{problems:?}");
    let (views, _) = check(&reconciler.tables().read().unwrap());
    assert_eq!(views.get(&good.0), views_of(&Desired::from([good.clone()])).0.get(&good.0));
}
