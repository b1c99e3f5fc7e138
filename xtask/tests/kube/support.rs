//! What the tests share: one cluster, and the question who answers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::kube::{
    Binaries, Client, Cluster, ControlPlane, Namespace, Proxy, RunningPod, Service, binaries, objects,
};
use xtask::lab::helper::wire::{Answer, Failure, Socket};
use xtask::lab::{Lab, Network, Space, wait_for};

/// The port at which pods serve.
pub(crate) const TARGET: u16 = 8000;

/// How soon a change has to be in effect. Controllers take up to a second, agents milliseconds; the rest is for a busy
/// machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How soon a Kubernetes Event has to be there: an agent draws when it says something, says so much about everything that is
/// wrong in the cluster, and tries again after up to two minutes if the API server did not take it.
const SAID: Duration = Duration::from_mins(4);

/// Flags of agents: tables that are made quickly, and who translates pods' TCP, sockets or packets.
pub(crate) const SOCKETS: &[&str] = &["--max-flows", "65536", "--socket-lb", "all"];
pub(crate) const PACKETS: &[&str] = &["--max-flows", "65536", "--socket-lb", "host"];

/// The same of agents that know pods by their addresses (B80).
const TOLD: [&str; 2] = ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"];
const TOLD_SOCKETS: &[&str] = &[SOCKETS[0], SOCKETS[1], SOCKETS[2], SOCKETS[3], TOLD[0], TOLD[1]];
const TOLD_PACKETS: &[&str] = &[PACKETS[0], PACKETS[1], PACKETS[2], PACKETS[3], TOLD[0], TOLD[1]];

/// Starts a control plane of the test's own.
pub(crate) fn start(name: &str) -> ControlPlane {
    ControlPlane::start(lab(), name, binaries(), Network::control_ips()).unwrap()
}

/// The run of this test binary. Its reaper removes it when the binary ends.
pub(crate) fn lab() -> &'static Arc<Lab> {
    static LAB: OnceLock<Arc<Lab>> = OnceLock::new();
    LAB.get_or_init(|| Lab::start(env!("CARGO_BIN_EXE_xtask")).unwrap())
}

/// The programs of control planes.
pub(crate) fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| Binaries::get(binaries::CONTROL_PLANE).unwrap())
}

/// The cluster that tests share. Its machines 0 and 1 are in zone-a, 2 in zone-b; that of zone-b leaves pods' TCP to the
/// packet path. Two more have no agent: what is installed, and what it may do, is tested there.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let proxies = [TOLD_SOCKETS, TOLD_SOCKETS, TOLD_PACKETS].map(Proxy::Sluice);
        let mut cluster = Cluster::start(lab(), "kube", binaries(), &proxies).unwrap();
        for name in ["install", "role"] {
            cluster.add_spare(name).unwrap();
        }
        cluster
    })
}

/// One way to ask: a kind of socket and a family (0: IPv4, 1: IPv6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    pub(crate) socket: Socket,
    pub(crate) family: usize,
}

pub(crate) const TCP4: Way = Way { socket: Socket::Tcp, family: 0 };
pub(crate) const UDP4: Way = Way { socket: Socket::Udp, family: 0 };
pub(crate) const TCP6: Way = Way { socket: Socket::Tcp, family: 1 };
pub(crate) const UDP6: Way = Way { socket: Socket::Udp, family: 1 };

/// {TCP, UDP} × {IPv4, IPv6}.
pub(crate) const WAYS: [Way; 4] = [TCP4, UDP6, UDP4, TCP6];

/// A namespace of its own for a test, and a name for what is in it.
pub(crate) struct Scene {
    pub(crate) namespace: Namespace<'static>,
    name: String,
}

impl Scene {
    /// Makes the namespace `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self { namespace: cluster().namespace(name).unwrap(), name: name.to_owned() }
    }

    /// The labels of the pods that [`Scene::service`] selects.
    pub(crate) fn labels(&self) -> Value {
        json!({"app": self.name})
    }

    /// A pod on the machine `node` which [`Scene::service`] selects.
    pub(crate) fn pod(&self, node: usize, name: &str) -> RunningPod<'static> {
        self.namespace.pod(node, name, &self.labels(), TARGET).unwrap()
    }

    /// The object of such a pod.
    pub(crate) fn pod_object(&self, name: &str) -> Value {
        objects::pod(self.namespace.name(), name, &self.labels())
    }

    /// The name of a Service as `sluice` takes it.
    pub(crate) fn full(&self, service: &str) -> String {
        format!("{}/{service}", self.namespace.name())
    }

    /// What `sluice service show` says of a Service on the machine `node`: its ports.
    pub(crate) fn shown(&self, node: usize, service: &str) -> Result<Vec<Value>, String> {
        let shown = cluster().nodes()[node].sluice_json(&["service", "show", &self.full(service)]);
        let shown = shown.map_err(|error| format!("{error:#}"))?;
        shown.as_array().cloned().ok_or_else(|| format!("no array: {shown}"))
    }

    /// The Service object of this scene, with TCP and UDP port 80.
    pub(crate) fn object(&self, name: &str) -> Value {
        objects::service(self.namespace.name(), name, &self.labels(), TARGET)
    }

    /// Creates it.
    pub(crate) fn service(&self, name: &str) -> Service<'static> {
        self.namespace.service(&self.object(name)).unwrap()
    }

    /// Creates a Service without a selector.
    pub(crate) fn without_selector(&self, name: &str) -> Service<'static> {
        let mut object = self.object(name);
        object["spec"]["selector"] = Value::Null;
        self.namespace.service(&object).unwrap()
    }

    /// Creates a slice of the Service `service` by hand; `endpoints` of `family`, for both of its ports.
    pub(crate) fn slice(&self, name: &str, service: &str, family: usize, endpoints: &[Value]) -> String {
        let object = slice(name, service, family, endpoints);
        self.path(&self.namespace.create(&object).unwrap())
    }

    /// Where an object is on the API server.
    pub(crate) fn path(&self, object: &Value) -> String {
        cluster().api().path(object).unwrap()
    }
}

/// A slice made by hand.
pub(crate) fn slice(name: &str, service: &str, family: usize, endpoints: &[Value]) -> Value {
    let ports = ["TCP", "UDP"]
        .map(|protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": TARGET}));
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": if family == 0 { "IPv4" } else { "IPv6" },
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// A ready endpoint of a slice.
pub(crate) fn endpoint(ip: IpAddr) -> Value {
    json!({"addresses": [ip], "conditions": {"ready": true}})
}

/// Asks port 80 of `service` once.
pub(crate) fn ask(client: &Space, service: &Service<'_>, way: Way) -> Result<Answer, Failure> {
    client.ask(way.socket, service.at(way.family, 80).unwrap())
}

/// Waits until `service` with a Local policy has nobody for the clients of the machine `node`: a socket of the host that
/// sends datagrams is told at once, everything else is silence and no refusal.
pub(crate) fn nobody_local(node: usize, service: &Service<'_>) {
    let (host, pod) = (cluster().nodes()[node].host(), cluster().client(node).unwrap());
    eventually("a datagram of the host is refused", || match ask(host, service, UDP6) {
        Err(failure) if failure.refused_at_once() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let failure = ask(pod, service, TCP4).unwrap_err();
    assert!(failure.is_silence(), "{failure:?}");
}

/// Who answers `count` new connections to `to` from `client`.
pub(crate) fn answers(
    client: &Space,
    socket: Socket,
    to: SocketAddr,
    count: usize,
) -> Result<BTreeSet<String>, Failure> {
    (0..count).map(|_| client.ask(socket, to).map(|answer| answer.pod)).collect()
}

/// Waits until `check` says nothing against the state of things any more, and gives what it found; fails with what it says
/// last.
pub(crate) fn eventually<T>(what: &str, check: impl FnMut() -> Result<T, String>) -> T {
    eventually_in(cluster(), what, check)
}

/// As [`eventually`], in a cluster of the test's own.
pub(crate) fn eventually_in<T>(cluster: &Cluster, what: &str, check: impl FnMut() -> Result<T, String>) -> T {
    within(SOON, cluster, what, check)
}

/// As [`eventually`], of what Kubernetes Events say.
pub(crate) fn told<T>(what: &str, check: impl FnMut() -> Result<T, String>) -> T {
    within(SAID, cluster(), what, check)
}

fn within<T>(
    limit: Duration,
    cluster: &Cluster,
    what: &str,
    mut check: impl FnMut() -> Result<T, String>,
) -> T {
    let mut last = Err(String::new());
    let settled = wait_for(limit, || {
        last = check();
        if last.is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        last.is_ok()
    });
    match (last, settled) {
        (Ok(found), _) => found,
        (Err(said), settled) => panic!("{what}: {settled:?}: {said}\n{}", agents(cluster)),
    }
}

/// What the agents logged last.
fn agents(cluster: &Cluster) -> String {
    let mut text = String::new();
    for (index, machine) in cluster.nodes().iter().enumerate() {
        let log = cluster.agent_log(index);
        let from = log.len().saturating_sub(2000);
        let _ = writeln!(text, "{}: …{}", machine.name(), log.get(from..).unwrap_or_default());
    }
    text
}

/// Waits until new connections to port 80 of `service` from every client of the cluster, by every way that its addresses
/// allow, go to exactly `pods`; for none, until all are refused.
pub(crate) fn serves(service: &Service<'_>, pods: &[&RunningPod<'_>]) {
    serves_at(service, 80, &WAYS, pods);
}

/// As [`serves`], at `port` and by these ways.
pub(crate) fn serves_at(service: &Service<'_>, port: u16, ways: &[Way], pods: &[&RunningPod<'_>]) {
    let names: BTreeSet<String> = pods.iter().map(|pod| pod.name().to_owned()).collect();
    for client in cluster().clients() {
        for way in ways.iter().filter(|way| service.ips()[way.family].is_some()) {
            let to = service.at(way.family, port).unwrap();
            let what = format!("{} asks {to} by {way:?}", client.name);
            eventually(&what, || answered_by(&client, way.socket, to, &names));
        }
    }
}

/// Whether exactly `names` answer `client` now; if there are none, whether it is refused at once.
pub(crate) fn answered_by(
    client: &Client<'_>,
    socket: Socket,
    to: SocketAddr,
    names: &BTreeSet<String>,
) -> Result<(), String> {
    match answers(client.space, socket, to, names.len().max(1)) {
        Ok(found) if found == *names => Ok(()),
        Err(failure) if names.is_empty() && failure.refused_at_once() => Ok(()),
        other => Err(format!("{other:?}, should be {names:?}")),
    }
}

/// Waits until everybody who asks `port` of `service` by these ways is refused at once.
pub(crate) fn refused_at(service: &Service<'_>, port: u16, ways: &[Way]) {
    serves_at(service, port, ways, &[]);
}

/// Waits until no machine has the Service any more.
pub(crate) fn gone(scene: &Scene, service: &str) {
    for (node, machine) in cluster().nodes().iter().enumerate() {
        let what = format!("{} of {} goes", scene.full(service), machine.name());
        eventually(&what, || scene.shown(node, service).map_or(Ok(()), |ports| Err(format!("{ports:?}"))));
    }
}
