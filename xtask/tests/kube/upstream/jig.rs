//! What the mirrored tests share: pods that serve, made once, and the objects of a test in a namespace of its own.
//!
//! A Pod object is one test's; the namespace of the network behind it is everybody's, so that a test costs requests and
//! not processes. What it says of itself (ready, terminating, gone) is said to the API server; it always answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::kube::{Namespace, objects};
use xtask::lab::helper::wire::Transport;
use xtask::lab::{Machine, Pod, Space, wait_for};

use super::svc::Svc;
use crate::support::cluster;

/// Where pods serve, TCP and UDP. At the second they add `:2` to their name.
pub(super) const TARGETS: [u16; 2] = [8000, 8001];

/// The kind of EndpointSlices, as [`Jig::path`] takes it.
pub(super) const SLICES: &str = "discovery.k8s.io/v1/endpointslices";

/// How long upstream gives the proxy at most; here it takes milliseconds.
pub(super) const LAG: Duration = Duration::from_secs(60);

/// A pod that serves, on one of the machines.
pub(super) struct Spot {
    pub(super) pod: Pod,
    pub(super) node: usize,
}

/// The pods that serve: `a` and `b` of each of the three machines, called `1a`, `1b`, `2a` and so on.
pub(super) fn spot(name: &str) -> &'static Spot {
    static SPOTS: OnceLock<Vec<Spot>> = OnceLock::new();
    let spots = SPOTS.get_or_init(|| {
        let names = [1, 2, 3].into_iter().flat_map(|node| ["a", "b"].map(|letter| (node, letter)));
        let make = |(node, letter): (usize, &str)| {
            let pod = cluster().nodes()[node - 1].pod(&format!("{node}{letter}")).unwrap();
            for transport in [Transport::Tcp, Transport::Udp] {
                pod.serve(transport, TARGETS[0], pod.name()).unwrap();
                pod.serve(transport, TARGETS[1], &format!("{}:2", pod.name())).unwrap();
            }
            Spot { pod, node: node - 1 }
        };
        names.map(make).collect()
    });
    spots.iter().find(|spot| spot.pod.name() == name).unwrap()
}

/// The machine `index`.
pub(super) fn node(index: usize) -> &'static Machine {
    &cluster().nodes()[index]
}

/// A pod that asks, on the machine `index`.
pub(super) fn client(index: usize) -> &'static Pod {
    static PODS: [OnceLock<Pod>; 3] = [const { OnceLock::new() }; 3];
    PODS[index].get_or_init(|| node(index).pod("e2e-client").unwrap())
}

/// Who asks on the machine `index`: that pod, and a process of the host.
pub(super) fn clients(index: usize) -> [&'static Space; 2] {
    static HOSTS: [OnceLock<Space>; 3] = [const { OnceLock::new() }; 3];
    let host = || node(index).host().beside(&node(index).cgroup().join("e2e-host")).unwrap();
    [client(index), HOSTS[index].get_or_init(host)]
}

/// Puts `over` into `base`: maps are merged, null removes, everything else is replaced.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(key);
                    continue;
                }
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// The objects of a test.
pub(super) struct Jig {
    namespace: Namespace<'static>,
}

impl Jig {
    /// Makes the namespace `e2e-NAME`.
    pub(super) fn new(name: &str) -> Self {
        Self { namespace: cluster().namespace(&format!("e2e-{name}")).unwrap() }
    }

    /// Its namespace.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Where objects of a kind are: `self.path("services", "")`, or one of them.
    pub(super) fn path(&self, kind: &str, name: &str) -> String {
        let group = if kind.contains('/') { "/apis" } else { "/api/v1" };
        let (version, plural) = kind.rsplit_once('/').unwrap_or(("", kind));
        let parts = [group, version, "namespaces", self.namespace(), plural, name];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("/")
    }

    /// Makes the Service `name` of the pods whose label `app` says so; `spec` goes over one of TCP port 80 and both
    /// families.
    pub(super) fn service(&self, name: &str, spec: &Value) -> Svc<'_> {
        self.labelled_service(name, &json!({}), spec)
    }

    /// As [`Jig::service`], with labels.
    pub(super) fn labelled_service(&self, name: &str, labels: &Value, spec: &Value) -> Svc<'_> {
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "ipFamilyPolicy": "PreferDualStack",
                "selector": {"app": name},
                "ports": [port("http", "TCP", 80, &json!(TARGETS[0]))],
            },
        });
        merge(&mut object["spec"], spec);
        let object = cluster().api().post(&self.path("services", ""), &object).unwrap();
        Svc { jig: self, name: name.to_owned(), object }
    }

    /// Makes a Pod object that is ready, at `spot`, with the label `app`.
    pub(super) fn pod(&self, name: &str, spot: &'static Spot, app: &str) -> PodObject {
        self.pod_with(name, spot, app, &json!({}))
    }

    /// As [`Jig::pod`], with `over` put into the object.
    pub(super) fn pod_with(&self, name: &str, spot: &'static Spot, app: &str, over: &Value) -> PodObject {
        self.create_pod(name, spot.node, spot.pod.ips(), app, over, true)
    }

    /// As [`Jig::pod`], but it has never been ready.
    pub(super) fn unready_pod(&self, name: &str, spot: &'static Spot, app: &str) -> PodObject {
        self.create_pod(name, spot.node, spot.pod.ips(), app, &json!({}), false)
    }

    /// Makes the object of a pod in the network of the machine `index`.
    pub(super) fn host_pod(&self, name: &str, index: usize, app: &str) -> PodObject {
        let over = json!({"spec": {"hostNetwork": true}});
        self.create_pod(name, index, node(index).ips(), app, &over, true)
    }

    fn create_pod(
        &self,
        name: &str,
        index: usize,
        ips: [IpAddr; 2],
        app: &str,
        over: &Value,
        ready: bool,
    ) -> PodObject {
        let mut object = objects::pod(self.namespace(), name, &json!({"app": app}));
        object["spec"]["nodeName"] = node(index).name().into();
        merge(&mut object, over);
        cluster().api().post(&self.path("pods", ""), &object).unwrap();
        let pod = PodObject { path: self.path("pods", name), node: index, ips };
        pod.ready(ready);
        pod
    }

    /// Pods `app-SPOT` at these places.
    pub(super) fn pods(&self, app: &str, spots: &[&str]) -> Vec<PodObject> {
        spots.iter().map(|name| self.pod(&format!("{app}-{name}"), spot(name), app)).collect()
    }

    /// The Service `name`, which is there.
    pub(super) fn known(&self, name: &str) -> Svc<'_> {
        let object = cluster().api().get(&self.path("services", name)).unwrap();
        Svc { jig: self, name: name.to_owned(), object }
    }

    /// The name of a Service in the cluster's DNS.
    pub(super) fn name_of(&self, service: &str) -> String {
        format!("{service}.{}.svc.cluster.local", self.namespace())
    }

    /// Waits until every slice of the Service has endpoints, and each is as `wanted`.
    pub(super) fn wait_endpoint(&self, service: &str, wanted: &dyn Fn(&Value) -> bool) {
        patiently(|| {
            let slices = self.slices(service);
            let mut all =
                slices.iter().map(|slice| slice["endpoints"].as_array().map_or(&[][..], Vec::as_slice));
            !slices.is_empty() && all.all(|endpoints| !endpoints.is_empty() && endpoints.iter().all(wanted))
        })
        .unwrap_or_else(|error| panic!("{service} {error}: {:#?}", self.slices(service)));
    }

    /// Makes an EndpointSlice of the Service `service` by hand, IPv4, with these ports; where it is.
    pub(super) fn slice(&self, service: &str, name: &str, spots: &[&str], ports: &[(&str, u16)]) -> String {
        let addresses = spots.iter().map(|name| json!({"addresses": [spot(name).pod.ipv4()]}));
        self.slice_of(service, name, &addresses.collect(), ports)
    }

    fn slice_of(&self, service: &str, name: &str, endpoints: &Value, ports: &[(&str, u16)]) -> String {
        let ports: Vec<_> =
            ports.iter().map(|(name, port)| json!({"name": name, "protocol": "TCP", "port": port})).collect();
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "e2e-test.k8s.io",
            }},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        });
        cluster().api().post(&self.path(SLICES, ""), &object).unwrap();
        self.path(SLICES, name)
    }

    /// Waits until the machine `index` has taken in all slices that the API server has had up to now: a slice that comes
    /// after them is there.
    pub(super) fn barrier(&self, index: usize) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("barrier-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let svc = self.service(&name, &json!({"selector": null, "ipFamilyPolicy": "SingleStack"}));
        self.slice_of(&name, &name, &json!([{"addresses": ["192.0.2.1"]}]), &[("http", 80)]);
        svc.settled(index, "TCP", 80, 0, &[SocketAddr::from(([192, 0, 2, 1], 80))].into());
    }

    /// The EndpointSlices of the Service `name`.
    pub(super) fn slices(&self, name: &str) -> Vec<Value> {
        let path = format!("{}?labelSelector=kubernetes.io/service-name%3D{name}", self.path(SLICES, ""));
        cluster().api().get(&path).unwrap()["items"].as_array().cloned().unwrap_or_default()
    }
}

/// A port of a Service.
pub(super) fn port(name: &str, protocol: &str, port: u16, target: &Value) -> Value {
    json!({"name": name, "protocol": protocol, "port": port, "targetPort": target})
}

/// The object of a pod.
pub(super) struct PodObject {
    path: String,
    node: usize,
    ips: [IpAddr; 2],
}

impl PodObject {
    /// Says whether it is ready.
    pub(super) fn ready(&self, ready: bool) {
        self.status(&objects::pod_status(&self.ips, &node(self.node).ips(), ready));
    }

    /// Says something of its status.
    pub(super) fn status(&self, status: &Value) {
        cluster().api().merge(&format!("{}/status", self.path), status).unwrap();
    }

    /// Deletes it with a long grace period: it is terminating from now on.
    pub(super) fn terminate(&self) {
        cluster().api().terminate(&self.path, 600).unwrap();
    }

    /// Deletes it.
    pub(super) fn delete(&self) {
        cluster().api().delete(&self.path).unwrap();
    }
}

/// Asks `done` every now and then until it says yes, for as long as [`LAG`].
pub(super) fn patiently(mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    wait_for(LAG, || {
        let is = done();
        if !is {
            thread::sleep(Duration::from_millis(30));
        }
        is
    })
}
