//! From the source to the reconciler.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::events;
use crate::health::{self, Told};
use crate::model::{Index, NodeView};
use crate::reconcile::Change;
use crate::source::{Event, Extent, Source};
use crate::status::Problem;
use crate::tasks::Ended;

/// What the source says beside Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct View {
    /// Whether the first full list has come: only then does the rest say anything.
    pub(super) listed: bool,
    /// Whether the source answers.
    pub(super) connected: bool,
    /// The own Node object; `None`: there is none.
    pub(super) node: Option<NodeView>,
    /// Where addresses of Services are allocated, as ServiceCIDRs say it (B5); empty where there are none.
    pub(super) service_ranges: Vec<String>,
    /// What is wrong with the source and with objects.
    pub(super) problems: Vec<Problem>,
}

/// Follows `source` for the node called `name`, and says which uids Services have. Returns when one of the ends is gone,
/// and which.
pub(super) async fn follow(
    mut source: Source,
    name: &str,
    changes: mpsc::Sender<Change>,
    view: watch::Sender<View>,
    health: watch::Sender<Told>,
    mut asked: mpsc::Receiver<events::Asked>,
) -> Ended {
    let mut index = Index::new(name);
    // How much the reconciler knows of; `None`: nothing.
    let mut known = None;
    // The source logs what it cannot read; this is what it could.
    let mut told = BTreeSet::new();
    let mut expected = source.has_nodes();
    loop {
        let update = tokio::select! {
            update = source.next() => match update {
                Ok(update) => update,
                Err(ended) => return ended,
            },
            Some((service, answer)) = asked.recv() => {
                // Who no longer waits for it has ended.
                let _ = answer.send(index.uid(&service.namespace, &service.name).map(str::to_owned));
                continue;
            }
        };
        for event in update.events {
            match event {
                Event::Set(object) => index.apply(object),
                Event::Gone(key) => index.delete(&key),
                Event::Listed(kind, seen) => index.retain(kind, |key| seen.contains(key)),
            }
        }
        let listed = update.extent > Extent::Begun;
        // Before that, what is half known would be derived again and again.
        let changed = if listed { index.take_changes() } else { Vec::new() };
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
        if listed {
            let eligible = health::is_eligible(index.node(), expected);
            tell(&health, Told { eligible, checks: index.health_checks().clone() });
        }
        let current = View {
            listed,
            connected: update.connected,
            node: index.node().cloned(),
            service_ranges: index.service_ranges(),
            problems: faults.chain(objects).collect(),
        };
        tell(&view, current);
        let change = match (known, update.extent) {
            (_, Extent::Begun) => continue,
            (Some(_), _) => Change::Update(changed),
            (None, Extent::Whole) => Change::Replace(changed),
            (None, Extent::Partial) => Change::Partial(changed),
        };
        let end = (known, update.extent) == (Some(Extent::Partial), Extent::Whole);
        let end = end.then_some(Change::Whole);
        let seen = Change::Seen(index.take_seen());
        known = known.max(Some(update.extent));
        for change in [Some(seen), Some(change), end].into_iter().flatten() {
            if changes.send(change).await.is_err() {
                return Ended::new("the reconciler");
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
