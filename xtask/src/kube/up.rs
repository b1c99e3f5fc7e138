//! `cargo xtask kube`: a cluster to play with, in the background of this machine.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::pods::RunningPod;
use super::{Binaries, Cluster, binaries, kubelet};
use crate::lab::helper::HelperVerb;
use crate::lab::{self, Lab, Machine, Space, wait_for};
use crate::{build, machine, setup, sh};

/// What is known of the cluster that is up.
const RUN: &str = "/run/sluice-kube";

/// Names another folder for it: a second cluster.
const RUN_VARIABLE: &str = "SLUICE_KUBE_DIR";

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
    },
}

impl KubeVerb {
    /// Does what the verb says.
    ///
    /// # Errors
    /// An unfit machine, a failed build, a cluster that does not start, or none that is up.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Up { nodes } => up(nodes),
            Self::Down => down(),
            Self::Env => print_env(),
            Self::Exec { place, command } => exec(&place, command),
            Self::Serve { nodes } => serve(nodes),
        }
    }
}

/// What those who use the cluster have to know.
#[derive(Serialize, Deserialize)]
struct State {
    kubeconfig: PathBuf,
    folders: Vec<PathBuf>,
    logs: PathBuf,
    places: BTreeMap<String, Place>,
}

/// Where the processes of a node or a pod are.
#[derive(Serialize, Deserialize)]
struct Place {
    netns: String,
    cgroup: PathBuf,
    /// Where the agent that runs there pins.
    pin_dir: Option<PathBuf>,
}

impl Place {
    fn of(space: &Space, pin_dir: Option<&Path>) -> Self {
        let (netns, cgroup) = (space.netns().to_owned(), space.cgroup().to_owned());
        Self { netns, cgroup, pin_dir: pin_dir.map(Path::to_owned) }
    }
}

impl State {
    /// The cluster that is up, if one is.
    fn read() -> Result<Option<Self>> {
        let Ok(text) = fs::read(file("state.json")) else { return Ok(None) };
        if server().is_none() {
            return Ok(None);
        }
        serde_json::from_slice(&text).context("read the state of the cluster").map(Some)
    }

    fn expect() -> Result<Self> {
        Self::read()?.context("no cluster is up: cargo xtask kube up")
    }

    fn write(&self) -> Result<()> {
        let (fresh, path) = (file("state.new"), file("state.json"));
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("write {}", path.display()))
    }
}

fn run_dir() -> PathBuf {
    env::var_os(RUN_VARIABLE).map_or_else(|| RUN.into(), PathBuf::from)
}

fn file(name: &str) -> PathBuf {
    run_dir().join(name)
}

/// The process that runs the cluster, or begins to: it holds the lock, which goes with it however it ends.
fn server() -> Option<u32> {
    let lock = File::open(file("lock")).ok()?;
    if lock.try_lock_shared().is_ok() {
        return None;
    }
    fs::read_to_string(file("lock")).ok()?.parse().ok()
}

fn up(nodes: u8) -> Result<()> {
    machine::check("a cluster")?;
    if server().is_some() {
        bail!("a cluster is up already; cargo xtask kube down takes it away");
    }
    setup::lab_tools()?;
    if env::var_os("SLUICE_BIN").is_none() {
        build::sluice(&setup::build_tools()?)?;
    }
    Binaries::get(binaries::CONTROL_PLANE)?;
    let dir = run_dir();
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let log = File::create(file("log")).context("make the log of the cluster")?;
    // A session of its own: it outlives the terminal.
    let mut server = Command::new("setsid")
        .arg(env::current_exe().context("find this program")?)
        .args(["kube", "serve", &nodes.to_string()])
        .stdin(Stdio::null())
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
        bail!("the cluster did not start:\n{}", fs::read_to_string(file("log")).unwrap_or_default());
    }
    let state = State::expect()?;
    let names: Vec<_> = state.places.keys().map(String::as_str).collect();
    say(&format!(
        "A cluster is up: {}. Logs are in {}.\n\
         \n\
         eval \"$(cargo xtask kube env)\"\n\
         kubectl create deployment web --image=any --replicas=3 --port=80\n\
         kubectl expose deployment web\n\
         kubectl get service,pod,endpointslice\n\
         cargo xtask kube exec node-1 -- curl -s http://$(kubectl get service web -o jsonpath='{{.spec.clusterIP}}')\n\
         \n\
         cargo xtask kube down takes it away.",
        names.join(", "),
        state.logs.display(),
    ))
}

/// The background process: it holds the lock and everything that it has made, until it is ended.
fn serve(nodes: u8) -> Result<()> {
    let lock = File::options().create(true).truncate(false).write(true).open(file("lock"));
    let mut lock = lock.context("make the lock of the cluster")?;
    lock.try_lock().context("another cluster is up")?;
    write!(lock, "{}", std::process::id()).context("write the lock of the cluster")?;
    let binaries = Binaries::get(binaries::CONTROL_PLANE)?;
    // The file itself, not its path: a build may replace it.
    let lab = Lab::start(format!("/proc/{}/exe", std::process::id()))?;
    let cluster = Cluster::start(&lab, "node", &binaries, &vec![&[][..]; nodes.into()])?;
    let place = |node: &Machine| (node.name().to_owned(), Place::of(node.host(), Some(node.pin_dir())));
    let nodes = || cluster.nodes().iter().map(place);
    let mut state = State {
        kubeconfig: cluster.plane().admin_kubeconfig(),
        folders: binaries.folders().into_iter().map(Path::to_owned).collect(),
        logs: lab.dir(),
        places: nodes().collect(),
    };
    state.write()?;
    kubelet::run(&cluster, |pods| {
        let pods = pods.values().map(|pod| (pod_name(pod), Place::of(pod, None)));
        state.places = nodes().chain(pods).collect();
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
    if let Some(server) = server() {
        let pid = i32::try_from(server).ok().and_then(Pid::from_raw).context("the lock names no process")?;
        kill_process(pid, Signal::TERM).context("end the cluster")?;
        let dir = Lab::dir_of(server);
        wait_for(PATIENCE, || self::server().is_none() && !dir.exists())
            .with_context(|| format!("{} is still there", dir.display()))?;
    }
    match fs::remove_dir_all(run_dir()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("remove its state"),
        _ => Ok(()),
    }
}

fn print_env() -> Result<()> {
    let state = State::expect()?;
    let folders = state.folders.iter().map(|folder| folder.display().to_string());
    say(&format!(
        "export KUBECONFIG='{}'\nexport PATH='{}':\"$PATH\"",
        state.kubeconfig.display(),
        folders.collect::<Vec<_>>().join(":"),
    ))
}

fn exec(place: &str, mut command: Vec<String>) -> Result<()> {
    let mut places = State::expect()?.places;
    let found = places.remove(place).or_else(|| places.remove(&format!("default/{place}")));
    let Some(Place { netns, cgroup, pin_dir }) = found else {
        let names: Vec<_> = places.into_keys().collect();
        bail!("no node or running pod is called {place}; there are {}", names.join(", "));
    };
    if let (Some("sluice"), Some(pins)) = (command.first().map(String::as_str), pin_dir) {
        let text = |path: &Path| path.display().to_string();
        command.splice(..1, [text(&lab::binary()), "--pin-dir".to_owned(), text(&pins)]);
    }
    HelperVerb::Enter { netns, cgroup, command }.run()
}

fn say(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}").context("write to standard output")
}
