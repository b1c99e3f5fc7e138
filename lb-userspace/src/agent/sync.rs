//! From the source to the reconciler.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::model::Index;
use crate::reconcile::Change;
use crate::source::manifests::Folder;
use crate::status::Problem;

/// What the source says beside Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct View {
    /// Whether the first full list has come: only then does the rest say anything.
    pub(super) listed: bool,
    /// The addresses that the Node object names, the primary one of a family first.
    pub(super) node: Vec<IpAddr>,
    /// The ranges of its pods' addresses, as the Node object has them.
    pub(super) pod_cidrs: Vec<String>,
    /// What is wrong with manifests and objects.
    pub(super) problems: Vec<Problem>,
}

/// Follows `folder` for the node called `name`. Returns when one of the ends is gone.
pub(super) async fn follow(
    mut folder: Folder,
    name: &str,
    changes: mpsc::Sender<Change>,
    view: watch::Sender<View>,
) {
    let mut index = Index::new(name);
    let (mut listed, mut whole) = (false, false);
    // The source logs what it cannot read; this is what it could.
    let mut told = BTreeSet::new();
    while let Some(update) = folder.next().await {
        for key in &update.deletes {
            index.delete(key);
        }
        for object in update.upserts {
            index.apply(object);
        }
        let changed = index.take_changes();
        let faults = update.problems.iter().map(|problem| Problem {
            object: match problem.line {
                Some(line) => format!("{}:{line}", problem.path.display()),
                None => problem.path.display().to_string(),
            },
            text: problem.text.clone(),
        });
        let objects: BTreeSet<Problem> = index
            .problems()
            .map(|(key, text)| Problem { object: key.to_string(), text: text.to_owned() })
            .collect();
        for Problem { object, text } in objects.difference(&told) {
            warn!("{object}: {text}");
        }
        told.clone_from(&objects);
        let seen = View {
            listed: true,
            node: index.node().map(|node| node.addresses.clone()).unwrap_or_default(),
            pod_cidrs: index.node().map(|node| node.pod_cidrs.clone()).unwrap_or_default(),
            problems: faults.chain(objects).collect(),
        };
        view.send_if_modified(|known| {
            let modified = *known != seen;
            *known = seen;
            modified
        });
        // The first update is the whole folder, as far as it can be read.
        let change = match (listed, update.complete) {
            (true, _) => Change::Update(changed),
            (false, true) => Change::Replace(changed),
            (false, false) => Change::Partial(changed),
        };
        let end = (listed && update.complete && !whole).then_some(Change::Whole);
        (listed, whole) = (true, whole || update.complete);
        for change in [Some(change), end].into_iter().flatten() {
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}
