//! How far the programming has come, as health checks and metrics are told.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lb_userspace::model::{External, Family, Seen};
use lb_userspace::reconcile::{Change, Objects, Progress, Reconciler};
use lb_userspace::tables::{Fake, Fault, Faulty};

use crate::support::{Desired, NODE, ROOMY, key, replace, service, started, update};

type Subject = Reconciler<Faulty<Fake>>;

fn desired(frontends: &[&str]) -> Desired {
    let one = |frontend: &&str| (key(&frontend.replace([':', '.'], "-"), frontend), service(frontend, &[]));
    frontends.iter().map(one).collect()
}

fn subject() -> Subject {
    let mut subject = started(Faulty::new(Fake::new(ROOMY), Fault::Never), &desired(&["10.0.0.1:80"]));
    subject.watch(Timestamp::UNIX_EPOCH);
    subject
}

fn families(subject: &Subject) -> [Progress; 2] {
    subject.report().families
}

/// Programs what is desired at `now`, in 3 ms.
fn program(subject: &mut Subject, now: Instant) {
    subject.queue(now);
    subject.step(now);
    subject.end(now, now + Duration::from_millis(3), Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000));
}

#[test]
fn b93_a_change_waits_until_a_sync_of_its_family_is_complete() {
    let now = Instant::now();
    let mut subject = subject();
    assert!(!subject.queue(now), "nothing waits");
    assert_eq!(families(&subject).map(|it| it.waiting), [None; 2]);
    let (old, new) = (desired(&["10.0.0.1:80"]), desired(&["10.0.0.1:80", "10.0.0.2:80"]));
    subject.desire(update(&old, &new));
    assert!(subject.queue(now));
    let later = now + Duration::from_secs(5);
    assert!(!subject.queue(later), "it waits already");
    assert_eq!(families(&subject).map(|it| it.waiting), [Some(now), None], "since the first change");
    assert_eq!(families(&subject).map(|it| it.queued), [Some(later), None]);
    subject.step(later);
    subject.end(later, later + Duration::from_millis(3), Timestamp::UNIX_EPOCH);
    let [v4, v6] = families(&subject);
    assert_eq!((v4.waiting, v4.synced), (None, Some(later + Duration::from_millis(3))));
    assert_eq!((v4.syncs.count(), v4.syncs.sum()), (1, Duration::from_millis(3)));
    assert_eq!((v6.synced, v6.syncs.count()), (None, 0), "the other family had nothing to do");
}

#[test]
fn b93_a_sync_in_which_the_kernel_refuses_everything_is_none() {
    let now = Instant::now();
    let mut subject = subject();
    let (old, new) = (desired(&["10.0.0.1:80"]), desired(&["10.0.0.1:80", "10.0.0.2:80"]));
    subject.tables_mut().fault = Fault::Random { seed: 1, per_mille: 1000 };
    subject.desire(update(&old, &new));
    program(&mut subject, now);
    assert_eq!(families(&subject)[0].waiting, Some(now));
    let report = subject.report();
    assert_eq!((report.failures, report.retries), (1, 0));
    subject.tables_mut().fault = Fault::Never;
    let due = subject.due(now).unwrap();
    program(&mut subject, due);
    assert_eq!(families(&subject)[0].waiting, None);
    let report = subject.report();
    assert_eq!((report.failures, report.retries), (1, 1));
}

#[test]
fn one_refused_service_port_of_several_and_one_without_room_leave_a_sync_complete() {
    let now = Instant::now();
    let mut subject = subject();
    let (old, new) = (desired(&["10.0.0.1:80"]), desired(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]));
    let call = subject.tables().calls();
    subject.tables_mut().fault = Fault::Once { call, applied: false };
    subject.desire(update(&old, &new));
    program(&mut subject, now);
    assert_eq!((subject.report().failures, families(&subject)[0].waiting), (1, None));
    let many: Vec<String> = (1..=80).map(|i| format!("10.0.1.{i}:80")).collect();
    let many = desired(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let mut small = Reconciler::adopt(Faulty::new(Fake::new(ROOMY), Fault::Never), NODE).unwrap();
    small.desire(replace(&many));
    program(&mut small, now);
    assert!(small.report().failures > 0, "80 do not fit 64");
    assert_eq!(families(&small)[0].waiting, None);
}

#[test]
fn programming_is_timed_from_what_happened_in_the_cluster() {
    let now = Instant::now();
    let mut subject = subject();
    subject.watch(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(900));
    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_millis(seconds);
    let triggers = vec![
        (Family::V4, at(899_000)),
        (Family::V4, at(999_600)),
        (Family::V6, at(990_000)),
        (Family::V6, at(1_001_000)),
    ];
    assert_eq!(subject.due(now), None);
    subject.desire(Change::Seen(Seen { services: 1, endpoints: 4, triggers, ..Seen::default() }));
    let report = subject.report();
    assert_eq!(report.pending, Objects { services: 1, endpoints: 4 });
    assert_eq!(subject.due(now), Some(now), "also where nothing follows for this node");
    program(&mut subject, now);
    assert_eq!(subject.due(now), None);
    let report = subject.report();
    assert_eq!((report.pending, report.seen), (Objects::default(), Objects { services: 1, endpoints: 4 }));
    let [v4, v6] = report.families;
    assert_eq!(
        (v4.programming.count(), v4.programming.sum()),
        (1, Duration::from_millis(400)),
        "not what was before the start"
    );
    assert_eq!(
        (v6.programming.count(), v6.programming.sum()),
        (2, Duration::from_secs(10)),
        "no time is negative"
    );
    let within = |progress: &Progress, limit: u64| {
        progress.programming.buckets().find(|(bound, _)| bound.as_secs() == limit).map(|(_, count)| count)
    };
    assert_eq!((within(&v4, 1), within(&v6, 9), within(&v6, 10)), (Some(1), Some(1), Some(2)));
}

#[test]
fn b69_services_that_are_silent_here_are_counted_not_their_ports() {
    let mut subject = subject();
    let local = |endpoints: &[&str], here: &[&str]| {
        let mut port = service("10.0.0.9:80", endpoints);
        (port.internal_local, port.local) = (true, crate::support::endpoints(here));
        port.external = Some(Box::new(External { local: true, ..External::default() }));
        Desired::from([(key("local", "10.0.0.9:80"), port)])
    };
    let count = |subject: &Subject| families(subject).map(|it| it.no_local_endpoints);
    let (elsewhere, here, nowhere) =
        (local(&["10.1.0.1:1"], &[]), local(&["10.1.0.1:1"], &["10.1.0.1:1"]), local(&[], &[]));
    for (from, to, expected) in [
        (&Desired::new(), &elsewhere, 1),
        (&elsewhere, &here, 0),
        (&here, &elsewhere, 1),
        (&elsewhere, &nowhere, 0),
        (&nowhere, &elsewhere, 1),
        (&elsewhere, &Desired::new(), 0),
    ] {
        subject.desire(update(from, to));
        assert_eq!(count(&subject), [[expected; 2], [0; 2]]);
    }
    subject.desire(update(&Desired::new(), &elsewhere));
    subject.desire(replace(&elsewhere));
    assert_eq!(count(&subject), [[1; 2], [0; 2]], "a list replaces");
    let mut both = elsewhere.clone();
    let (mut key, port) = elsewhere.clone().pop_first().unwrap();
    key.port_name = "other".into();
    both.insert(key, port);
    for (from, to) in [(&elsewhere, &both), (&both, &elsewhere)] {
        subject.desire(update(from, to));
        assert_eq!(count(&subject), [[1; 2], [0; 2]], "it is the same Service");
    }
}
