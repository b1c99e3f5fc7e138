//! What scheduler and kubelets do for the pods of a cluster of namespaces: a pod gets a node, a namespace with
//! addresses, and a server of the lab at each of the ports that its containers declare (80 where they declare none).
//! Its images are not looked at.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::pods::RunningPod;
use super::{Api, Cluster};
use crate::lab::Machine;
use crate::lab::helper::wire::Transport;
use crate::sh;

const PODS: &str = "/api/v1/pods";

/// How long a pod that is deleted goes on serving, at most: proxies hear of it meanwhile.
const GRACE: Duration = Duration::from_secs(2);

/// Where a DaemonSet says for which node a pod is.
const ITS_NODE: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/\
                        matchFields/0/values/0";

/// What a watch of pods told.
enum News {
    /// All of them.
    List(Vec<Value>),
    /// One that is new or has changed.
    Changed(Value),
    /// One that is gone.
    Gone(Value),
}

/// The pods of a cluster that run, by their path on the API server.
struct Kubelet<'c, F> {
    cluster: &'c Cluster,
    running: BTreeMap<String, RunningPod<'c>>,
    /// The nodes of those that were given one.
    bound: BTreeMap<String, String>,
    ending: BTreeMap<String, Instant>,
    changed: F,
}

/// Runs the pods of `cluster` until the process ends. `changed` is told those that run, whenever these are others.
pub(super) fn run(cluster: &Cluster, changed: impl FnMut(&BTreeMap<String, RunningPod<'_>>)) {
    let (sender, news) = mpsc::channel();
    let (running, bound, ending) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut kubelet = Kubelet { cluster, running, bound, ending, changed };
    thread::scope(|scope| {
        scope.spawn(|| watch(cluster.api(), &sender));
        loop {
            match news.recv_timeout(kubelet.rest()) {
                Ok(news) => kubelet.take(news),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            kubelet.end();
        }
    });
}

/// Tells all pods and then what changes, again and again: a watch ends after minutes, and with the API server.
fn watch(api: &Api, news: &Sender<News>) {
    loop {
        let ended = watch_once(api, news);
        if let Err(error) = ended {
            sh::say(&format!("the watch of pods: {error:#}"));
        }
        thread::sleep(Duration::from_millis(500));
    }
}

fn watch_once(api: &Api, news: &Sender<News>) -> Result<()> {
    let mut list = api.get(PODS)?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let mut items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    // In a list they do not say what they are.
    for pod in &mut items {
        (pod["apiVersion"], pod["kind"]) = ("v1".into(), "Pod".into());
    }
    news.send(News::List(items))?;
    api.watch(&format!("{PODS}?watch=1&resourceVersion={version}"), |mut event| {
        let pod = event["object"].take();
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => news.send(News::Changed(pod))?,
            Some("DELETED") => news.send(News::Gone(pod))?,
            // Too old a version, for one: begin again.
            _ => return Ok(false),
        }
        Ok(true)
    })
}

impl<'c, F: FnMut(&BTreeMap<String, RunningPod<'c>>)> Kubelet<'c, F> {
    /// How long nothing has to be done.
    fn rest(&self) -> Duration {
        let next = self.ending.values().min();
        next.map_or(Duration::from_secs(60), |at| at.saturating_duration_since(Instant::now()))
    }

    fn take(&mut self, news: News) {
        match news {
            News::List(pods) => {
                let paths: Vec<_> = pods.iter().map(path).collect();
                let gone: Vec<_> =
                    self.running.keys().filter(|path| !paths.contains(path)).cloned().collect();
                for path in gone {
                    self.forget(&path);
                }
                pods.iter().for_each(|pod| self.change(pod));
            }
            News::Changed(pod) => self.change(&pod),
            News::Gone(pod) => self.forget(&path(&pod)),
        }
    }

    /// A pod that cannot be run is told, and stays pending.
    fn change(&mut self, pod: &Value) {
        let path = path(pod);
        if let Err(error) = self.step(&path, pod) {
            sh::say(&format!("{path}: {error:#}"));
        }
    }

    /// Brings a pod one step further: bound, running, ending.
    fn step(&mut self, path: &str, pod: &Value) -> Result<()> {
        if pod["metadata"]["deletionTimestamp"].is_string() {
            let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or_default();
            if grace == 0 {
                // Deleted by somebody who has not waited, or by us a moment ago.
                self.forget(path);
                return Ok(());
            }
            let grace = if self.running.contains_key(path) {
                Duration::from_secs(grace).min(GRACE)
            } else {
                Duration::ZERO
            };
            self.ending.entry(path.to_owned()).or_insert_with(|| Instant::now() + grace);
            return Ok(());
        }
        if self.running.contains_key(path) || pod["status"]["phase"] == "Failed" {
            return Ok(());
        }
        let Some(node) = pod["spec"]["nodeName"].as_str() else {
            return self.bind(path, pod);
        };
        let Some(machine) = self.cluster.nodes().iter().find(|machine| machine.name() == node) else {
            return Ok(());
        };
        let running = RunningPod::adopt(self.cluster.api(), machine, pod, &ports(pod))?;
        self.cluster.api().merge(&format!("{path}/status"), &containers(pod))?;
        self.running.insert(path.to_owned(), running);
        (self.changed)(&self.running);
        Ok(())
    }

    /// Gives a pod the node that it is for, else the one with the fewest.
    fn bind(&mut self, path: &str, pod: &Value) -> Result<()> {
        let pods = |node: &str| self.bound.values().filter(|bound| *bound == node).count();
        let nodes = self.cluster.nodes().iter().map(Machine::name);
        let chosen = pod.pointer(ITS_NODE).and_then(Value::as_str);
        let node = chosen.or_else(|| nodes.min_by_key(|node| pods(node))).context("no node")?.to_owned();
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": pod["metadata"]["name"] },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        self.cluster.api().post(&format!("{path}/binding"), &binding)?;
        self.bound.insert(path.to_owned(), node);
        Ok(())
    }

    /// Ends the pods whose time has come.
    fn end(&mut self) {
        let now = Instant::now();
        let due: Vec<_> =
            self.ending.iter().filter(|(_, at)| **at <= now).map(|(path, _)| path.clone()).collect();
        for path in due {
            self.forget(&path);
            if let Err(error) = self.cluster.api().delete(&path) {
                sh::say(&format!("{path}: {error:#}"));
            }
        }
    }

    fn forget(&mut self, path: &str) {
        self.ending.remove(path);
        self.bound.remove(path);
        if self.running.remove(path).is_some() {
            (self.changed)(&self.running);
        }
    }
}

fn path(pod: &Value) -> String {
    let field = |name: &str| pod["metadata"][name].as_str().unwrap_or_default();
    format!("/api/v1/namespaces/{}/pods/{}", field("namespace"), field("name"))
}

/// What the status of `pod` says of its containers, as a merge patch: kubectl counts them.
fn containers(pod: &Value) -> Value {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let ready = |it: &Value| json!({ "name": it["name"], "image": it["image"], "imageID": "", "restartCount": 0, "ready": true, "started": true, "state": { "running": {} } });
    json!({ "status": { "containerStatuses": containers.map(ready).collect::<Vec<_>>() } })
}

/// The ports that the containers of `pod` declare.
fn ports(pod: &Value) -> Vec<(Transport, u16)> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let declared = containers.flat_map(|it| it["ports"].as_array().into_iter().flatten());
    let mut ports: Vec<_> = declared
        .filter_map(|port| {
            let transport = match port["protocol"].as_str() {
                Some("UDP") => Transport::Udp,
                Some("SCTP") => return None,
                _ => Transport::Tcp,
            };
            Some((transport, u16::try_from(port["containerPort"].as_u64()?).ok()?))
        })
        .collect();
    if ports.is_empty() {
        ports.push((Transport::Tcp, 80));
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_serve_at_the_ports_that_they_declare() {
        let pod = |ports: Value| json!({ "spec": { "containers": [{ "ports": ports }, {}] } });
        assert_eq!(ports(&pod(json!([]))), [(Transport::Tcp, 80)]);
        let declared = json!([
            { "containerPort": 53, "protocol": "UDP" },
            { "containerPort": 8080 },
            { "containerPort": 7, "protocol": "SCTP" },
        ]);
        assert_eq!(ports(&pod(declared)), [(Transport::Udp, 53), (Transport::Tcp, 8080)]);
    }
}
