//! Two nodes, a pod that asks and one that serves on each, a client outside, and Services of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::{fs, iter, thread};

use serde_json::{Value, json};
use xtask::kube::{Cluster, Part, objects};
use xtask::lab::helper::wire::{Answer, Failure, Socket, Transport};
use xtask::lab::{Machine, Network, Pod, Space};
use xtask::sh;

use super::kinds::{self, Kind, Special};
use super::outcome::{By, Outcome};
use super::vectors::{Front, Sender, Vector, Way};
use crate::support::{TARGET, binaries, lab, slice};

/// The nodes' names.
const NODES: [&str; 2] = ["differential-a", "differential-b"];

/// The namespace of the Services.
const NAMESPACE: &str = "differential";

/// The port of the Services.
const PORT: u16 = 80;

/// The node port of the first Service. Ports for health checks are chosen by the API server, above the first 86.
const FIRST_NODE_PORT: u16 = 30_001;

/// Addresses that no machine has, by family; the outside client sends what is for them to the first node.
const ELSEWHERE: [&str; 2] = ["192.0.2.", "fd02::"];

/// How often an address is asked of which fewer endpoints than there are have answered. kube-proxy chooses by chance: one
/// of two has not shown itself by then in one case of two billion.
const TRIES: usize = 32;

/// What there is. Pods end before the machines that they are on.
pub(super) struct Scene {
    clients: [Pod; 2],
    backends: [Pod; 2],
    pub(super) kinds: Vec<Kind>,
    /// The ClusterIPs of each, by family.
    services: Vec<[IpAddr; 2]>,
    pub(super) cluster: Cluster,
}

impl Scene {
    /// Makes it, with a proxy on neither node.
    pub(super) fn new() -> Self {
        let mut cluster = Cluster::start(lab(), "differential", binaries(), &[]).unwrap();
        for name in NODES {
            cluster.add_spare(name).unwrap();
        }
        let machines = cluster.network().machines();
        let pod = |index: usize, name: &str| machines[index].pod(name).unwrap();
        let (clients, backends) =
            ([0, 1].map(|index| pod(index, "client")), [0, 1].map(|i| pod(i, "backend")));
        for (index, machine) in machines.iter().enumerate() {
            serve(&backends[index], TARGET, By::Pod(index));
            serve(machine.host(), TARGET, By::Node(index));
        }
        let outside = cluster.network().outside();
        serve(outside, PORT, By::Balancer);
        cluster.network().route_outside(["192.0.2.0/24", "fd02::/64"], machines[0].ips()).unwrap();
        let all = [outside].into_iter().chain(machines.iter().map(Machine::host));
        all.chain(clients.iter().chain(&backends).map(|pod| &**pod)).for_each(unlimited);
        let mut scene = Self { clients, backends, kinds: kinds::all(), services: Vec::new(), cluster };
        scene.services = scene.create();
        scene
    }

    /// The nodes.
    pub(super) fn machines(&self) -> &[Machine] {
        self.cluster.network().machines()
    }

    /// Creates the Services: their ClusterIPs.
    fn create(&self) -> Vec<[IpAddr; 2]> {
        let api = self.cluster.api();
        self.cluster.plane().namespace(NAMESPACE).unwrap();
        // Slices are made by hand here.
        self.cluster.plane().stop(Part::ControllerManager).unwrap();
        let outside = self.cluster.network().outside();
        let create = |(index, kind): (usize, &Kind)| {
            let name = format!("kind-{index}");
            let mut object = objects::service(NAMESPACE, &name, &Value::Null, TARGET);
            object["spec"]["type"] = "LoadBalancer".into();
            object["spec"]["externalIPs"] = json!([0, 1].map(|family| external(index, family)));
            let policy = |local: bool| if local { "Local" } else { "Cluster" };
            object["spec"]["externalTrafficPolicy"] = policy(kind.external_local).into();
            object["spec"]["internalTrafficPolicy"] = policy(kind.internal_local).into();
            self.specialise(index, kind, &mut object["spec"]);
            let created = api.apply(&object).unwrap();
            let ingress = [0, 1].map(|family| match kind.special {
                Special::Named => json!({"hostname": "balancer.example"}),
                Special::Proxied => json!({"ip": balancer(index, family), "ipMode": "Proxy"}),
                _ => json!({"ip": balancer(index, family), "ipMode": "VIP"}),
            });
            if kind.special == Special::Proxied {
                let [v4, v6] = [0, 1].map(|family| balancer(index, family));
                outside.ip(&format!("addr add {v4}/32 dev lo\naddr add {v6}/128 dev lo\n")).unwrap();
            }
            let ingress = if kind.special == Special::Named { &ingress[..1] } else { &ingress };
            let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
            api.merge(&format!("{}/status", api.path(&created).unwrap()), &status).unwrap();
            for family in [0, 1] {
                let endpoints: Vec<_> =
                    kind.ends.list().iter().map(|end| self.endpoint(*end, family)).collect();
                let mut slice = slice(&format!("{name}-{family}"), &name, family, &endpoints);
                slice["metadata"]["namespace"] = NAMESPACE.into();
                api.apply(&slice).unwrap();
            }
            [0, 1].map(|family| created["spec"]["clusterIPs"][family].as_str().unwrap().parse().unwrap())
        };
        self.kinds.iter().enumerate().map(create).collect()
    }

    /// Adds to a Service's `spec` what is special about it.
    fn specialise(&self, index: usize, kind: &Kind, spec: &mut Value) {
        let range = |ip: &IpAddr| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 });
        let ranges = |ips: &[IpAddr]| json!(ips.iter().map(range).collect::<Vec<_>>());
        for port in spec["ports"].as_array_mut().unwrap() {
            port["nodePort"] = node_port(index).into();
        }
        match kind.special {
            Special::Ranges => {
                let within = [self.machines()[0].ips(), self.clients[0].ips()].concat();
                spec["loadBalancerSourceRanges"] = ranges(&within);
            }
            Special::OutsideRange => spec["loadBalancerSourceRanges"] = ranges(&Network::outside_ips()),
            Special::Sticky => spec["sessionAffinity"] = "ClientIP".into(),
            Special::TcpAlone => spec["ports"].as_array_mut().unwrap().truncate(1),
            Special::Nothing | Special::Proxied | Special::Named => {}
        }
    }

    /// An endpoint as a slice has it.
    fn endpoint(&self, end: kinds::End, family: usize) -> Value {
        let machine = &self.machines()[end.node];
        let ips = if end.host { machine.ips() } else { self.backends[end.node].ips() };
        let [ready, serving, terminating] = end.conditions;
        json!({
            "addresses": [ips[family]],
            "nodeName": machine.name(),
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        })
    }

    /// Where a sender's sockets are, and its addresses.
    fn sender(&self, sender: Sender) -> (&Space, [IpAddr; 2]) {
        match sender {
            Sender::Pod(node) => (&self.clients[node], self.clients[node].ips()),
            Sender::Backend(node) => (&self.backends[node], self.backends[node].ips()),
            Sender::Node(node) => (self.machines()[node].host(), self.machines()[node].ips()),
            Sender::Outside => (self.cluster.network().outside(), Network::outside_ips()),
        }
    }

    /// The address that a vector is about.
    fn to(&self, vector: &Vector) -> SocketAddr {
        let Vector { kind, front, family, .. } = *vector;
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let unallocated = ["10.96.255.1", "fd00:10:96::ff01"];
        match front {
            Front::ClusterIp => SocketAddr::new(self.services[kind][family], PORT),
            Front::Unserved => SocketAddr::new(self.services[kind][family], PORT + 1),
            Front::Unallocated => SocketAddr::new(unallocated[family].parse().unwrap(), PORT),
            Front::NodePort(node) => SocketAddr::new(self.machines()[node].ips()[family], node_port(kind)),
            Front::Loopback => SocketAddr::new(loopback[family], node_port(kind)),
            Front::ExternalIp => SocketAddr::new(external(kind, family), PORT),
            Front::LoadBalancer => SocketAddr::new(balancer(kind, family), PORT),
        }
    }

    /// Asks all `vectors`, each sender by itself: what came of each.
    pub(super) fn ask(&self, vectors: &BTreeSet<Vector>) -> BTreeMap<Vector, Outcome> {
        let sticky = |vector: &Vector| self.kinds[vector.kind].special == Special::Sticky;
        // Who asks twice at once before it is remembered may be remembered twice.
        let _ = self.ask_once(&vectors.iter().copied().filter(sticky).collect());
        self.ask_once(vectors)
    }

    fn ask_once(&self, vectors: &BTreeSet<Vector>) -> BTreeMap<Vector, Outcome> {
        let of = |sender: Sender, echo: bool| {
            let is_meant = |vector: &Vector| vector.from == sender && (vector.way == Way::Echo) == echo;
            let own: Vec<_> = vectors.iter().copied().filter(is_meant).collect();
            let met = if echo { self.ping(sender, &own) } else { self.connect(sender, &own) };
            own.into_iter().zip(met).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let both = Sender::ALL.into_iter().flat_map(|sender| [(sender, true), (sender, false)]);
            let asking: Vec<_> = both.map(|(sender, echo)| scope.spawn(move || of(sender, echo))).collect();
            asking.into_iter().flat_map(|thread| sh::joined(thread.join())).collect()
        })
    }

    /// Sends an echo request for each of `vectors`, all at once.
    fn ping(&self, sender: Sender, vectors: &[Vector]) -> Vec<Outcome> {
        let (space, _) = self.sender(sender);
        let ping = |vector: &Vector| {
            let mut command = space.command("ping");
            command.args(["-n", "-c", "1", "-W", "3"]).arg(self.to(vector).ip().to_string());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let pinging: Vec<_> = vectors.iter().map(ping).collect();
        let ended = pinging.into_iter().map(|child| child.wait_with_output().unwrap());
        ended.map(|output| Outcome::of_ping(&output)).collect()
    }

    /// Asks `vectors` again and again, until of each all endpoints of its Service have answered, or it has failed.
    fn connect(&self, sender: Sender, vectors: &[Vector]) -> Vec<Outcome> {
        let (space, own) = self.sender(sender);
        let kind = |index: usize| &self.kinds[vectors[index].kind];
        let sticky = |index: usize| kind(index).special == Special::Sticky;
        let mut met: Vec<Vec<Result<Answer, Failure>>> = vec![Vec::new(); vectors.len()];
        for round in 0..TRIES {
            let is_open = |index: &usize| {
                let met = &met[*index];
                let answered: BTreeSet<_> = met.iter().flatten().map(|answer| &answer.pod).collect();
                let enough = kind(*index).ends.list().len().max(1);
                let tired = sticky(*index) && round >= TRIES / 4;
                met.iter().all(Result::is_ok) && answered.len() < enough && !tired
            };
            // Who asked in step with a rotation, or in turn with another, would meet one endpoint of it only.
            let times = |index| iter::repeat_n(index, fastrand::usize(1..=2));
            let mut open: Vec<_> = (0..vectors.len()).filter(is_open).flat_map(times).collect();
            fastrand::shuffle(&mut open);
            let asked = open.iter().map(|index| {
                let vector = &vectors[*index];
                (if vector.way == Way::Tcp { Socket::Tcp } else { Socket::Udp }, self.to(vector))
            });
            let answers = space.ask_all(&asked.collect::<Vec<_>>()).unwrap();
            for (index, answer) in open.into_iter().zip(answers) {
                met[index].push(answer);
            }
        }
        let outcome = |(index, met): (usize, &Vec<Result<Answer, Failure>>)| {
            let family = vectors[index].family;
            let nodes: Vec<_> = self.machines().iter().map(|machine| machine.ips()[family]).collect();
            Outcome::new(met, own[family], &nodes, sticky(index))
        };
        met.iter().enumerate().map(outcome).collect()
    }
}

/// The node port of the Service `kind`.
fn node_port(kind: usize) -> u16 {
    FIRST_NODE_PORT + u16::try_from(kind).unwrap()
}

/// Its external address.
fn external(kind: usize, family: usize) -> IpAddr {
    format!("{}{}", ELSEWHERE[family], kind + 1).parse().unwrap()
}

/// The address of its load balancer.
fn balancer(kind: usize, family: usize) -> IpAddr {
    format!("{}{}", ELSEWHERE[family], kind + 101).parse().unwrap()
}

fn serve(space: &Space, port: u16, by: By) {
    for transport in [Transport::Tcp, Transport::Udp] {
        space.serve(transport, port, &by.name()).unwrap();
    }
}

/// Lets a namespace send as many ICMP errors as it has to: kube-proxy's refusals are some.
fn unlimited(space: &Space) {
    let lift = || {
        for name in ["icmp_msgs_per_sec", "icmp_msgs_burst"] {
            // Older kernels have them for the whole machine, where they stay as they are.
            let _ = fs::write(format!("/proc/sys/net/ipv4/{name}"), "1000000");
        }
        Ok(())
    };
    space.within(lift).unwrap();
}
