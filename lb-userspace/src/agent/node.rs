//! Interfaces and addresses of the node, followed.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use glob::Pattern;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::interfaces::Interfaces;
use super::settings::Settings;
use super::sync::View;
use crate::bpf::load::Datapath;
use crate::net::node::{NodeAddresses, routed_sources};
use crate::net::watch::{NetError, Watcher};
use crate::reconcile::Change;
use crate::status::Problem;

/// How often to look without a notice: routes change without one, and what failed is tried again.
const LOOK: Duration = Duration::from_secs(30);
/// How long to wait before a failed socket is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// What the status file says about the node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct News {
    /// Whether the node's addresses have been chosen, and all interfaces that were there at the start had their turn.
    pub(super) settled: bool,
    /// Names of the interfaces that have the programs.
    pub(super) interfaces: Vec<String>,
    /// Interfaces that have not.
    pub(super) problems: Vec<Problem>,
}

/// The shortest time between two looks: a new interface comes with several notices.
const CALM: Duration = Duration::from_millis(10);

/// The node's network.
pub(super) struct Node {
    datapath: Arc<Datapath>,
    settings: Settings,
    watcher: Watcher,
    interfaces: Interfaces,
    news: watch::Sender<News>,
    changes: mpsc::Sender<Change>,
    /// The addresses that were told last.
    held: BTreeSet<IpAddr>,
    /// Whether interfaces are left for the next look.
    more: bool,
}

impl Node {
    /// Begins to attach to what is there, and says to `changes` which addresses interfaces have, before anything else can.
    ///
    /// # Errors
    /// The network cannot be listed.
    pub(super) async fn start(
        datapath: Arc<Datapath>,
        settings: Settings,
        pod_interfaces: Vec<Pattern>,
        linked: BTreeSet<u32>,
        news: watch::Sender<News>,
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, NetError> {
        let mut node = Self {
            datapath,
            settings,
            watcher: Watcher::open()?,
            interfaces: Interfaces::new(pod_interfaces, linked),
            news,
            changes,
            held: BTreeSet::new(),
            more: false,
        };
        node.more = node.look(BTreeSet::new(), &View::default()).await?;
        Ok(node)
    }

    /// Follows the network, and what the source says about the Node, for ever.
    pub(super) async fn follow(&mut self, mut source: watch::Receiver<View>) {
        loop {
            let look = if self.more { Duration::ZERO } else { LOOK };
            let gone = tokio::select! {
                gone = timeout(look, self.watcher.changed()) => gone.unwrap_or_else(|_| Ok(BTreeSet::new())),
                _ = source.changed() => Ok(BTreeSet::new()),
            };
            let view = source.borrow_and_update().clone();
            let looked = match gone {
                Ok(gone) => self.look(gone, &view).await,
                Err(error) => Err(error),
            };
            self.more = match looked {
                Ok(more) => more,
                Err(error) => {
                    warn!("the network is not followed for a moment: {error}");
                    sleep(REOPEN).await;
                    self.reopen()
                }
            };
            sleep(CALM).await;
        }
    }

    /// Starts over with new sockets; true if that went well, and it is time to look.
    fn reopen(&mut self) -> bool {
        match Watcher::open() {
            Ok(watcher) => {
                self.watcher = watcher;
                self.interfaces.doubt();
                true
            }
            Err(error) => {
                warn!("{error}");
                false
            }
        }
    }

    /// Brings everything up to date, and says whether interfaces are left for the next look. `gone`: interfaces that
    /// vanished.
    async fn look(&mut self, gone: BTreeSet<u32>, view: &View) -> Result<bool, NetError> {
        let network = self.watcher.list().await?;
        if self.held != network.held {
            self.held.clone_from(&network.held);
            // It fails when the agent is about to end.
            let _ = self.changes.send(Change::Held(network.held.clone())).await;
        }
        // Until the source has spoken, the addresses of a former agent hold: no flow shall see a change and its return.
        if view.listed {
            let chosen = NodeAddresses::choose(&view.node, &network.addresses, &routed_sources());
            if let Err(error) = self.settings.set_node(chosen) {
                warn!("node addresses stay as they were: {error}");
            }
        }
        let (mut interfaces, datapath) = (std::mem::take(&mut self.interfaces), Arc::clone(&self.datapath));
        let following = spawn_blocking(move || {
            let more = interfaces.follow(&network, &gone, &*datapath);
            (interfaces, more)
        });
        let (interfaces, more) = match following.await {
            Ok(followed) => followed,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is going down.
                Err(_) => pending().await,
            },
        };
        self.interfaces = interfaces;
        let news = News {
            settled: self.news.borrow().settled || view.listed && !more,
            interfaces: self.interfaces.names(),
            problems: self.interfaces.problems(),
        };
        self.news.send_if_modified(|known| {
            let modified = *known != news;
            *known = news;
            modified
        });
        Ok(more)
    }
}
