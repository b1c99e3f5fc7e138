//! Pods with objects: what a kubelet would do for them, done when a test says so.

use std::net::IpAddr;
use std::ops::Deref;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Api, objects};
use crate::lab::helper::wire::Transport;
use crate::lab::{Machine, Pod, Space};

/// A pod whose object the API server has. Its namespace of the network ends when it is dropped, its object does not.
#[derive(Debug)]
pub struct RunningPod<'c> {
    api: &'c Api,
    node: &'c Machine,
    path: String,
    name: String,
    place: Place,
}

/// Where a pod runs.
#[derive(Debug)]
enum Place {
    Own(Pod),
    Host(Space),
}

impl<'c> RunningPod<'c> {
    /// Makes a pod on `node` as `object` says (with a name and a namespace), in the node's network if that says
    /// `hostNetwork`. It serves both protocols at `port` under its name, and says that it is ready.
    pub(super) fn start(api: &'c Api, node: &'c Machine, object: &Value, port: u16) -> Result<Self> {
        let pod = Self::adopt(api, node, object)?;
        let mut bound = object.clone();
        bound["spec"]["nodeName"] = node.name().into();
        let (folder, _) = pod.path.rsplit_once('/').context("a path")?;
        api.post(folder, &bound)?;
        pod.serve_all(&[(Transport::Tcp, port), (Transport::Udp, port)])?;
        pod.ready(true)?;
        Ok(pod)
    }

    /// A pod that has its addresses on `node` and nothing else, as an `object` says that the API server has and that is
    /// bound to `node`.
    pub(super) fn adopt(api: &'c Api, node: &'c Machine, object: &Value) -> Result<Self> {
        let path = api.path(object)?;
        let (_, name) = path.rsplit_once('/').context("a path")?;
        let full = format!("{}-{name}", object["metadata"]["namespace"].as_str().unwrap_or_default());
        let place = if object["spec"]["hostNetwork"] == true {
            Place::Host(node.host().beside(&node.cgroup().join(full))?)
        } else {
            Place::Own(node.pod(&full)?)
        };
        Ok(Self { api, node, name: name.to_owned(), place, path })
    }

    /// Starts servers at these `ports`, which answer with its name.
    pub(super) fn serve_all(&self, ports: &[(Transport, u16)]) -> Result<()> {
        ports.iter().try_for_each(|(transport, port)| self.serve(*transport, *port, &self.name))
    }

    /// The pod's name, which its servers answer with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses, IPv4 first.
    #[must_use]
    pub fn ips(&self) -> [IpAddr; 2] {
        match &self.place {
            Place::Own(pod) => pod.ips(),
            Place::Host(_) => self.node.ips(),
        }
    }

    /// The machine that it runs on.
    #[must_use]
    pub fn node(&self) -> &'c Machine {
        self.node
    }

    /// Where the API server has its object.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Says in its status whether it is ready.
    ///
    /// # Errors
    /// What the API server says.
    pub fn ready(&self, ready: bool) -> Result<()> {
        let status = objects::pod_status(&self.ips(), &self.node.ips(), ready);
        self.api.merge(&format!("{}/status", self.path), &status).map(|_| ())
    }

    /// Deletes it gracefully: it terminates, and goes on serving until [`RunningPod::delete`].
    ///
    /// # Errors
    /// What the API server says.
    pub fn terminate(&self) -> Result<()> {
        self.api.terminate(&self.path, 600).map(|_| ())
    }

    /// Deletes its object at once. The pod itself ends when it is dropped.
    ///
    /// # Errors
    /// What the API server says.
    pub fn delete(&self) -> Result<()> {
        self.api.delete(&self.path).map(|_| ())
    }
}

impl Deref for RunningPod<'_> {
    type Target = Space;

    fn deref(&self) -> &Space {
        match &self.place {
            Place::Own(pod) => pod,
            Place::Host(space) => space,
        }
    }
}
