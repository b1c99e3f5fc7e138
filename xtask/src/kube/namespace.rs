//! What a test has in a cluster: a Kubernetes namespace, pods and Services in it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::pods::RunningPod;
use super::{Api, Cluster, objects};

/// A Kubernetes namespace. The Services and Pod objects in it are deleted when it is dropped; the namespace stays.
#[derive(Debug)]
pub struct Namespace<'c> {
    cluster: &'c Cluster,
    name: String,
}

impl<'c> Namespace<'c> {
    pub(super) fn new(cluster: &'c Cluster, name: &str) -> Self {
        Self { cluster, name: name.to_owned() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a ready pod with these labels on the machine `node` (from 0), which serves both protocols at `port`.
    ///
    /// # Errors
    /// When a command fails, or the API server refuses the object.
    pub fn pod(&self, node: usize, name: &str, labels: &Value, port: u16) -> Result<RunningPod<'c>> {
        self.run(node, &objects::pod(&self.name, name, labels), port)
    }

    /// As [`Namespace::pod`], as `object` says, in the machine's network if that says `hostNetwork`.
    ///
    /// # Errors
    /// As [`Namespace::pod`]; and when something serves at `port` of the machine already.
    pub fn run(&self, node: usize, object: &Value, port: u16) -> Result<RunningPod<'c>> {
        RunningPod::start(self.cluster.api(), self.cluster.machine(node)?, object, port)
    }

    /// Creates an object of this namespace.
    ///
    /// # Errors
    /// What the API server says.
    pub fn create(&self, object: &Value) -> Result<Value> {
        let mut object = object.clone();
        object["metadata"]["namespace"] = self.name.as_str().into();
        let path = self.cluster.api().path(&object)?;
        let (folder, _) = path.rsplit_once('/').context("a path")?;
        self.cluster.api().post(folder, &object)
    }

    /// Creates a Service.
    ///
    /// # Errors
    /// What the API server says.
    pub fn service(&self, object: &Value) -> Result<Service<'c>> {
        let created = self.create(object)?;
        let mut service =
            Service { api: self.cluster.api(), path: self.cluster.api().path(&created)?, ips: [None; 2] };
        service.read(&created)?;
        Ok(service)
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        for kind in ["services", "pods"] {
            // The API server may be gone, or a test may have deleted all of it.
            let _ = self.cluster.api().delete(&format!("/api/v1/namespaces/{}/{kind}", self.name));
        }
    }
}

/// A Service that the API server has.
#[derive(Debug)]
pub struct Service<'c> {
    api: &'c Api,
    path: String,
    ips: [Option<IpAddr>; 2],
}

impl Service<'_> {
    /// Its path on the API server.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its ClusterIPs by family, IPv4 first.
    #[must_use]
    pub fn ips(&self) -> [Option<IpAddr>; 2] {
        self.ips
    }

    /// Its ClusterIP of `family` (0: IPv4, 1: IPv6) at `port`.
    ///
    /// # Errors
    /// When it has none of this family.
    pub fn at(&self, family: usize, port: u16) -> Result<SocketAddr> {
        match self.ips.get(family) {
            Some(Some(ip)) => Ok(SocketAddr::new(*ip, port)),
            _ => bail!("{} has no address of family {family}: {:?}", self.path, self.ips),
        }
    }

    /// Changes it by a merge patch (lists are replaced, null removes), and takes over its new addresses.
    ///
    /// # Errors
    /// What the API server says.
    pub fn patch(&mut self, patch: &Value) -> Result<()> {
        let changed = self.api.merge(&self.path, patch)?;
        self.read(&changed)
    }

    /// Deletes it.
    ///
    /// # Errors
    /// What the API server says.
    pub fn delete(&self) -> Result<()> {
        self.api.delete(&self.path).map(|_| ())
    }

    fn read(&mut self, object: &Value) -> Result<()> {
        self.ips = [None; 2];
        let texts = object["spec"]["clusterIPs"].as_array().into_iter().flatten();
        for text in texts.filter_map(Value::as_str).filter(|text| *text != "None") {
            let ip: IpAddr = text.parse().with_context(|| format!("the ClusterIP {text}"))?;
            self.ips[usize::from(ip.is_ipv6())] = Some(ip);
        }
        Ok(())
    }
}
