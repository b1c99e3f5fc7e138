//! The daemon: flags to a running datapath that follows its source.
//!
//! ```text
//! start   probe, lock, load or adopt, settings, attach
//! then    source ─> index ─> reconcile ─> tables      (sync)
//!         netlink ─> interfaces, addresses            (node)
//!         reconcile ─> sockets that lost a backend    (datagrams)
//!         source, reconcile, maps ─> probes, metrics  (serving)
//!         all of them ─> Kubernetes Events            (events)
//!         all of them ─> status file                  (report)
//! ```
//!
//! The programs are attached before the tables are synced: adopted tables hold, and empty ones pass everything.

pub mod args;
pub mod cidr;
mod classes;
pub mod config;
mod datagrams;
mod events;
mod facts;
mod hooks;
mod interfaces;
mod log;
pub mod masquerade;
mod node;
pub mod nodeports;
pub mod origin;
mod report;
mod retire;
pub mod serving;
mod settings;
mod shortcut;
mod stop;
mod sync;
mod xdp;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::bpf::load::Datapath;
use crate::bpf::pin::PinDir;
use crate::bpf::size::Sizes;
use crate::bpf::sweep::Sweeper;
use crate::bpf::{heap, object, probe};
use crate::health::{self, Health};
use crate::http::Board;
use crate::metrics::{Exporter, Metrics};
use crate::model::Index;
use crate::net::reserved;
use crate::reconcile::{self, Reconciler};
use crate::source::Source;
use crate::status::StatusFile;
use crate::tables::Kernel;
use crate::tasks::Tasks;
use args::{Args, XdpMode};
use classes::Classes;
use config::{Effective, Told};
use origin::Origin;
use serving::Sockets;
use settings::Settings;
use stop::Stop;

/// How long what is being done beside the event loop may take at the end.
const GOODBYE: Duration = Duration::from_secs(5);
/// Changes that may wait for the reconciler.
const CHANGES: usize = 64;

/// Runs the agent until SIGTERM or SIGINT. The datapath stays in place.
///
/// # Errors
/// What keeps it from starting: the object, the system call and what to do about it. Later: the task that has ended, by a
/// panic; whoever started the agent starts it again.
pub fn run(Told { args, effective, ignored }: Told, pins: &PinDir) -> anyhow::Result<()> {
    heap::give_back();
    log::init(args.log_format, args.log_level);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the event loop")?;
    let stop = {
        let _inside = runtime.enter();
        // Before all else: the kernel drops a signal that the first process of a container has no handler for.
        Stop::new()?
    };
    let origin = args.origin.origin()?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pin_dir = %pins.root().display(),
        source = %origin,
        "start"
    );
    for text in ignored {
        warn!("{text}");
    }
    args.masquerade().check()?;
    raise_descriptors();
    let sockets = {
        let _inside = runtime.enter();
        args.serving.listen()?
    };
    let object = object::embedded()?;
    probe::kernel()?;
    let cgroup = probe::cgroup_root(args.cgroup_root.as_deref())?;
    let mut config = settings::of(&args)?;
    let name = args.hostname_override.clone().unwrap_or_else(host_name);
    // Read while the programs are being loaded.
    let source = origin.open(&name)?;
    let lock = pins.lock()?;
    if let Err(error) = StatusFile::of(pins.root()).and_then(|file| file.begin()) {
        warn!("`sluice status` may show what an earlier agent wrote: {error}");
    }

    let sizes = Sizes { flows: args.max_flows, services: args.max_services, backends: args.max_backends };
    let datapath = Arc::new(Datapath::load(pins, lock, object, &sizes)?);
    if let Err(error) = reserved::reserve(pins.root(), &reserved::with_node_ports(&config)) {
        warn!("a socket of the host may take a port that a translated flow or a Service uses: {error}");
    }
    let sweeper = Sweeper::new(&datapath, args.sweep_interval)?;
    (config.embryonic, config.patience) = (sweeper.embryonic(), sweeper.patience());
    let settings = Settings::write(pins, config, args.masquerade().by_node())?;
    let swept = sweeper.spawn().context("start the thread that sweeps")?;
    let origin = (origin, name, source);
    let tasks = async {
        let mut tasks = Tasks::default();
        tasks.spawn("the thread that sweeps", swept.map(drop));
        follow((args, sockets, stop), &effective, datapath, settings, &cgroup, origin, tasks).await
    };
    let ended = runtime.block_on(tasks);
    // Not for ever: what is done beside the event loop may hang, a plug-in for credentials for one.
    runtime.shutdown_timeout(GOODBYE);
    ended
}

/// Attaches, then follows everything until a signal comes.
async fn follow(
    (args, sockets, stop): (Args, Sockets, Stop),
    effective: &Effective,
    datapath: Arc<Datapath>,
    settings: Settings,
    cgroup: &Path,
    (origin, name, source): (Origin, String, Source),
    mut tasks: Tasks,
) -> anyhow::Result<()> {
    let masquerade = args.masquerade();

    datapath.attach_cgroup(cgroup, args.refuse_shadowed_binds)?;
    info!(cgroup = %cgroup.display(), "attached");
    if settings.moved() {
        info!("another network namespace was served before: its interfaces are left");
    }
    let served =
        node::Served::adopt(&datapath, settings.moved(), args.xdp == XdpMode::Auto, args.redirect_peer)?;
    let classes = Classes::new(args.pod_interfaces, masquerade);
    let wanted = node::Wanted { ranges: args.service_cluster_ip_range, node_ports: args.nodeport_addresses };
    let (news, node_news) = watch::channel(node::News::default());
    let (changes, desired) = mpsc::channel(CHANGES);
    let (listening, listen_at) = watch::channel(BTreeSet::new());
    let listeners = node::Listeners { news, changes: changes.clone(), listening };
    let node =
        node::Node::start(Arc::clone(&datapath), settings, (classes, wanted), served, listeners).await?;

    let tables = Kernel::open(datapath.pins())?;
    let reconciler = Reconciler::adopt(tables, &name)?;
    let (report, reports) = watch::channel(reconcile::Report::default());
    let (view, views) = watch::channel(sync::View::default());
    let (datagrams, datagram_news) = watch::channel(None);
    let (synced, in_place) = (reports.clone(), reports.clone());
    let (tell_health, told) = watch::channel(health::Told::default());
    let health = Health::new(reports.clone(), told)?;
    let board = Board::default();
    let (uids, asked) = mpsc::channel(1);
    let (counts, events) = watch::channel(events::Counts::default());
    if let Origin::Api(access) = &origin {
        let sources = events::Sources {
            view: views.clone(),
            reconcile: reports.clone(),
            servers: board.follow(),
            uids,
            counts,
        };
        let posting = events::follow(sources, access.clone(), name.clone(), board.clone());
        tasks.spawn("the poster of Kubernetes Events", posting);
    }
    let requests = match &origin {
        Origin::Api(access) => Some(access.requests().clone()),
        Origin::Folder(_) => None,
    };
    let sources = report::Sources {
        pins: datapath.pins().clone(),
        name: name.clone(),
        origin,
        node: node_news,
        source: views.clone(),
        reconcile: reports,
        sockets: datagram_news,
        servers: board.follow(),
        events,
    };
    let known = sources.clone();
    let exporter = Exporter::new(datapath.pins().clone(), health.clone(), requests, move || known.facts());
    let metrics = Metrics::new(exporter, effective)?;
    args.serving.serve(sockets, &health, metrics, &board, &mut tasks);
    let checks = health::follow(health, listen_at, board);
    tasks.spawn("the server of health check node ports", checks);
    tasks.spawn("what follows the node's network", node.follow(views));
    let closing = datagrams::follow(datapath.pins().clone(), synced, datagrams);
    tasks.spawn("what closes UDP sockets of the host", closing);
    tasks.spawn("the writer of the status file", report::follow(sources));
    let retiring = retire::follow(datapath.pins().clone(), in_place);
    tasks.spawn("what takes away what other versions left", retiring);
    let mut index = Index::new(&*name);
    index.serve_external_ips(args.external_ips);
    tokio::select! {
        // Ends by `stop`.
        () = reconcile::run(reconciler, desired, report, stop.asked()) => Ok(()),
        ended = sync::follow(source, index, changes, view, tell_health, asked) => Err(ended.into()),
        ended = tasks.ended() => Err(ended.into()),
    }
}

/// As many file descriptors as the process may have: Services may have health check ports of their own, and each has
/// connections.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!("file descriptors stay limited to {:?}: setrlimit: {error}", limit.current);
    }
}

/// The host name as the kubelet registers it: lower case.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase()
}
