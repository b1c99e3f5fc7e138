//! The rules that the real kube-proxy writes: a machine that it has served, and on which nobody is at work any more.
//! Rows of a node send through it as well, with interfaces that they put there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_bench::target;
use serde_json::json;

use super::objects::{self, Size};
use super::steps::Steps;
use crate::kube::{Binaries, Cluster, Part, incumbent};
use crate::lab::{Lab, wait_for};

/// The machine.
const NAME: &str = "rules";

/// What has to be known to read figures of rows that went through the rules.
pub(super) const NOTES: &[&str] = &[
    "On kube-proxy's machine conntrack forgets a TCP connection ten seconds after its end, not 120, or its table would fill.",
];

/// How long conntrack remembers a TCP connection that has ended, seconds: `crr` makes some 3000 a second, and what is full
/// refuses new ones. The table's own limit can only be raised for the whole machine.
const TIME_WAIT: &str = "10";

/// How long kube-proxy may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A network namespace with the rules. It lives as long as this value.
#[derive(Debug)]
pub(super) struct Rules {
    netns: String,
    _cluster: Cluster,
}

impl Rules {
    /// Has kube-proxy write rules for so many Services, and for the one that rows of a node send to.
    ///
    /// # Errors
    /// When the control plane does not start, or kube-proxy does not do its work; with its log.
    pub(super) fn write(lab: &Arc<Lab>, binaries: &Binaries, size: Size) -> Result<Self> {
        let steps = Steps::new();
        steps.say("starting etcd and an API server, for rules of kube-proxy");
        let mut cluster = Cluster::start(lab, "beside", binaries, &[])?;
        cluster.plane().stop(Part::ControllerManager)?;
        cluster.add_spare(NAME)?;
        steps.say(&format!("creating {} Services x {} endpoints", size.services, size.endpoints));
        // The last one is not like the others.
        let with_probe = Size { services: size.services + 1, ..size };
        objects::create(cluster.plane(), with_probe, &steps)?;
        for object in target_objects() {
            cluster.plane().apply(&object)?;
        }
        let machine = cluster.spare(NAME)?;
        // Of this address it learns that it is the node's.
        let address = format!("{}/32", target::NODE);
        machine.host().ip(&format!("addr add {address} dev lo\n"))?;
        steps.say("kube-proxy writes its rules");
        let proxy = incumbent::spawn(machine, binaries, &["--nodeport-addresses", &address])?;
        let ready = wait_for(LIMIT, || incumbent::is_ready(machine));
        ready.with_context(|| format!("kube-proxy is not ready; its log:\n{}", proxy.log()))?;
        proxy.stop()?;
        machine.host().set(&[("netfilter/nf_conntrack_tcp_timeout_time_wait", TIME_WAIT)])?;
        machine.host().ip(&format!("addr del {address} dev lo\n"))?;
        for part in [Part::ApiServer, Part::Etcd] {
            cluster.plane().stop(part)?;
        }
        steps.say("the rules are written");
        Ok(Self { netns: machine.host().netns().to_owned(), _cluster: cluster })
    }

    /// Its name, as `ip netns` lists it.
    pub(super) fn netns(&self) -> &str {
        &self.netns
    }
}

/// The Service that rows of a node send to, and its slice.
fn target_objects() -> [serde_json::Value; 2] {
    const NAME: &str = "target";
    let ports = |number: u16, node_port: Option<u16>| {
        ["TCP", "UDP"].map(|protocol| {
            let name = protocol.to_lowercase();
            let mut port = json!({ "name": name, "protocol": protocol, "port": number });
            if let Some(node_port) = node_port {
                port["nodePort"] = node_port.into();
            }
            port
        })
    };
    let spec = json!({
        "type": "NodePort",
        "clusterIP": target::CLUSTER_IP,
        "ports": ports(target::PORT, Some(target::NODE_PORT)),
    });
    let endpoint = json!({ "addresses": [target::ENDPOINT], "conditions": { "ready": true } });
    [objects::service(NAME, &spec), objects::slice(NAME, &ports(target::ENDPOINT_PORT, None), &[endpoint])]
}
