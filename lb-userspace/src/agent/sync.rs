//! From the source to the reconciler.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::events;
use crate::health::{self, Told};
use crate::model::{Index, Kind, NodeView};
use crate::reconcile::Change;
use crate::source::{Event, Extent, Source, Update};
use crate::status::Problem;
use crate::tasks::Ended;

/// What the source says beside Services. What has not changed is the same allocation as before: copies and comparisons are
/// cheap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct View {
    /// Whether the first full list has come: only then does the rest say anything.
    pub(super) listed: bool,
    /// Whether the source answers.
    pub(super) connected: bool,
    /// The own Node object; `None`: there is none.
    pub(super) node: Option<Arc<NodeView>>,
    /// Where addresses of Services are allocated, as ServiceCIDRs say it (B5); empty where there are none.
    pub(super) service_ranges: Vec<String>,
    /// What is wrong with the source and with objects.
    pub(super) problems: Arc<[Problem]>,
}

/// Follows `source` into `index`, which is empty, and says which uids Services have. Returns when one of the ends is gone,
/// and which.
pub(super) async fn follow(
    mut source: Source,
    index: Index,
    changes: mpsc::Sender<Change>,
    view: watch::Sender<View>,
    health: watch::Sender<Told>,
    mut asked: mpsc::Receiver<events::Asked>,
) -> Ended {
    let mut sync = Sync::new(index);
    loop {
        let update = tokio::select! {
            update = source.next() => match update {
                Ok(update) => update,
                Err(ended) => return ended,
            },
            Some((service, answer)) = asked.recv() => {
                // Who no longer waits for it has ended.
                let _ = answer.send(sync.index.uid(&service.namespace, &service.name).map(str::to_owned));
                continue;
            }
        };
        let News { view: current, told, changes: news } = sync.take(update);
        if let Some(told) = told {
            tell(&health, told);
        }
        tell(&view, current);
        for change in news {
            if changes.send(change).await.is_err() {
                return Ended::new("the reconciler");
            }
        }
    }
}

/// What follows from an update.
struct News {
    view: View,
    /// For health checks; `None`: nothing can be said yet.
    told: Option<Told>,
    /// For the reconciler.
    changes: Vec<Change>,
}

/// What the source has told.
struct Sync {
    index: Index,
    /// How much the reconciler knows of; `None`: nothing.
    known: Option<Extent>,
    /// Whether there is a Node object of every node, and it has been told: one that is missing has been deleted (B91). A
    /// folder needs to have none.
    expected: bool,
    /// What the source said last that it could not read.
    faults: Vec<Problem>,
    /// What is wrong with objects that it could.
    complaints: BTreeSet<Problem>,
    /// Both.
    problems: Arc<[Problem]>,
}

impl Sync {
    fn new(index: Index) -> Self {
        Self {
            index,
            known: None,
            expected: false,
            faults: Vec::new(),
            complaints: BTreeSet::new(),
            problems: Arc::default(),
        }
    }

    fn take(&mut self, update: Update) -> News {
        let Update { events, problems, extent, connected } = update;
        for event in events {
            match event {
                Event::Set(object) => self.index.apply(object),
                Event::Gone(key) => self.index.delete(&key),
                Event::Listed(kind, seen) => {
                    self.expected |= kind == Kind::Node;
                    self.index.retain(kind, |key| seen.contains(key));
                }
            }
        }
        self.expected |= self.index.node().is_some();
        let listed = extent > Extent::Begun;
        // Before that, what is half known would be derived again and again.
        let changed = if listed { self.index.take_changes() } else { Vec::new() };
        self.complain(problems);
        let node = self.index.node();
        let eligible = health::is_eligible(node.map(|node| &**node), self.expected);
        let view = View {
            listed,
            connected,
            node: node.cloned(),
            service_ranges: self.index.service_ranges(),
            problems: Arc::clone(&self.problems),
        };
        let change = match (self.known, extent) {
            (_, Extent::Begun) => return News { view, told: None, changes: Vec::new() },
            (Some(_), _) => Change::Update(changed),
            (None, Extent::Whole) => Change::Replace(changed),
            (None, Extent::Partial) => Change::Partial(changed),
        };
        let end = (self.known, extent) == (Some(Extent::Partial), Extent::Whole);
        let seen = Change::Seen(self.index.take_seen());
        self.known = self.known.max(Some(extent));
        let told = Told { eligible, checks: Arc::clone(self.index.health_checks()) };
        let changes = [Some(seen), Some(change), end.then_some(Change::Whole)];
        News { view, told: Some(told), changes: changes.into_iter().flatten().collect() }
    }

    /// Brings up to date what is wrong, and logs what is new. The source has logged what it cannot read.
    fn complain(&mut self, faults: Vec<Problem>) {
        let complained = self.index.take_complained();
        if complained {
            let complaints: BTreeSet<Problem> = self
                .index
                .problems()
                .map(|(key, complaint)| {
                    Problem::new(key.to_string(), &*complaint.text).of(key.clone(), complaint.reason)
                })
                .collect();
            for problem in complaints.difference(&self.complaints) {
                warn!("{problem}");
            }
            self.complaints = complaints;
        }
        if complained || faults != self.faults {
            self.problems = faults.iter().chain(&self.complaints).cloned().collect();
            self.faults = faults;
        }
    }
}

/// Tells `news`, unless it is none.
pub(super) fn tell<T: PartialEq>(channel: &watch::Sender<T>, news: T) {
    channel.send_if_modified(|known| {
        let modified = *known != news;
        *known = news;
        modified
    });
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::object::{Node, NodeAddress, Object, Service};
    use crate::model::{ObjectKey, Reason};

    fn update(extent: Extent, events: Vec<Event>) -> Update {
        Update { events, extent, connected: true, ..Update::default() }
    }

    fn node(zone: &str) -> Event {
        let mut node = Node::default();
        node.metadata.name = "n1".to_owned();
        node.metadata.labels.insert("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
        node.status.addresses =
            vec![NodeAddress { r#type: "InternalIP".to_owned(), address: "192.0.2.1".to_owned() }];
        Event::Set(Arc::new(Object::Node(node)))
    }

    fn service(address: &str) -> Event {
        let mut service = Service::default();
        service.metadata.name = "web".to_owned();
        service.metadata.namespace = "d".to_owned();
        service.spec.cluster_ip = address.to_owned();
        Event::Set(Arc::new(Object::Service(service)))
    }

    #[test]
    fn b91_a_node_is_missing_only_where_nodes_were_told() {
        let mut sync = Sync::new(Index::new("n1"));
        let mut after = |extent, events| sync.take(update(extent, events)).told.map(|told| told.eligible);
        assert_eq!(after(Extent::Begun, vec![service("10.96.0.1")]), None);
        assert_eq!(after(Extent::Whole, Vec::new()), Some(true), "the list of Nodes does not come");
        assert_eq!(after(Extent::Whole, vec![Event::Listed(Kind::Node, HashSet::new())]), Some(false));
        assert_eq!(after(Extent::Whole, vec![node("a")]), Some(true));
        let gone = ObjectKey::new(Kind::Node, "", "n1");
        assert_eq!(after(Extent::Whole, vec![Event::Gone(gone)]), Some(false));
    }

    #[test]
    fn what_has_not_changed_is_not_made_again() {
        let mut sync = Sync::new(Index::new("n1"));
        let mut view = |events| sync.take(update(Extent::Whole, events)).view;
        let bad = |view: &View| {
            let of = |problem: &Problem| problem.owner.as_ref().map(|(_, reason)| *reason);
            view.problems.iter().any(|problem| of(problem) == Some(Reason::InvalidAddress))
        };
        let first = view(vec![node("a"), service("0.0.0.0")]);
        assert!(bad(&first), "{:?}", first.problems);
        let same = view(vec![node("a"), service("0.0.0.0")]);
        assert!(Arc::ptr_eq(&first.problems, &same.problems));
        assert!(Arc::ptr_eq(&first.node.unwrap(), &same.node.unwrap()));
        let mended = view(vec![service("10.96.0.1"), node("b")]);
        assert!(!bad(&mended), "{:?}", mended.problems);
        assert_eq!(mended.node.unwrap().zone.as_deref(), Some("b"));
    }
}
