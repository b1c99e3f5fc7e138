//! The loop around the reconciler, in a time that passes only when everybody waits.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lb_userspace::plan::{Op, Snapshot};
use lb_userspace::reconcile::{Change, Reconciler, Report, run};
use lb_userspace::tables::{Fake, Fault, Faulty, Grace, TableError, Tables};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Desired, NODE, ROOMY, check, key, replace, service, update, views_of};

/// Tables that the test can reach while the loop has them.
#[derive(Clone)]
struct Shared(Arc<Mutex<Faulty<Fake>>>);

impl Shared {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Faulty::new(Fake::new(ROOMY), Fault::Never))))
    }

    fn get(&self) -> MutexGuard<'_, Faulty<Fake>> {
        self.0.lock().unwrap()
    }

    fn holds(&self, desired: &Desired) -> bool {
        let snapshot = self.get().inner.read().unwrap();
        snapshot.frontends.len() == desired.len() && check(&snapshot) == views_of(desired)
    }
}

impl Tables for Shared {
    fn apply(&mut self, op: &Op) -> Result<(), TableError> {
        self.get().apply(op)
    }

    fn read(&self) -> Result<Snapshot, TableError> {
        self.get().read()
    }

    fn grace(&self) -> Grace {
        self.get().grace()
    }
}

struct Running {
    tables: Shared,
    changes: mpsc::Sender<Change>,
    report: watch::Receiver<Report>,
    task: JoinHandle<()>,
}

fn spawn(shutdown: impl Future<Output = ()> + Send + 'static) -> Running {
    let tables = Shared::new();
    let (changes, received) = mpsc::channel(16);
    let (sent, report) = watch::channel(Report::default());
    let reconciler = Reconciler::adopt(tables.clone(), NODE).unwrap();
    let task = tokio::spawn(run(reconciler, received, sent, shutdown));
    Running { tables, changes, report, task }
}

fn desired(services: u8) -> Desired {
    let entry = |i| {
        let frontend = format!("10.0.0.{i}:80");
        (key(&format!("s{i}"), &frontend), service(&frontend, &["10.1.0.1:1"]))
    };
    (0..services).map(entry).collect()
}

#[tokio::test(start_paused = true)]
async fn b8_a_lone_change_is_programmed_at_once() {
    let mut running = spawn(pending());
    running.changes.send(replace(&desired(1))).await.unwrap();
    running.report.changed().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    running.changes.send(update(&desired(1), &desired(2))).await.unwrap();
    running.report.changed().await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(1));
    assert!(running.tables.holds(&desired(2)));
}

#[tokio::test(start_paused = true)]
async fn b8_a_burst_is_coalesced_over_ten_milliseconds() {
    let mut running = spawn(pending());
    running.changes.send(replace(&Desired::new())).await.unwrap();
    running.report.changed().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    for i in 0..60 {
        running.changes.send(update(&desired(i), &desired(i + 1))).await.unwrap();
        if i % 10 == 9 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let mut reports = 0;
    while !running.tables.holds(&desired(60)) {
        timeout(Duration::from_secs(1), running.report.changed()).await.unwrap().unwrap();
        reports += 1;
    }
    assert!(reports <= 2, "{reports} steps");
    assert!(before.elapsed() <= Duration::from_millis(15), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn b8_what_failed_is_tried_again_in_time() {
    let mut running = spawn(pending());
    let calls = running.tables.get().calls();
    running.tables.get().fault = Fault::From(calls + 2);
    running.changes.send(replace(&desired(3))).await.unwrap();
    running.report.wait_for(|report| !report.problems.is_empty()).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    running.tables.get().fault = Fault::Never;
    let report = running.report.wait_for(|report| report.problems.is_empty());
    timeout(Duration::from_secs(20), report).await.unwrap().unwrap();
    assert!(running.tables.holds(&desired(3)));
}

#[tokio::test(start_paused = true)]
async fn b10_the_tables_are_compared_every_minute() {
    let mut running = spawn(pending());
    running.changes.send(replace(&desired(3))).await.unwrap();
    running.report.changed().await.unwrap();
    running.tables.get().inner.v4.frontends.entries.clear();
    let report = running.report.wait_for(|report| report.repairs > 0);
    let repairs = timeout(Duration::from_secs(61), report).await.unwrap().unwrap().repairs;
    assert_eq!(repairs, 3);
    assert!(running.tables.holds(&desired(3)));
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_told_to_or_when_nobody_can_bring_changes_and_leaves_the_tables() {
    let (stop, stopped) = oneshot::channel();
    let mut running = spawn(async { stopped.await.unwrap() });
    running.changes.send(replace(&desired(2))).await.unwrap();
    running.report.wait_for(|report| report.synced).await.unwrap();
    stop.send(()).unwrap();
    running.task.await.unwrap();
    assert!(running.tables.holds(&desired(2)));

    let running = spawn(pending());
    drop(running.changes);
    running.task.await.unwrap();
}
