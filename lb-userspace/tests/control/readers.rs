//! Programs that are running while the tables change: they may hold what they read just before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use lb_common::{BackendWord, Span};
use lb_userspace::model::Family;
use lb_userspace::plan::{Capacity, Op, Snapshot};
use lb_userspace::tables::{Fake, Fault, Faulty, Grace, TableError, Tables};

use crate::scenarios::all;
use crate::support::{Desired, ROOMY, brief, key, service, settle, started, update};

/// What a program may find by an index: a service, a backend, a slot of a family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Place {
    Service(u32),
    Backend(u32),
    Slot(Family, u32),
}

/// Tables with programs that never finish before a grace period makes them: nothing that they may still read may be
/// given a new meaning.
struct Watched {
    inner: Fake,
    seen: Arc<Mutex<Seen>>,
    log: Vec<String>,
}

/// What programs may hold, and the number of grace periods that had begun when it could last be found.
#[derive(Default)]
struct Seen {
    begun: u64,
    places: BTreeMap<Place, u64>,
}

impl Watched {
    fn new(capacity: Capacity) -> Self {
        Self { inner: Fake::new(capacity), seen: Arc::default(), log: Vec::new() }
    }

    /// Notes that all programs read everything that can be found.
    fn look(&self) {
        let Snapshot { services, backends, frontends, .. } = self.inner.read().unwrap();
        let serving = backends.iter().filter(|(_, record)| BackendWord(record.word).serving());
        let mut places: Vec<_> = serving.map(|(id, _)| Place::Backend(*id)).collect();
        places.extend(frontends.iter().map(|(_, value)| Place::Service(value.service)));
        for entry in services {
            let family = if entry.meta.family == 4 { Family::V4 } else { Family::V6 };
            for span in [entry.record.cluster, entry.record.local].map(Span) {
                places.extend((0..span.len()).map(|i| Place::Slot(family, span.offset() + i)));
            }
        }
        let mut seen = self.seen.lock().unwrap();
        let begun = seen.begun;
        seen.places.extend(places.into_iter().map(|place| (place, begun)));
    }
}

impl Tables for Watched {
    fn apply(&mut self, op: &Op) -> Result<(), TableError> {
        let written: Vec<_> = match op {
            Op::PutBackend { id, .. } => vec![Place::Backend(*id)],
            Op::PutService { id, .. } => vec![Place::Service(*id)],
            Op::PutSlots { family, offset, slots } => {
                (*offset..).take(slots.len()).map(|slot| Place::Slot(*family, slot)).collect()
            }
            _ => Vec::new(),
        };
        self.look();
        for place in written {
            let held = self.seen.lock().unwrap().places.contains_key(&place);
            assert!(!held, "{op:?} would change {place:?} under a reader; before: {:#?}", self.log);
        }
        self.inner.apply(op)?;
        self.look();
        self.log.push(brief(op));
        Ok(())
    }

    fn read(&self) -> Result<Snapshot, TableError> {
        self.inner.read()
    }

    fn grace(&self) -> Grace {
        self.look();
        let seen = self.seen.clone();
        let before = seen.lock().unwrap().begun;
        seen.lock().unwrap().begun += 1;
        Box::new(move || seen.lock().unwrap().places.retain(|_, last| *last > before))
    }
}

/// So little room that ids and slots come back as soon as they may.
const TIGHT: Capacity = Capacity { services: 6, backends: 12, slots: [16; 2], ..ROOMY };

#[test]
fn nothing_is_reused_before_a_grace_period_has_ended() {
    let scenarios = all().concat();
    for (seed, capacity) in (0..30).flat_map(|seed| [(seed, ROOMY), (seed, TIGHT)]) {
        let tables = Faulty::new(Watched::new(capacity), Fault::Never);
        let mut reconciler = started(tables, &Desired::new());
        reconciler.tables_mut().fault = Fault::Random { seed, per_mille: seed * 10 };
        let mut now = Instant::now();
        let mut last = Desired::new();
        for (turn, desired) in scenarios.iter().chain(&scenarios).enumerate() {
            reconciler.desire(update(&last, desired));
            for _ in 0..3 {
                let Some(due) = reconciler.due(now) else { break };
                now = due;
                reconciler.step(now);
            }
            if (turn as u64 + seed).is_multiple_of(3) {
                settle(&mut reconciler, &mut now);
                assert_eq!(reconciler.report().problems, []);
            }
            last.clone_from(desired);
        }
    }
}

#[test]
fn a_grace_period_that_began_before_a_comparison_frees_nothing_of_it() {
    let state = |port: u32| {
        let endpoint = format!("10.1.0.1:{port}");
        Desired::from([(key("a", "10.0.0.1:80"), service("10.0.0.1:80", &[&endpoint]))])
    };
    let mut last = state(1);
    let mut reconciler = started(Watched::new(TIGHT), &last);
    let mut now = Instant::now();
    for port in 2..40 {
        let next = state(port);
        let grace = reconciler.begin_grace();
        reconciler.desire(update(&last, &next));
        if port % 3 == 0 {
            reconciler.verify();
        }
        now = reconciler.due(now).unwrap();
        reconciler.step(now);
        if let Some(grace) = grace {
            grace();
            reconciler.end_grace();
        }
        last = next;
        settle(&mut reconciler, &mut now);
    }
}

#[test]
fn b13_b26_a_frontend_that_passes_to_another_service_is_never_absent() {
    let frontend = "10.0.0.1:80";
    for (old, new) in [("a", "b"), ("b", "a")] {
        let before = Desired::from([(key(old, frontend), service(frontend, &["10.1.0.1:1"]))]);
        let after = Desired::from([(key(new, frontend), service(frontend, &["10.1.0.2:1"]))]);
        let mut reconciler = started(Watched::new(ROOMY), &before);
        reconciler.desire(update(&before, &after));
        reconciler.step(Instant::now());
        let log = &reconciler.tables().log;
        assert!(log.iter().all(|op| !op.starts_with("-frontend") && !op.starts_with("-address")), "{log:?}");
    }
}
