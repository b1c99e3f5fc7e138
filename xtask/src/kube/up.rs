//! `cargo xtask kube`: a cluster to play with, in the background of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Write, stdout};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rustix::process::{Pid, Signal, kill_process};

use super::kubelet::files::Home;
use super::pods::RunningPod;
use super::state::{self, Lock, Place, State};
use super::{Binaries, Cluster, Kubelet, Proxy, Tool, binaries, dns};
use crate::lab::helper::HelperVerb;
use crate::lab::{self, Lab, Machine, wait_for};
use crate::{build, machine, sh};

/// How long a cluster may take to come or to go, on a machine that does other things besides.
const PATIENCE: Duration = Duration::from_secs(300);

/// A cluster to play with: etcd, API server and controllers, nodes and pods as network namespaces, an agent on each node.
#[derive(Debug, Subcommand)]
pub enum KubeVerb {
    /// Start a cluster in the background
    Up {
        /// How many nodes it has
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=8))]
        nodes: u8,
        /// What it has besides
        #[command(flatten)]
        parts: Parts,
    },
    /// Take it away
    Down,
    /// Print what makes a shell use it: eval "$(cargo xtask kube env)"
    Env,
    /// Run a command on a node, such as node-1, or in a pod, such as default/web or web; on a node, `sluice` is the one
    /// of its agent
    Exec {
        /// The node or the pod
        place: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// What `up` leaves running
    #[command(hide = true)]
    Serve {
        /// How many nodes
        nodes: u8,
        /// What it has besides
        #[command(flatten)]
        parts: Parts,
    },
}

/// What a cluster has when asked.
#[derive(Clone, Copy, Debug, Args)]
pub struct Parts {
    /// CoreDNS at 10.96.0.10, as examples/tutorial has it; what `exec` runs in pods resolves names by it
    #[arg(long)]
    dns: bool,
    /// kube-proxy on the nodes, in the place of Sluice's agent
    #[arg(long)]
    kube_proxy: bool,
}

impl Parts {
    /// The programs of a cluster that has them.
    fn tools(self) -> Vec<Tool> {
        let asked = [(self.dns, Tool::CoreDns), (self.kube_proxy, Tool::KubeProxy)];
        let asked = asked.into_iter().filter_map(|(is, tool)| is.then_some(tool));
        binaries::CONTROL_PLANE.iter().copied().chain(asked).collect()
    }

    /// As they stand on a command line.
    fn flags(self) -> impl Iterator<Item = &'static str> {
        let asked = [(self.dns, "--dns"), (self.kube_proxy, "--kube-proxy")];
        asked.into_iter().filter_map(|(is, flag)| is.then_some(flag))
    }
}

impl KubeVerb {
    /// Does what the verb says.
    ///
    /// # Errors
    /// An unfit machine, a failed build, a cluster that does not start, or none that is up.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Up { nodes, parts } => up(nodes, parts),
            Self::Down => down(),
            Self::Env => print_env(),
            Self::Exec { place, command } => exec(&place, command),
            Self::Serve { nodes, parts } => serve(nodes, parts),
        }
    }
}

fn up(nodes: u8, parts: Parts) -> Result<()> {
    machine::check("a cluster")?;
    // Held from here on, by this process and by the one that it leaves running.
    let lock = Lock::take()?.context("a cluster is up already; cargo xtask kube down takes it away")?;
    let sluice = build::for_lab("a cluster")?;
    Binaries::get(&parts.tools())?;
    let log = File::create(state::file(state::LOG)).context("make the log of the cluster")?;
    // A session of its own: it outlives the terminal.
    let mut server = Command::new("setsid")
        // Not its path: a build meanwhile may have replaced it.
        .arg(format!("/proc/{}/exe", std::process::id()))
        .args(["kube", "serve", &nodes.to_string()])
        .args(parts.flags())
        .env("SLUICE_BIN", sluice)
        .stdin(lock.share()?)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start the cluster")?;
    let mut ended = None;
    let up = wait_for(PATIENCE, || {
        ended = server.try_wait().ok().flatten();
        ended.is_some() || State::read().is_ok_and(|state| state.is_some())
    });
    if ended.is_some() || up.is_err() {
        let _ = server.kill();
        bail!(
            "the cluster did not start:\n{}",
            fs::read_to_string(state::file(state::LOG)).unwrap_or_default()
        );
    }
    let state = State::expect()?;
    let names: Vec<_> = state.places.keys().map(String::as_str).collect();
    say(&format!(
        "A cluster is up: {}. Logs are in {}.\n\
         \n\
         eval \"$(cargo xtask kube env)\"\n\
         kubectl create deployment web --image=any --replicas=3 --port=80\n\
         kubectl expose deployment web\n\
         kubectl rollout status deployment web\n\
         cargo xtask kube exec node-1 -- curl -s $(kubectl get service web -o jsonpath='{{.spec.clusterIP}}')\n\
         \n\
         cargo xtask kube down takes it away.",
        names.join(", "),
        state.logs.display(),
    ))
}

/// The background process: it holds the lock and everything that it has made, until it is ended.
fn serve(nodes: u8, parts: Parts) -> Result<()> {
    let _lock = Lock::inherit()?;
    let binaries = Binaries::get(&parts.tools())?;
    let lab = Lab::own()?;
    let proxy = if parts.kube_proxy { Proxy::KubeProxy } else { Proxy::Sluice(&[]) };
    let cluster = Cluster::start(&lab, "node", &binaries, &vec![proxy; nodes.into()])?;
    let images = |image: &str, words: &[String]| {
        let is_dns = parts.dns && image.starts_with("coredns/coredns:");
        let program = is_dns.then(|| binaries.path(Tool::CoreDns).ok()).flatten()?.display().to_string();
        Some([&[program], words].concat())
    };
    let mut kubelet = Kubelet::new(&cluster, None, Box::new(images));
    if parts.dns {
        dns::install(cluster.api())?;
        kubelet.until("CoreDNS", |it| it.ready().count() == dns::REPLICAS)?;
    }
    let place = |node: &Machine| {
        let pins = (!parts.kube_proxy).then(|| node.pin_dir());
        (node.name().to_owned(), Place::of(node.host(), pins))
    };
    let mut state = State {
        kubeconfig: cluster.plane().admin_kubeconfig(),
        cache: cluster.plane().cache(),
        folders: binaries.folders().into_iter().map(Path::to_owned).collect(),
        sluice: lab::binary().canonicalize().context("find the agents' binary")?,
        dns: parts.dns,
        logs: lab.dir(),
        places: BTreeMap::new(),
    };
    kubelet.run(|kubelet| {
        let pods = kubelet.pods().map(|pod| (pod_name(pod), Place::of(pod, None)));
        state.places = cluster.nodes().iter().map(place).chain(pods).collect();
        if let Err(error) = state.write() {
            sh::say(&format!("{error:#}"));
        }
    });
    Ok(())
}

/// `NAMESPACE/NAME`, from `/api/v1/namespaces/NAMESPACE/pods/NAME`.
fn pod_name(pod: &RunningPod<'_>) -> String {
    let words: Vec<_> = pod.path().split('/').collect();
    format!("{}/{}", words.get(4).unwrap_or(&""), pod.name())
}

fn down() -> Result<()> {
    let mut ended = BTreeSet::new();
    // One that was about to begin may hand over to the process that it leaves running.
    wait_for(PATIENCE, || {
        let server = state::server();
        if let Some(id) = server {
            ended.insert(id);
            let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        }
        server.is_none() && !ended.iter().any(|id| Lab::dir_of(*id).exists())
    })
    .with_context(|| format!("the cluster of the processes {ended:?} is still there"))?;
    match Lock::take()? {
        Some(lock) => lock.remove(),
        // Somebody has begun another one meanwhile.
        None => Ok(()),
    }
}

fn print_env() -> Result<()> {
    let state = State::expect()?;
    let folders = state.folders.iter().map(|folder| folder.display().to_string());
    say(&format!(
        "export KUBECONFIG='{}'\nexport KUBECACHEDIR='{}'\nexport PATH='{}':\"$PATH\"",
        state.kubeconfig.display(),
        state.cache.display(),
        folders.collect::<Vec<_>>().join(":"),
    ))
}

fn exec(place: &str, mut command: Vec<String>) -> Result<()> {
    let State { mut places, sluice, dns, .. } = State::expect()?;
    let full = if places.contains_key(place) { place.to_owned() } else { format!("default/{place}") };
    let Some(Place { netns, cgroup, pin_dir }) = places.remove(&full) else {
        let names: Vec<_> = places.into_keys().collect();
        bail!("no node or running pod is called {place}; there are {}", names.join(", "));
    };
    if let (Some("sluice"), Some(pins)) = (command.first().map(String::as_str), pin_dir) {
        let text = |path: &Path| path.display().to_string();
        command.splice(..1, [text(&sluice), "--pin-dir".to_owned(), text(&pins)]);
    }
    if let (true, Some((namespace, _))) = (dns, full.split_once('/')) {
        let home = Home::at(state::file(state::PODS).join(namespace))?;
        home.resolver(namespace, &dns::ADDRESSES, "")?;
        command.splice(..0, home.prefix());
    }
    HelperVerb::Enter { netns, cgroup, command }.run()
}

fn say(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}").context("write to standard output")
}
