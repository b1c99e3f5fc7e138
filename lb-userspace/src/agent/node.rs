//! Interfaces and addresses of the node, followed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::interface_flags::PEER;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::cidr::ServiceRanges;
use super::classes::{Classes, Outward};
use super::facts::{Facts, Told};
use super::hooks::Hooks;
use super::interfaces::{Interfaces, Named};
use super::masquerade::Ranges;
use super::nodeports::{NodePortAddresses, is_link_local};
use super::settings::Settings;
use super::shortcut::{Heard, Shortcut};
use super::sync::{View, tell};
use super::xdp::Xdp;
use crate::bpf::attach::Class;
use crate::bpf::load::Datapath;
use crate::model::NodeView;
use crate::net::node::{NodeAddresses, routed_sources};
use crate::net::watch::{NetError, Network, Passed, Watcher};
use crate::plan::Own;
use crate::reconcile::Change;
use crate::status::{self, Problem};
use crate::tasks::blocking;

/// How often to look without a notice: routes change without one, and what failed is tried again.
const LOOK: Duration = Duration::from_secs(30);
/// How long to wait before a failed socket is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// What the status file says about the node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct News {
    /// Whether the node's addresses have been chosen, and all interfaces that were there at the start had their turn.
    pub(super) settled: bool,
    /// Where addresses of Services are allocated.
    pub(super) service_ranges: Vec<String>,
    /// Names of the interfaces that have the programs.
    pub(super) interfaces: Vec<String>,
    /// Names of the uplinks and overlays that have theirs.
    pub(super) uplinks: Vec<String>,
    /// How the uplinks are served.
    pub(super) xdp: Vec<status::Xdp>,
    /// Names of the interfaces from which packets go past the host stack; `None`: `--redirect-peer` is off.
    pub(super) redirect_peer: Option<Vec<String>>,
    /// Interfaces that have not, and what is not known.
    pub(super) problems: Vec<Problem>,
}

/// The shortest time between two looks: a new interface comes with several notices.
const CALM: Duration = Duration::from_millis(10);

/// The interfaces, and what the programs are told of them.
pub(super) struct Served {
    pods: Interfaces,
    outward: Interfaces,
    xdp: Xdp,
    shortcut: Shortcut,
    facts: Facts,
}

impl Served {
    /// What a former agent has left in the network namespace; if it was another one, that is taken away. `xdp`: `--xdp auto`;
    /// `shortcut`: `--redirect-peer`.
    ///
    /// # Errors
    /// A pin cannot be read or removed, or the map is not there.
    pub(super) fn adopt(datapath: &Datapath, moved: bool, xdp: bool, shortcut: bool) -> anyhow::Result<Self> {
        let adopt = |class| -> anyhow::Result<Interfaces> {
            let mut linked = datapath.linked_interfaces(class)?;
            for index in if moved { std::mem::take(&mut linked) } else { BTreeSet::new() } {
                datapath.detach_interface(class, index)?;
            }
            Ok(Interfaces::new(class, linked))
        };
        let (pods, outward) = (adopt(Class::Pods)?, adopt(Class::Outward)?);
        let xdp = Xdp::new(xdp, adopt(Class::Xdp)?);
        let shortcut = Shortcut::new(shortcut, adopt(Class::Shortcut)?);
        Ok(Self { pods, outward, xdp, shortcut, facts: Facts::open(datapath.pins())? })
    }

    /// Attaches and detaches, and tells the programs, by what interfaces are now. `node`: the addresses of the Node object;
    /// until they are known, interfaces that lead out by them keep what they have. True if interfaces are left for the next
    /// call; and the problems beside those of single interfaces. Blocks.
    fn follow(
        &mut self,
        classes: &Classes,
        network: &Network,
        node: Option<&[IpAddr]>,
        passed: &Passed,
        datapath: &Datapath,
    ) -> (bool, Vec<Problem>) {
        let pods = classes.pods(network);
        let Outward { served: mut outward, overlays, problems } =
            classes.outward(network, node.unwrap_or_default());
        self.outward.rest(&mut outward, &pods, passed, network);
        if node.is_none() {
            self.outward.keep(&mut outward, &pods, network);
        }
        // XDP begins what tc goes on with: it comes after tc, in the next call, and goes before.
        let uplink = |index: &u32| {
            let tunnel = network.interfaces.get(index).is_some_and(|interface| interface.overlay);
            !tunnel && !overlays.contains(index)
        };
        let uplinks: Named = outward.clone().into_iter().filter(|(index, _)| uplink(index)).collect();
        let ready: Named =
            uplinks.clone().into_iter().filter(|(index, _)| self.outward.knows(*index)).collect();
        let chosen = self.xdp.choose(&ready, network);
        self.shortcut.forget(&passed.gone);
        // Before a new pod's first flow, and before an uplink ceases to take frames.
        self.facts.tell(&self.facts_of(classes, network, &pods));
        let hooks = Hooks { datapath, network };
        let mut more = self.xdp.follow(chosen, &passed.gone, &hooks);
        more |= self.pods.follow(&pods, &passed.gone, &hooks);
        more |= self.outward.follow(&outward, &passed.gone, &hooks);
        more |= uplinks.keys().any(|index| self.outward.knows(*index) && !ready.contains_key(index));
        self.shortcut.choose(network, [&self.pods, &self.outward], datapath.pins());
        // At once no packet goes past rules that have come: the program itself takes longer to go.
        self.facts.tell(&self.facts_of(classes, network, &Named::new()));
        more |= self.shortcut.follow(&passed.gone, &hooks);
        (more, problems)
    }
}

impl Served {
    fn facts_of(&self, classes: &Classes, network: &Network, coming: &Named) -> Told {
        let mut told = classes.facts(network, (&self.pods, &self.outward), self.xdp.sends(), coming);
        for index in self.shortcut.peers() {
            told.entry(*index).or_default().flags |= PEER;
        }
        told
    }
}

/// What of the source concerns the network.
fn told(view: &View) -> (bool, Option<&NodeView>, &[String]) {
    (view.listed, view.node.as_deref(), &view.service_ranges)
}

/// What the flags say of addresses.
#[derive(Debug)]
pub(super) struct Wanted {
    /// `--service-cluster-ip-range`, which holds where the source names no ranges.
    pub(super) ranges: ServiceRanges,
    /// `--nodeport-addresses`.
    pub(super) node_ports: NodePortAddresses,
}

/// Whom the node tells what.
pub(super) struct Listeners {
    /// The status file.
    pub(super) news: watch::Sender<News>,
    /// The reconciler.
    pub(super) changes: mpsc::Sender<Change>,
    /// The servers of health check node ports: the addresses to listen at.
    pub(super) listening: watch::Sender<BTreeSet<IpAddr>>,
}

/// The node's network.
pub(super) struct Node {
    datapath: Arc<Datapath>,
    settings: Settings,
    watcher: Watcher,
    /// Word of what packets would go past.
    heard: Heard,
    classes: Arc<Classes>,
    wanted: Wanted,
    /// Absent only while another thread has it.
    served: Option<Served>,
    listeners: Listeners,
    /// The node's own addresses, as they were told last.
    own: Own,
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
        (classes, wanted): (Classes, Wanted),
        served: Served,
        listeners: Listeners,
    ) -> Result<Self, NetError> {
        let mut node = Self {
            datapath,
            settings,
            watcher: Watcher::open(true)?,
            heard: served.shortcut.listen(),
            classes: Arc::new(classes),
            wanted,
            served: Some(served),
            listeners,
            own: Own::default(),
            more: false,
        };
        node.more = node.look(Passed::default(), &View::default()).await?;
        Ok(node)
    }

    /// Follows the network, and what the source says about the Node, for ever.
    pub(super) async fn follow(mut self, mut source: watch::Receiver<View>) {
        let mut known = View::default();
        loop {
            let look = if self.more { Duration::ZERO } else { LOOK };
            let passed = tokio::select! {
                passed = timeout(look, self.watcher.changed()) => passed.unwrap_or_else(|_| Ok(Passed::default())),
                () = self.heard.changed() => Ok(Passed::default()),
                // Of Services there is news all the time.
                _ = source.wait_for(|view| told(view) != told(&known)) => Ok(Passed::default()),
            };
            known = source.borrow_and_update().clone();
            let looked = match passed {
                Ok(passed) => self.look(passed, &known).await,
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
        match Watcher::open(true) {
            Ok(watcher) => {
                self.watcher = watcher;
                if let Some(served) = &mut self.served {
                    served.pods.doubt();
                    served.outward.doubt();
                    served.xdp.doubt();
                    served.shortcut.doubt();
                }
                true
            }
            Err(error) => {
                warn!("{error}");
                false
            }
        }
    }

    /// Brings everything up to date, and says whether interfaces are left for the next look. `passed`: what
    /// interfaces have been since the last one.
    async fn look(&mut self, passed: Passed, view: &View) -> Result<bool, NetError> {
        let network = self.watcher.list().await?;
        // Until the source has spoken, the addresses of a former agent hold: no flow shall see a change and its return.
        let (addresses, pod_cidrs) = view
            .node
            .as_ref()
            .map(|node| (node.addresses.clone(), node.pod_cidrs.as_slice()))
            .unwrap_or_default();
        let held = network.held.iter().copied().filter(|addr| !is_link_local(addr));
        let mut own = Own { held: held.collect(), ..Own::default() };
        if view.listed {
            let chosen = NodeAddresses::choose(&addresses, &network.addresses, &routed_sources());
            let node_ports = self.wanted.node_ports.of(&own.held, &addresses);
            let listening = self.wanted.node_ports.listening(&node_ports);
            own.node_ports = Some(node_ports);
            tell(&self.listeners.listening, listening);
            own.node = chosen.all().collect();
            if let Err(error) = self.settings.set_node(chosen) {
                warn!("node addresses stay as they were: {error}");
            }
        }
        if self.own != own {
            self.own.clone_from(&own);
            // It fails when the agent is about to end.
            let _ = self.listeners.changes.send(Change::Own(own)).await;
        }
        let mut problems = Vec::new();
        let (service_ranges, unusable) = match view.service_ranges.as_slice() {
            [] => (self.wanted.ranges.clone(), Vec::new()),
            told => ServiceRanges::usable(told),
        };
        problems.extend(unusable.into_iter().map(|error| {
            let text = format!("what is sent to addresses there that no Service has is not dropped: {error}");
            Problem::new("ServiceCIDRs", text)
        }));
        if view.listed
            && let Err(error) = self.settings.set_service_ranges(&service_ranges)
        {
            warn!("the ranges of Services stay as they were: {error}");
        }
        let ranges = self.classes.masquerade().node_ranges(pod_cidrs).filter(|_| view.listed);
        let unknown = match ranges.transpose() {
            Ok(ranges) => {
                if let Some(Err(error)) = ranges.map(|ranges| self.settings.set_local(&ranges)) {
                    warn!("the ranges of local clients stay as they were: {error}");
                }
                None
            }
            Err(problem) => {
                if let Err(error) = self.settings.set_local(&Ranges::default()) {
                    warn!("the ranges of local clients stay as they were: {error}");
                }
                Some(problem)
            }
        };
        let Some(mut served) = self.served.take() else { return Ok(false) };
        let (classes, datapath, listed) =
            (Arc::clone(&self.classes), Arc::clone(&self.datapath), view.listed);
        let (served, more, outward) = blocking(move || {
            let node = listed.then_some(&*addresses);
            let (more, problems) = served.follow(&classes, &network, node, &passed, &datapath);
            (served, more, problems)
        })
        .await;
        problems.extend(outward);
        problems.extend(unknown);
        for interfaces in [&served.pods, &served.outward] {
            problems.extend(interfaces.problems());
        }
        problems.extend(served.shortcut.problems());
        let news = News {
            settled: self.listeners.news.borrow().settled || view.listed && !more,
            service_ranges: service_ranges.names(),
            interfaces: served.pods.names(),
            uplinks: served.outward.names(),
            xdp: served.xdp.ways().to_vec(),
            redirect_peer: served.shortcut.names(),
            problems,
        };
        self.served = Some(served);
        tell(&self.listeners.news, news);
        Ok(more)
    }
}
