//! The rest of a cluster, played: what a Deployment controller and a kubelet do that a Service proxy can see.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::{Node, Pod, wait_for};
use crate::sh;

/// The manifests of the tutorial, and its application.
fn tutorial() -> PathBuf {
    sh::root().join("examples/tutorial")
}

#[derive(Deserialize)]
struct Deployment {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    replicas: u32,
    template: Template,
}

#[derive(Deserialize)]
struct Template {
    metadata: Value,
    spec: Value,
}

/// The Deployment of the tutorial on a node: its running replicas and their Pod objects.
pub(super) struct Cluster<'n> {
    node: &'n Node,
    deployment: Deployment,
    replicas: Vec<Pod>,
    made: u32,
}

impl<'n> Cluster<'n> {
    /// Puts the tutorial's manifests into the folder of `node`; no replica runs yet.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub(super) fn new(node: &'n Node) -> Result<Self> {
        for file in ["deployment.yaml", "service.yaml", "outside.yaml"] {
            node.write_text(file, &read(&tutorial().join(file))?)?;
        }
        let path = tutorial().join("deployment.yaml");
        let deployment = serde_saphyr::from_str(&read(&path)?).with_context(|| path.display().to_string())?;
        Ok(Self { node, deployment, replicas: Vec::new(), made: 0 })
    }

    /// How many replicas the Deployment wants.
    #[must_use]
    pub(super) fn wanted(&self) -> usize {
        self.deployment.spec.replicas as usize
    }

    /// The running replicas.
    #[must_use]
    pub(super) fn replicas(&self) -> &[Pod] {
        &self.replicas
    }

    /// Starts replicas until as many run as `count`, and says in their Pod objects that they are ready.
    ///
    /// # Errors
    /// When a pod cannot be made, or its application does not answer within ten seconds.
    pub(super) fn scale_up(&mut self, count: usize) -> Result<()> {
        let first = self.replicas.len();
        while self.replicas.len() < count {
            self.made += 1;
            let pod = self.node.pod(&format!("{}-{}", self.deployment.metadata.name, self.made))?;
            self.run(&pod)?;
            self.replicas.push(pod);
        }
        for pod in self.replicas.get(first..).unwrap_or_default() {
            self.probe(pod)?;
            self.set_ready(pod, true)?;
        }
        Ok(())
    }

    /// Changes `sessionAffinity` of the Service called `service` in the manifest of the Services.
    ///
    /// # Errors
    /// When the manifest cannot be read or written.
    pub(super) fn set_affinity(&self, service: &str, affinity: &str) -> Result<()> {
        let path = tutorial().join("service.yaml");
        let documents = serde_saphyr::from_multiple::<Value>(&read(&path)?);
        let mut documents = documents.with_context(|| path.display().to_string())?;
        for document in documents.iter_mut().filter(|document| document["metadata"]["name"] == service) {
            document["spec"]["sessionAffinity"] = affinity.into();
        }
        // Every JSON document is a YAML document.
        let documents: Vec<_> = documents.iter().map(Value::to_string).collect();
        self.node.write_text("service.yaml", &documents.join("\n---\n"))
    }

    /// Deletes the oldest replica and its Pod object.
    ///
    /// # Errors
    /// When the object cannot be deleted.
    pub(super) fn delete_oldest(&mut self) -> Result<()> {
        let Some(pod) = self.replicas.first() else { return Ok(()) };
        self.node.remove(&file_of(pod))?;
        self.replicas.remove(0);
        Ok(())
    }

    /// Deletes all replicas, their Pod objects first.
    ///
    /// # Errors
    /// When an object cannot be deleted.
    pub(super) fn scale_to_zero(&mut self) -> Result<()> {
        for pod in &self.replicas {
            self.node.remove(&file_of(pod))?;
        }
        self.replicas.clear();
        Ok(())
    }

    /// Writes the Pod object of `pod`, with its addresses and its condition Ready.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn set_ready(&self, pod: &Pod, ready: bool) -> Result<()> {
        let template = &self.deployment.spec.template;
        let (mut metadata, mut spec) = (template.metadata.clone(), template.spec.clone());
        metadata["name"] = pod.name().into();
        metadata["namespace"] = "default".into();
        spec["nodeName"] = self.node.name().into();
        let ready = if ready { "True" } else { "False" };
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": spec,
            "status": {
                "phase": "Running",
                "podIP": pod.ipv4(),
                "podIPs": [{"ip": pod.ipv4()}, {"ip": pod.ipv6()}],
                "conditions": [{"type": "Ready", "status": ready}],
            },
        });
        self.node.write(&file_of(pod), &object)
    }

    /// Starts the command of the pod's container; files of the volume /app are those of the tutorial.
    fn run(&self, pod: &Pod) -> Result<()> {
        let command = &self.deployment.spec.template.spec["containers"][0]["command"];
        let words: Vec<_> = command.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let Some((program, args)) = words.split_first() else {
            bail!("the Deployment's container has no command")
        };
        let log_path = pod.lab().dir().join(format!("{}.log", pod.name()));
        let log = File::create(&log_path).with_context(|| format!("make {}", log_path.display()))?;
        let app = tutorial().join("app");
        pod.command(program)
            .args(
                args.iter()
                    .map(|arg| arg.strip_prefix("/app/").map_or_else(|| arg.into(), |file| app.join(file))),
            )
            .env("POD_NAME", pod.name())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program} in {}", pod.name()))?;
        Ok(())
    }

    /// The readiness probe: the application answers the node.
    fn probe(&self, pod: &Pod) -> Result<()> {
        let url = format!("http://{}:8000/", pod.ipv4());
        wait_for(Duration::from_secs(10), || {
            let mut curl = self.node.host().command("curl");
            sh::read(curl.args(["-sf", "-m", "1", &url])).is_ok()
        })
        .with_context(|| format!("{} does not answer at {url}", pod.name()))
    }
}

fn file_of(pod: &Pod) -> String {
    format!("pod-{}.json", pod.name())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
