//! A cluster that tests may break, one at a time, and a Service in it under traffic that must not notice.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};
use xtask::kube::{Cluster, Namespace, Proxy, RunningPod, Service, objects};
use xtask::lab::helper::wire::{Answer, Load, Socket};
use xtask::lab::{Conn, Machine, Network, Space};
use xtask::sh;

use crate::support::{
    PACKETS, SOCKETS, TARGET, WAYS, answers, binaries, endpoint, eventually_in, lab, slice,
};
use crate::tables;

/// The cluster that this test may break: two machines in one zone, and some that have no agent.
pub(crate) fn own() -> MutexGuard<'static, Cluster> {
    static OWN: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let mut own =
            Cluster::start(lab(), "own", binaries(), &[SOCKETS, PACKETS].map(Proxy::Sluice)).unwrap();
        for name in ["change", "login"] {
            own.add_spare(name).unwrap();
        }
        Mutex::new(own)
    });
    // A test that failed leaves what the next one may well work with.
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Breaks all connections of the machine to the API server, and says which.
pub(crate) fn cut(machine: &Machine) -> anyhow::Result<String> {
    let [control, _] = Network::control_ips();
    sh::read(machine.host().command("ss").args(["--kill", "--tcp", "dst", &control.to_string()]))
}

/// A Service of two pods under traffic that must not notice anything.
pub(crate) struct Traffic<'c> {
    cluster: &'c Cluster,
    namespace: Namespace<'c>,
    service: Service<'c>,
    pub(crate) pods: [RunningPod<'c>; 2],
}

/// Connections that were open before, and whom they talk to.
pub(crate) type Open<'c> = Vec<(Conn<'c>, Answer)>;

impl<'c> Traffic<'c> {
    pub(crate) fn start(cluster: &'c Cluster, name: &str) -> Self {
        let namespace = cluster.namespace(name).unwrap();
        let labels = json!({ "app": name });
        let pods = [(0, "a"), (1, "b")].map(|(node, pod)| namespace.pod(node, pod, &labels, TARGET).unwrap());
        let service = namespace.service(&objects::service(name, "web", &labels, TARGET)).unwrap();
        let traffic = Self { cluster, namespace, service, pods };
        traffic.settle(&traffic.pods.each_ref());
        for client in traffic.clients() {
            let to = traffic.service.at(0, 80).unwrap();
            client.start_load(Load { to, clients: 2, rate: 60 }).unwrap();
        }
        traffic
    }

    /// Who sends: a pod of the one machine, the host of the other.
    fn clients(&self) -> [&'c Space; 2] {
        [self.cluster.client(0).unwrap(), self.cluster.nodes()[1].host()]
    }

    /// Opens connections of both families that stay open.
    pub(crate) fn open(&self) -> Open<'c> {
        let each = |client: &'c Space| {
            [0, 1].map(|family| {
                let conn = client.open(Socket::Tcp, Some(self.service.at(family, 80).unwrap())).unwrap();
                let answer = conn.ask().unwrap();
                (conn, answer)
            })
        };
        self.clients().into_iter().flat_map(each).collect()
    }

    /// Waits until the tables of all machines are what the API server says.
    pub(crate) fn agree(&self) {
        eventually_in(self.cluster, "the tables are what the objects say", || tables::differ(self.cluster));
    }

    /// Deletes a pod and waits until the other one answers alone.
    pub(crate) fn lose(&self, pod: usize) {
        self.pods[pod].delete().unwrap();
        self.settle(&[&self.pods[1 - pod]]);
    }

    /// Waits until exactly `pods` answer, and the tables are right.
    fn settle(&self, pods: &[&RunningPod<'_>]) {
        let names: BTreeSet<_> = pods.iter().map(|pod| pod.name().to_owned()).collect();
        for client in self.clients() {
            for way in WAYS {
                let to = self.service.at(way.family, 80).unwrap();
                eventually_in(self.cluster, "who answers", || match answers(client, way.socket, to, 2) {
                    Ok(found) if found == names => Ok(()),
                    other => Err(format!("{other:?}, not {names:?}")),
                });
            }
        }
        self.agree();
    }

    /// Ends the traffic: nothing was lost, and those who talked to somebody still do.
    pub(crate) fn end(self, open: &Open<'_>) {
        for (conn, first) in open {
            assert_eq!(conn.ask().unwrap(), *first);
        }
        for client in self.clients() {
            let report = client.stop_load().unwrap();
            assert!(report.failed.is_empty() && report.sent() > 10, "{:?}", report.failed.first());
        }
    }

    /// Changes one of [`Traffic::many`] in one of six ways; what is not there is no fault.
    pub(crate) fn change(&self, number: usize, way: usize) {
        let name = format!("many-{number}");
        let services = format!("/api/v1/namespaces/{0}/services", self.namespace.name());
        let slices =
            format!("/apis/discovery.k8s.io/v1/namespaces/{0}/endpointslices", self.namespace.name());
        let api = self.cluster.api();
        let endpoints = |pods: &[&RunningPod<'_>]| {
            let family = number % 2;
            let all: Vec<_> = pods.iter().map(|pod| endpoint(pod.ips()[family])).collect();
            api.merge(&format!("{slices}/{name}-{family}"), &json!({ "endpoints": all })).is_ok()
        };
        let [a, b] = &self.pods;
        let _ = match way % 6 {
            0 => endpoints(&[a]),
            1 => endpoints(&[a, b]),
            2 => endpoints(&[]),
            3 => endpoints(&[b]),
            4 => api.delete(&format!("{services}/{name}")).is_ok(),
            _ => self.namespace.create(&self.object(number)).is_ok(),
        };
    }

    /// The Service object `number` of [`Traffic::many`].
    fn object(&self, number: usize) -> Value {
        let mut object =
            objects::service(self.namespace.name(), &format!("many-{number}"), &Value::Null, TARGET);
        object["spec"]["selector"] = Value::Null;
        object
    }

    /// Services without selectors, each with one slice by hand of each family: `count` of them.
    pub(crate) fn many(&self, count: usize) {
        for number in 0..count {
            let name = format!("many-{number}");
            self.namespace.create(&self.object(number)).unwrap();
            for family in [0, 1] {
                let endpoints = [endpoint(self.pods[number % 2].ips()[family])];
                self.namespace
                    .create(&slice(&format!("{name}-{family}"), &name, family, &endpoints))
                    .unwrap();
            }
        }
    }
}
