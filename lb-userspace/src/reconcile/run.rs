//! The loop around the core.

use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tracing::debug;

use super::{Change, Reconciler, Report};
use crate::tables::Tables;
use crate::tasks::joined;

/// The shortest time between two steps: a burst is coalesced over it.
const COALESCE: Duration = Duration::from_millis(10);
/// How often the tables are compared with their mirror (B10).
const VERIFY: Duration = Duration::from_secs(60);

/// Programs `changes` until they end or `shutdown` completes, and reports after each step. The tables stay as they are.
pub async fn run<T: Tables>(
    mut reconciler: Reconciler<T>,
    mut changes: mpsc::Receiver<Change>,
    report: watch::Sender<Report>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    reconciler.watch(Timestamp::now());
    let mut verify = interval_at(Instant::now() + VERIFY, VERIFY);
    verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut grace: Option<JoinHandle<()>> = None;
    let mut not_before = Instant::now();
    loop {
        let mut queued = false;
        let due = reconciler.due(Instant::now().into_std()).map(Instant::from_std);
        select! {
            biased;
            () = &mut shutdown => break,
            change = changes.recv() => {
                let Some(change) = change else { break };
                reconciler.desire(change);
                while let Ok(change) = changes.try_recv() {
                    reconciler.desire(change);
                }
                queued = reconciler.queue(Instant::now().into_std());
            }
            () = end_of(&mut grace) => {
                grace = None;
                reconciler.end_grace();
            }
            _ = verify.tick() => reconciler.verify(),
            () = wait_until(due.map(|due| due.max(not_before))) => {}
        }
        let now = Instant::now();
        let due = reconciler.due(now.into_std()).is_some_and(|due| due <= now.into_std());
        if due && not_before <= now {
            not_before = now + COALESCE;
            let outcome = reconciler.step(now.into_std());
            reconciler.end(now.into_std(), Instant::now().into_std(), Timestamp::now());
            debug!(?outcome, took = ?now.elapsed(), "step");
            report.send_replace(reconciler.report());
        } else if queued {
            report.send_replace(reconciler.report());
        }
        if grace.is_none() {
            grace = reconciler.begin_grace().map(spawn_blocking);
        }
    }
}

async fn end_of(grace: &mut Option<JoinHandle<()>>) {
    match grace {
        Some(waiting) => joined(waiting).await,
        None => pending().await,
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
