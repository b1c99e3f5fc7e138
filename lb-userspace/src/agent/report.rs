//! The status file, kept up to date.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lb_common::SCHEMA;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::events::Counts;
use super::node::News;
use super::origin::Origin;
use super::sync::View;
use crate::bpf::pin::PinDir;
use crate::metrics::Facts;
use crate::reconcile::Report;
use crate::status::{self, Problem, Status, StatusFile};

/// The file is written at most so often.
const CALM: Duration = Duration::from_millis(50);

/// What the file is made of.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) pins: PinDir,
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) node: watch::Receiver<News>,
    pub(super) source: watch::Receiver<View>,
    pub(super) reconcile: watch::Receiver<Report>,
    pub(super) sockets: watch::Receiver<Option<Problem>>,
    pub(super) servers: watch::Receiver<BTreeMap<&'static str, Vec<Problem>>>,
    pub(super) events: watch::Receiver<Counts>,
}

/// Writes the file with every change, and logs `ready` after the first full synchronisation. Returns when nothing can
/// change any more.
pub(super) async fn follow(mut sources: Sources) {
    let file = match StatusFile::of(sources.pins.root()) {
        Ok(file) => file,
        Err(error) => {
            warn!("no status file: {error}");
            return std::future::pending().await;
        }
    };
    let started = status::started(None).unwrap_or_default();
    let mut written = None;
    let mut ready = false;
    loop {
        let current = sources.status();
        if written.as_ref() != Some(&current) {
            let (status, wrong) = &current;
            if let Err(error) = file.write(&Status { started, problems: wrong.all(), ..status.clone() }) {
                warn!("write the status file {}: {error}", file.path().display());
            }
            if status.synced && !ready {
                ready = true;
                info!("ready");
            }
            written = Some(current);
        }
        let changed = tokio::select! {
            changed = sources.node.changed() => changed,
            changed = sources.source.changed() => changed,
            changed = sources.reconcile.changed() => changed,
            changed = sources.sockets.changed() => changed,
            changed = sources.servers.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        // The first synchronisation is waited for: it is told at once.
        if ready {
            sleep(CALM).await;
        }
    }
}

/// Everything that is wrong. There may be much of it, and most of the time it is what it was.
#[derive(PartialEq, Eq)]
struct Wrong {
    source: Arc<[Problem]>,
    reconcile: Vec<Problem>,
    others: Vec<Problem>,
}

impl Wrong {
    fn all(&self) -> Vec<Problem> {
        let mut all = [&*self.source, &self.reconcile, &self.others].concat();
        all.sort();
        all
    }
}

impl Sources {
    /// The same in numbers.
    pub(super) fn facts(&self) -> Facts {
        let Counts { posted, known, failed } = *self.events.borrow();
        let (node, report, source) = (self.node.borrow(), self.reconcile.borrow(), self.source.borrow());
        Facts {
            synced: report.synced && node.settled,
            listed: source.listed,
            connected: source.connected,
            pods: node.interfaces.len(),
            outward: node.uplinks.len(),
            problems: vec![
                ("source", source.problems.len()),
                ("reconcile", report.problems.len()),
                ("node", node.problems.len()),
                ("sockets", self.sockets.borrow().iter().len()),
                ("servers", self.servers.borrow().values().map(Vec::len).sum()),
            ],
            events: vec![("posted", posted), ("known", known), ("failed", failed)],
        }
    }

    /// The status but for what never changes and the problems, and these.
    fn status(&mut self) -> (Status, Wrong) {
        let Self { pins: _, events: _, name, origin, node, source, reconcile, sockets, servers } = self;
        let (manifests, api_server) = match origin {
            Origin::Folder(folder) => (Some(folder.clone()), None),
            Origin::Api(access) => (None, Some(access.to_string())),
        };
        let News { settled, service_ranges, interfaces, uplinks, xdp, redirect_peer, problems: of_node } =
            node.borrow_and_update().clone();
        let View { listed, connected, problems: of_source, .. } = source.borrow_and_update().clone();
        let report = reconcile.borrow_and_update();
        let others = sockets.borrow_and_update().clone().into_iter();
        let wrong = Wrong {
            source: of_source,
            reconcile: report.problems.clone(),
            others: of_node
                .into_iter()
                .chain(others)
                .chain(servers.borrow_and_update().values().flatten().cloned())
                .collect(),
        };
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: SCHEMA,
            synced: report.synced && settled,
            node: name.clone(),
            manifests,
            api_server,
            connected,
            listed,
            service_ranges,
            interfaces,
            uplinks,
            xdp,
            redirect_peer,
            held: report.held.clone(),
            ..Status::default()
        };
        (status, wrong)
    }
}
