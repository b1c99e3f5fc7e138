//! From the source to the reconciler.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::health::{self, Told};
use crate::model::{Index, NodeView};
use crate::reconcile::Change;
use crate::source::{Extent, Source};
use crate::status::Problem;

/// What the source says beside Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct View {
    /// Whether the first full list has come: only then does the rest say anything.
    pub(super) listed: bool,
    /// The own Node object; `None`: there is none.
    pub(super) node: Option<NodeView>,
    /// What is wrong with the source and with objects.
    pub(super) problems: Vec<Problem>,
}

/// Follows `source` for the node called `name`. Returns when one of the ends is gone.
pub(super) async fn follow(
    mut source: Source,
    name: &str,
    changes: mpsc::Sender<Change>,
    view: watch::Sender<View>,
    health: watch::Sender<Told>,
) {
    let mut index = Index::new(name);
    // How much the reconciler knows of; `None`: nothing.
    let mut known = None;
    // The source logs what it cannot read; this is what it could.
    let mut told = BTreeSet::new();
    let mut expected = source.has_nodes();
    while let Some(update) = source.next().await {
        for key in &update.deletes {
            index.delete(key);
        }
        for object in update.upserts {
            index.apply(object);
        }
        let changed = index.take_changes();
        let seen = Change::Seen(index.take_seen());
        let faults =
            update.problems.iter().map(|problem| Problem::new(problem.place(), problem.text.clone()));
        let objects: BTreeSet<Problem> = index
            .problems()
            .map(|(key, complaint)| {
                Problem::new(key.to_string(), &*complaint.text).of(key.clone(), complaint.reason)
            })
            .collect();
        for Problem { object, text, .. } in objects.difference(&told) {
            warn!("{object}: {text}");
        }
        told.clone_from(&objects);
        expected |= index.node().is_some();
        tell(
            &health,
            Told {
                eligible: health::is_eligible(index.node(), expected),
                checks: index.health_checks().clone(),
            },
        );
        let current =
            View { listed: true, node: index.node().cloned(), problems: faults.chain(objects).collect() };
        tell(&view, current);
        let change = match (known, update.extent) {
            (Some(_), _) => Change::Update(changed),
            (None, Extent::Whole) => Change::Replace(changed),
            (None, Extent::Partial) => Change::Partial(changed),
        };
        let end = (known, update.extent) == (Some(Extent::Partial), Extent::Whole);
        let end = end.then_some(Change::Whole);
        known = known.max(Some(update.extent));
        for change in [Some(seen), Some(change), end].into_iter().flatten() {
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// Tells `news`, unless it is none.
fn tell<T: PartialEq>(channel: &watch::Sender<T>, news: T) {
    channel.send_if_modified(|known| {
        let modified = *known != news;
        *known = news;
        modified
    });
}
