//! Kubernetes Events: what is wrong with objects, told to their owners.
//!
//! ```text
//! problems (source, reconciler, servers) ──> ledger (what was said, how much may be) ──> post ──> API server
//!                                              uids ──> sync
//! ```
//!
//! Problems are states: while one lasts, its Event is told again before the API server forgets it. What cannot be posted
//! is tried again, and nothing waits for it.

mod bucket;
mod ledger;
mod post;

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use tokio::sync::watch::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::sync::View;
use crate::http::Board;
use crate::model::{Kind, ObjectKey};
use crate::reconcile::Report;
use crate::source::api::Access;
use crate::status::Problem;
use ledger::{Fate, Ledger, Subject};
use post::Poster;

/// What changes is looked at so often at most.
const CALM: Duration = Duration::from_secs(1);
/// The name on the board.
const BOARD: &str = "Kubernetes Events";

/// A question: which uid has this Service? There is none for what no API server knows.
pub(super) type Asked = (ObjectKey, oneshot::Sender<Option<String>>);

/// What became of Events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Made, or told again.
    pub(super) posted: u64,
    /// Made before, by another node or an agent that ran here before.
    pub(super) known: u64,
    /// Attempts that failed.
    pub(super) failed: u64,
}

/// Where problems come from.
pub(super) struct Sources {
    pub(super) view: watch::Receiver<View>,
    pub(super) reconcile: watch::Receiver<Report>,
    pub(super) servers: watch::Receiver<BTreeMap<&'static str, Vec<Problem>>>,
    /// Who knows the objects.
    pub(super) uids: mpsc::Sender<Asked>,
    /// Who counts.
    pub(super) counts: watch::Sender<Counts>,
}

/// Posts Events about what is wrong, by `access`, as the node called `node`. What keeps it from that stands on `board`.
/// Returns when nothing can change any more.
pub(super) async fn follow(mut sources: Sources, access: Access, node: String, board: Board) {
    let now = || Instant::now().into_std();
    let mut ledger = Ledger::new(now(), fastrand::f64);
    let mut poster = Poster::new(access, &node);
    loop {
        // Posting takes its time: what is over meanwhile is not said.
        ledger.set(sources.wrong(), now());
        if !ledger.is_failing() {
            board.tell(BOARD, Vec::new());
        }
        let Some(post) = ledger.next(now()) else {
            let due = ledger.due(now()).map(Instant::from_std);
            match sources.changed(due).await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let fate = match sources.uid(&post.subject.0).await {
            Some(uid) => poster.post(&post, &uid).await,
            None => Ok(Fate::Known),
        };
        debug!(object = %post.subject.0, reason = post.subject.1.name(), ?fate, "event");
        let fate = fate.unwrap_or_else(|error| {
            let text = format!("what is wrong with objects is told here alone: {error:#}");
            board.tell(BOARD, vec![Problem::new(BOARD, text)]);
            Fate::Failed
        });
        sources.counts.send_modify(|counts| match fate {
            Fate::Posted(_) => counts.posted += 1,
            Fate::Known => counts.known += 1,
            Fate::Failed => counts.failed += 1,
            Fate::Expired => {}
        });
        ledger.note(post, fate, now());
    }
}

impl Sources {
    /// All that is wrong with objects and concerns their owners.
    fn wrong(&mut self) -> BTreeMap<Subject, String> {
        let mut wrong: BTreeMap<Subject, String> = BTreeMap::new();
        let mut add = |problem: &Problem| {
            // Of everything else an API server takes only what is right.
            let is_meant = |(key, reason): &Subject| key.kind == Kind::Service && reason.is_for_owner();
            let Some(subject) = problem.owner.clone().filter(is_meant) else {
                return;
            };
            let note = wrong.entry(subject).or_default();
            // One table without room is one thing, for however many ports.
            if note.contains(&problem.text) {
                return;
            }
            if !note.is_empty() {
                note.push_str("; ");
            }
            note.push_str(&problem.text);
        };
        self.view.borrow_and_update().problems.iter().for_each(&mut add);
        self.reconcile.borrow_and_update().problems.iter().for_each(&mut add);
        self.servers.borrow_and_update().values().flatten().for_each(&mut add);
        wrong
    }

    /// Waits until something may be wrong that was not, or until `due`.
    async fn changed(&mut self, due: Option<Instant>) -> Result<(), RecvError> {
        let again = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            changed = self.view.changed() => changed?,
            changed = self.reconcile.changed() => changed?,
            changed = self.servers.changed() => changed?,
            () = again => return Ok(()),
        }
        sleep(CALM).await;
        Ok(())
    }

    async fn uid(&self, key: &ObjectKey) -> Option<String> {
        let (answer, uid) = oneshot::channel();
        self.uids.send((key.clone(), answer)).await.ok()?;
        uid.await.ok()?
    }
}
