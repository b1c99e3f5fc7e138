//! What scheduler and kubelets do for the pods of a cluster of namespaces: a pod gets a node, a namespace with addresses,
//! and in it what its image stands for, or a server of the lab at each of the ports that its containers declare (80 where
//! they declare none).
//!
//! It goes by what the API server has, not by what has changed: a step that failed is taken again.

pub mod files;
mod pod;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::files::Home;
pub use self::pod::wanted;
use self::pod::{containers, is_kin, node, path, ports};
use super::pods::RunningPod;
use super::{Api, Cluster, PATIENCE, Proxy};
use crate::lab::{Machine, wait_for};
use crate::sh;

/// How often pods are looked at that are on their way.
const SOON: Duration = Duration::from_millis(100);

/// How long those who do not say whom they choose may need to hear that a pod ends.
const UNHEARD: Duration = Duration::from_secs(2);

/// What an image stands for: from its name and the container's command and arguments, a program of this machine and its
/// arguments; `None`: servers of the lab.
pub type Images<'c> = Box<dyn Fn(&str, &[String]) -> Option<Vec<String>> + Send + 'c>;

/// The kubelet of all machines of a cluster, and its scheduler.
pub struct Kubelet<'c> {
    cluster: &'c Cluster,
    images: Images<'c>,
    /// Where the API server lists the pods.
    list: String,
    /// Those that run, by their path.
    running: BTreeMap<String, Running<'c>>,
    /// What went wrong with which pod when it was looked at last.
    faults: BTreeMap<String, String>,
}

/// A pod that runs. Its program ends with its control group.
struct Running<'c> {
    pod: RunningPod<'c>,
    program: Option<Child>,
    ready: bool,
    /// Since when it is known that it shall end, and whether its program has been told.
    ending: Option<(Instant, bool)>,
}

impl<'c> Kubelet<'c> {
    /// One without pods yet, for those of `namespace` or of all.
    pub fn new(cluster: &'c Cluster, namespace: Option<&str>, images: Images<'c>) -> Self {
        let list = namespace
            .map_or_else(|| "/api/v1/pods".to_owned(), |name| format!("/api/v1/namespaces/{name}/pods"));
        Self { cluster, images, list, running: BTreeMap::new(), faults: BTreeMap::new() }
    }

    /// The pods that run.
    pub fn pods(&self) -> impl Iterator<Item = &RunningPod<'c>> {
        self.running.values().map(|running| &running.pod)
    }

    /// Those that are ready and not about to end.
    pub fn ready(&self) -> impl Iterator<Item = &RunningPod<'c>> {
        self.running.values().filter(|it| it.ready && it.ending.is_none()).map(|running| &running.pod)
    }

    /// Does what kubelets do until `done`.
    ///
    /// # Errors
    /// When it is not within two minutes, with what went wrong last.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        let done = wait_for(PATIENCE, || {
            let looked = self.sync();
            let is = looked.is_ok() && done(self);
            if !is {
                thread::sleep(SOON);
            }
            is
        });
        done.with_context(|| format!("{what}: {:?}", self.faults))
    }

    /// Runs pods until the process ends. `changed` is called at first, and whenever others run.
    pub fn run(mut self, mut changed: impl FnMut(&Self)) {
        let (sender, news) = mpsc::channel();
        let (api, list) = (self.cluster.api(), self.list.clone());
        thread::scope(|scope| {
            scope.spawn(|| watch(api, &list, &sender));
            let mut names = None;
            loop {
                if let Err(error) = self.sync() {
                    sh::say(&format!("{error:#}"));
                }
                let now = Some(self.running.keys().cloned().collect::<Vec<_>>());
                if now != names {
                    changed(&self);
                    names = now;
                }
                if let Err(RecvTimeoutError::Disconnected) = news.recv_timeout(self.rest()) {
                    break;
                }
                // One look covers all that has happened.
                while news.try_recv().is_ok() {}
            }
        });
    }

    /// How long nothing has to be done unless something changes.
    fn rest(&self) -> Duration {
        if self.running.values().any(|it| it.ending.is_some()) {
            SOON
        } else if !self.faults.is_empty() || self.running.values().any(|it| it.program.is_some()) {
            // Another attempt, which may fail for ever, or a readiness probe.
            Duration::from_secs(1)
        } else {
            Duration::from_secs(60)
        }
    }

    /// Looks at all pods, and brings each a step further: bound, running, ready, ending, gone.
    fn sync(&mut self) -> Result<()> {
        let mut list = self.cluster.api().get(&self.list).context("list pods")?;
        let mut objects = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let paths: Vec<_> = objects.iter().map(path).collect();
        self.running.retain(|path, _| paths.contains(path));
        self.faults.retain(|path, _| paths.contains(path));
        let mut nodes: Vec<_> = objects.iter().filter_map(node).map(str::to_owned).collect();
        for object in &mut objects {
            // In a list they do not say what they are.
            (object["apiVersion"], object["kind"]) = ("v1".into(), "Pod".into());
        }
        for (path, object) in paths.iter().zip(&objects) {
            let step = if object["metadata"]["deletionTimestamp"].is_string() {
                let others = objects.iter().any(|other| is_kin(object, other) && self.stays(other));
                self.end(path, object, others)
            } else if object["status"]["phase"] == "Failed" {
                Ok(())
            } else if let Some(running) = self.running.get_mut(path) {
                running.probe(object)
            } else {
                self.begin(path, object, &mut nodes)
            };
            match step {
                Ok(()) => {
                    self.faults.remove(path);
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    if self.faults.insert(path.clone(), text.clone()).as_ref() != Some(&text) {
                        sh::say(&format!("{path}: {text}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a pod is ready and not about to end.
    fn stays(&self, object: &Value) -> bool {
        !object["metadata"]["deletionTimestamp"].is_string()
            && self.running.get(&path(object)).is_some_and(|running| running.ready)
    }

    /// Binds a pod, or runs one that is bound. `nodes`: those of the pods that have one.
    fn begin(&mut self, path: &str, object: &Value, nodes: &mut Vec<String>) -> Result<()> {
        let machines = self.cluster.nodes();
        if let Some(node) = node(object) {
            let Some(machine) = machines.iter().find(|machine| machine.name() == node) else { return Ok(()) };
            let running = self.start(machine, object)?;
            self.running.insert(path.to_owned(), running);
            return Ok(());
        }
        let pods = |name: &str| nodes.iter().filter(|node| *node == name).count();
        let fewest = || machines.iter().map(Machine::name).min_by_key(|name| pods(name));
        let node = wanted(object).or_else(fewest).context("no node")?.to_owned();
        bind(self.cluster.api(), object, &node)?;
        nodes.push(node);
        Ok(())
    }

    fn start(&self, machine: &'c Machine, object: &Value) -> Result<Running<'c>> {
        let api = self.cluster.api();
        let pod = RunningPod::adopt(api, machine, object)?;
        let container = &object["spec"]["containers"][0];
        let words = ["command", "args"].into_iter().flat_map(|key| files::texts(&container[key]));
        let command =
            (self.images)(container["image"].as_str().unwrap_or_default(), &words.collect::<Vec<_>>());
        let program = match command {
            // One for all attempts; that of a pod with the network of its node is the pod's, too.
            Some(command) => {
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
                let home = Home::at(pod.lab().dir().join(format!("pod-{namespace}-{}", pod.name())))?;
                Some(home.start(api, &pod, object, command)?)
            }
            None => {
                pod.serve_all(&ports(object))?;
                None
            }
        };
        api.merge(&format!("{}/status", pod.path()), &containers(object))?;
        let ready = program.is_none() || !container["readinessProbe"].is_object();
        pod.ready(ready)?;
        Ok(Running { pod, program, ready, ending: None })
    }

    /// Ends a pod: it goes on serving while somebody chooses it and there are `others` that could be chosen in its place,
    /// which is what preStop hooks sleep for; then SIGTERM, and when the program has ended the object goes.
    fn end(&mut self, path: &str, object: &Value, others: bool) -> Result<()> {
        if let Some(running) = self.running.get_mut(path) {
            let grace = object["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or_default();
            let (since, mut told) = running.ending.unwrap_or_else(|| (Instant::now(), false));
            let late = since.elapsed() > Duration::from_secs(grace);
            if !told && (late || !others || !is_chosen(self.cluster, &running.pod, since)) {
                if let Some(program) = &running.program {
                    // It may have ended by itself.
                    let _ = kill_process(Pid::from_child(program), Signal::TERM);
                }
                told = true;
            }
            running.ending = Some((since, told));
            let ended = match &mut running.program {
                Some(program) => program.try_wait().context("wait for its program")?.is_some(),
                None => true,
            };
            if !told || !(ended || late) {
                return Ok(());
            }
        }
        self.running.remove(path);
        self.cluster.api().delete(path).map(drop)
    }
}

impl Running<'_> {
    /// Asks the readiness probe, and says so if its answer is another one.
    fn probe(&mut self, object: &Value) -> Result<()> {
        let container = &object["spec"]["containers"][0];
        let probe = &container["readinessProbe"]["httpGet"];
        if self.program.is_none() || !probe.is_object() {
            return Ok(());
        }
        let port = probe["port"].as_u64().or_else(|| {
            let mut ports = container["ports"].as_array()?.iter();
            ports.find(|port| port["name"] == probe["port"])?["containerPort"].as_u64()
        });
        let port = port.and_then(|port| u16::try_from(port).ok()).context("a probe without a port")?;
        let to = SocketAddr::new(self.pod.ips()[0], port);
        let answer = self.pod.node().host().get(to, probe["path"].as_str().unwrap_or("/"));
        let ready = answer.is_ok_and(|(status, _)| (200..400).contains(&status));
        if ready != self.ready {
            self.pod.ready(ready)?;
            self.ready = ready;
        }
        Ok(())
    }
}

/// Whether any machine may choose `pod`, which ends `since` then, for a new connection.
fn is_chosen(cluster: &Cluster, pod: &RunningPod<'_>, since: Instant) -> bool {
    let chooses = |node: &Machine, ip: String| {
        let shown = node.sluice_json(&["backend", "show", &ip]).unwrap_or_default();
        shown.as_array().into_iter().flatten().any(|backend| backend["selected"] == true)
    };
    match cluster.proxies().any(|proxy| proxy == Proxy::KubeProxy) {
        true => since.elapsed() < UNHEARD,
        false => cluster.nodes().iter().any(|node| pod.ips().iter().any(|ip| chooses(node, ip.to_string()))),
    }
}

/// Sends whenever a pod has changed, again and again: a watch ends after minutes, and with the API server.
fn watch(api: &Api, list: &str, news: &Sender<()>) {
    loop {
        // Nothing is missed: what comes between two watches is seen when the next one begins, which tells all pods.
        let ended = api.watch(&format!("{list}?watch=1"), |_| Ok(news.send(()).is_ok()));
        if let Err(error) = ended {
            sh::say(&format!("the watch of pods: {error:#}"));
        }
        if news.send(()).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Binds `pod` to `node`, as the scheduler does.
///
/// # Errors
/// What the API server says.
pub fn bind(api: &Api, pod: &Value, node: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": { "name": pod["metadata"]["name"] },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    api.post(&format!("{}/binding", path(pod)), &binding).map(drop)
}
