//! The scene: a control plane, and for each proxy a machine with the same pods on it, so that the same objects lead
//! each of them to pods of its own.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::objects::{ENDPOINTS, PODS, TARGET};
use super::proxy::Proxy;
use crate::kube::{Binaries, Cluster, ControlPlane, Part};
use crate::lab::helper::wire::Transport;
use crate::lab::{Lab, Machine, Network, Pod};

/// The names of the pods by turns behind the probe: their servers answer with them.
pub(super) const TURNS: [&str; 2] = ["turn-0", "turn-1"];

/// What there is. Pods end before the machines that they are on.
#[derive(Debug)]
pub(super) struct Scene {
    sides: Vec<Side>,
    cluster: Cluster,
    binaries: Binaries,
}

/// The pods of a machine.
#[derive(Debug)]
pub(super) struct Side {
    proxy: Proxy,
    /// It tries who answers.
    pub(super) prober: Pod,
    /// Its traffic must not notice anything.
    pub(super) traffic: Pod,
    _backends: Vec<Pod>,
}

impl Scene {
    /// Makes it, without proxies and without Services; no other of this run has that `name`.
    ///
    /// # Errors
    /// When the control plane does not start, or a command fails.
    pub(super) fn new(lab: &Arc<Lab>, binaries: &Binaries, name: &str) -> Result<Self> {
        let mut cluster = Cluster::start(lab, name, binaries, &[])?;
        // Nobody here needs it, and it would read along.
        cluster.plane().stop(Part::ControllerManager)?;
        for proxy in Proxy::ALL {
            cluster.add_spare(proxy.name())?;
        }
        let sides = Proxy::ALL.map(|proxy| Side::new(proxy, cluster.spare(proxy.name())?));
        let sides = sides.into_iter().collect::<Result<_>>()?;
        Ok(Self { sides, cluster, binaries: binaries.clone() })
    }

    /// The control plane.
    pub(super) fn plane(&self) -> &ControlPlane {
        self.cluster.plane()
    }

    /// The machine of `proxy`.
    pub(super) fn machine(&self, proxy: Proxy) -> Result<&Machine> {
        self.cluster.spare(proxy.name())
    }

    /// The pods of that machine.
    pub(super) fn side(&self, proxy: Proxy) -> Result<&Side> {
        self.sides.iter().find(|side| side.proxy == proxy).context("a machine for each proxy")
    }

    /// The programs of the cluster.
    pub(super) fn binaries(&self) -> &Binaries {
        &self.binaries
    }
}

impl Side {
    fn new(proxy: Proxy, machine: &Machine) -> Result<Self> {
        let [prober, traffic] = [machine.pod("prober")?, machine.pod("traffic")?];
        // What no proxy translates yet ends here. The rest of the network might have an answer.
        machine.host().ip(&format!("route add unreachable {}\n", Network::SERVICES[0]))?;
        let mut backends = Vec::new();
        for (name, address) in TURNS.into_iter().chain(["steady"]).zip(PODS) {
            let pod = serving(machine, name, &format!("{address}/32"))?;
            // A server that listens on all addresses answers datagrams from this one.
            pod.ip(&format!(
                "addr add {address}/32 dev eth0\nroute replace default via 169.254.1.1 dev eth0 onlink src {address}\n"
            ))?;
            backends.push(pod);
        }
        let many = serving(machine, "many", ENDPOINTS)?;
        // It has every address of the range.
        many.ip(&format!("route add local {ENDPOINTS} dev lo\n"))?;
        backends.push(many);
        Ok(Self { proxy, prober, traffic, _backends: backends })
    }
}

/// A pod that the machine reaches under `range`, too, and that serves both protocols there.
pub(super) fn serving(machine: &Machine, name: &str, range: &str) -> Result<Pod> {
    let pod = machine.pod(name)?;
    let (via, interface) = (pod.ipv4(), pod.interface());
    machine.host().ip(&format!("route add {range} via {via} dev {interface} onlink\n"))?;
    for transport in [Transport::Tcp, Transport::Udp] {
        pod.serve(transport, TARGET, name)?;
    }
    Ok(pod)
}
