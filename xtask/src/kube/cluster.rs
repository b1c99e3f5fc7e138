//! A cluster without kubelets: a control plane, machines with an agent each, Node objects, and pods that are namespaces.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Api, Binaries, ControlPlane, Namespace, User, incumbent, objects};
use crate::lab::{Agent, Lab, Machine, Network, Pod, Space};
use crate::sh;

/// Zones of the machines, in turn: the first two share one.
const ZONES: [&str; 3] = ["zone-a", "zone-a", "zone-b"];

/// Who the agents are: the user that the API server lets do what kube-proxy does (B116).
const PROXY: User<'static> = User { name: "system:kube-proxy", group: None };

/// Who translates what is sent to Services on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Sluice, with these flags of its agent.
    Sluice(&'static [&'static str]),
    /// The incumbent.
    KubeProxy,
}

/// What a machine has in a cluster.
#[derive(Debug)]
struct Member {
    /// A pod without an object, which asks Services.
    client: Pod,
    proxy: Proxy,
    agent: Mutex<Option<Agent>>,
}

/// Somebody who asks Services.
#[derive(Clone, Debug)]
pub struct Client<'c> {
    /// Who it is, for messages.
    pub name: String,
    /// Where its sockets are.
    pub space: &'c Space,
    /// Its addresses, IPv4 first.
    pub ips: [IpAddr; 2],
}

/// Machines, an outside client and a control plane. Agents end before what they talk to does.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    members: Vec<Member>,
    network: Network,
    plane: ControlPlane,
}

impl Cluster {
    /// Starts a cluster with a machine for each of `proxies`. They are called `NAME-1`, `NAME-2`, …
    ///
    /// # Errors
    /// When the control plane or an agent does not come up; with its log.
    pub fn start(lab: &Arc<Lab>, name: &str, binaries: &Binaries, proxies: &[Proxy]) -> Result<Self> {
        let plane = ControlPlane::start(lab, &format!("{name}-control"), binaries, Network::control_ips())?;
        let mut network = Network::new(lab, name)?;
        network.connect_control(plane.space())?;
        let kubeconfig = plane.kubeconfig(PROXY)?;
        let mut members = Vec::new();
        for ((number, zone), proxy) in (1..).zip(ZONES.iter().cycle()).zip(proxies) {
            let machine = network.add(&format!("{name}-{number}"), ("--kubeconfig", kubeconfig.clone()))?;
            register(plane.api(), machine, &objects::node(machine, zone))?;
            members.push(Member { client: machine.pod("client")?, proxy: *proxy, agent: Mutex::default() });
        }
        let cluster = Self { kubeconfig, members, network, plane };
        thread::scope(|scope| {
            let starts = (0..proxies.len()).map(|index| {
                let cluster = &cluster;
                scope.spawn(move || cluster.start_agent(index))
            });
            starts.collect::<Vec<_>>().into_iter().try_for_each(|start| sh::joined(start.join()))
        })?;
        Ok(cluster)
    }

    /// The API server, as its administrator.
    #[must_use]
    pub fn api(&self) -> &Api {
        self.plane.api()
    }

    /// Etcd, API server and controllers.
    #[must_use]
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The machines and what is around them.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The machines, but for those that are spare.
    #[must_use]
    pub fn nodes(&self) -> &[Machine] {
        &self.network.machines()[..self.members.len()]
    }

    /// Who translates on which machine.
    pub fn proxies(&self) -> impl Iterator<Item = Proxy> {
        self.members.iter().map(|member| member.proxy)
    }

    /// Adds a machine for an agent that the caller starts, with the kubeconfig [`Cluster::spare_kubeconfig`], which the
    /// caller may replace. For hints of zones it does not count.
    ///
    /// # Errors
    /// When there is no room for it, or a command fails.
    pub fn add_spare(&mut self, name: &str) -> Result<()> {
        let kubeconfig = self.spare_kubeconfig(name);
        fs::copy(&self.kubeconfig, &kubeconfig).with_context(|| format!("make {}", kubeconfig.display()))?;
        let machine = self.network.add(name, ("--kubeconfig", kubeconfig))?;
        let mut node = objects::node(machine, "zone-b");
        node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = "".into();
        register(self.plane.api(), machine, &node)
    }

    /// The spare machine called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn spare(&self, name: &str) -> Result<&Machine> {
        let mut spare = self.network.machines().iter().skip(self.members.len());
        spare.find(|machine| machine.name() == name).with_context(|| format!("no spare machine {name}"))
    }

    /// What the agent of a spare machine reads: at first, what the other agents do.
    #[must_use]
    pub fn spare_kubeconfig(&self, name: &str) -> PathBuf {
        self.plane.dir().join(format!("spare-{name}.kubeconfig"))
    }

    /// Starts the agent of the machine `index` and waits until it is ready.
    ///
    /// # Errors
    /// When it is not; with its log.
    pub fn start_agent(&self, index: usize) -> Result<()> {
        let (machine, member) = (self.machine(index)?, self.member(index)?);
        let agent = match member.proxy {
            Proxy::Sluice(flags) => Agent::start(machine, flags)?,
            Proxy::KubeProxy => incumbent::start(machine, self.plane.binaries(), &[])?,
        };
        *member.agent() = Some(agent);
        Ok(())
    }

    /// Takes the running agent of the machine `index`, to end it.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn take_agent(&self, index: usize) -> Result<Agent> {
        self.member(index)?.agent().take().context("no agent runs there")
    }

    /// What the running agent of the machine `index` has logged.
    #[must_use]
    pub fn agent_log(&self, index: usize) -> String {
        self.member(index).ok().and_then(|member| Some(member.agent().as_ref()?.log())).unwrap_or_default()
    }

    /// The machine `index`, from 0.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine(&self, index: usize) -> Result<&Machine> {
        self.nodes().get(index).with_context(|| format!("the cluster has no machine {index}"))
    }

    fn member(&self, index: usize) -> Result<&Member> {
        self.members.get(index).with_context(|| format!("the cluster has no machine {index}"))
    }

    /// The client pod of the machine `index`, from 0.
    ///
    /// # Errors
    /// When there is none.
    pub fn client(&self, index: usize) -> Result<&Pod> {
        Ok(&self.member(index)?.client)
    }

    /// Those who may be clients of a Service: a pod and the host on each machine, with their addresses.
    #[must_use]
    pub fn clients(&self) -> Vec<Client<'_>> {
        let all = self.nodes().iter().zip(&self.members).flat_map(|(machine, member)| {
            let name = |who| format!("{who} on {}", machine.name());
            [
                Client { name: name("the pod"), space: &member.client, ips: member.client.ips() },
                Client { name: name("the host"), space: machine.host(), ips: machine.ips() },
            ]
        });
        all.collect()
    }

    /// Makes a Kubernetes namespace and waits until pods may be made in it.
    ///
    /// # Errors
    /// When there is one of this name, or no controller makes its ServiceAccount.
    pub fn namespace(&self, name: &str) -> Result<Namespace<'_>> {
        self.plane.namespace(name)?;
        Ok(Namespace::new(self, name))
    }
}

/// What a kubelet tells of its machine.
fn register(api: &Api, machine: &Machine, node: &Value) -> Result<()> {
    api.post("/api/v1/nodes", node)?;
    api.merge(&format!("/api/v1/nodes/{}/status", machine.name()), &objects::node_status(machine))?;
    Ok(())
}

impl Member {
    fn agent(&self) -> MutexGuard<'_, Option<Agent>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
