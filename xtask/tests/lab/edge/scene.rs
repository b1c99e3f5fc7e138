//! Two nodes and clients on all sides of them, and Services that are reached from everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};
use xtask::lab::helper::wire::{Answer, Failure, Transport};
use xtask::lab::manifest::{self, Endpoint, Port, list, slice};
use xtask::lab::{Agent, Machine, Network, Pod, Space, wait_for};

use crate::support::{Mode, SOON, TARGET, Way, lab, serve};

/// The number of the health check of [`Svc`], at nodes.
pub(super) const HEALTH: u16 = 30_999;

/// Addresses that no machine has, by family; the outside client sends what is for them to the first machine.
const ELSEWHERE: [&str; 2] = ["192.0.2.", "fd02::"];

/// Two machines: a pod that serves on each, `here` and `there`, and one that only asks on each; and a client outside.
pub(super) struct Scene {
    pub(super) mode: Mode,
    pub(super) network: Network,
    agents: Vec<Agent>,
    manifests: PathBuf,
    pub(super) here: Pod,
    pub(super) there: Pod,
    pub(super) pods: [Pod; 2],
}

/// A Service with a ClusterIP, a node port, an external IP and an address of a load balancer, each for TCP and UDP.
#[derive(Clone, Copy)]
pub(super) struct Svc {
    pub(super) name: &'static str,
    /// The last byte of its addresses, and of its node port.
    pub(super) number: u8,
}

/// One of the places where a Service is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Front {
    ClusterIp,
    /// At the machine with this index.
    NodePort(usize),
    ExternalIp,
    LoadBalancer,
}

impl Svc {
    /// Its node port.
    pub(super) fn node_port(self) -> u16 {
        30_000 + u16::from(self.number)
    }

    fn addr(self, front: Front, family: usize) -> IpAddr {
        let text = match front {
            Front::ClusterIp => format!("{}{}", ["10.96.2.", "fd00:10:96::2"][family], self.number),
            Front::ExternalIp => format!("{}{}", ELSEWHERE[family], self.number),
            _ => format!("{}{}", ELSEWHERE[family], self.number + 100),
        };
        text.parse().unwrap()
    }

    /// `front` in the way's family.
    pub(super) fn at(self, scene: &Scene, front: Front, way: Way) -> SocketAddr {
        match front {
            Front::NodePort(index) => {
                SocketAddr::new(scene.network.machines()[index].ips()[way.family], self.node_port())
            }
            _ => SocketAddr::new(self.addr(front, way.family), 80),
        }
    }

    /// Its objects: of type LoadBalancer, with these endpoints (and the index of the machine that each is on), and `more`
    /// in its `spec`.
    pub(super) fn objects(self, scene: &Scene, endpoints: &[(&Pod, usize)], more: &Value) -> Value {
        let ports = [Transport::Tcp, Transport::Udp].map(|transport| Port::new(transport, 80, TARGET));
        let addresses = [0, 1].map(|family| self.addr(Front::ClusterIp, family));
        let mut service = manifest::service(self.name, &addresses, &ports);
        let spec = service["spec"].as_object_mut().unwrap();
        spec.insert("type".into(), "LoadBalancer".into());
        spec.insert("externalIPs".into(), json!([0, 1].map(|family| self.addr(Front::ExternalIp, family))));
        for port in spec["ports"].as_array_mut().unwrap() {
            port["nodePort"] = self.node_port().into();
        }
        spec.extend(more.as_object().cloned().unwrap_or_default());
        let ingress = [0, 1].map(|family| json!({"ip": self.addr(Front::LoadBalancer, family)}));
        service["status"] = json!({"loadBalancer": {"ingress": ingress}});
        let slices = [0, 1].map(|family| {
            let ready: Vec<_> = endpoints.iter().map(|(pod, _)| Endpoint::ready(pod.ips()[family])).collect();
            let mut slice = slice(&format!("{}-{family}", self.name), self.name, &ports, &ready);
            for (endpoint, (_, machine)) in
                slice["endpoints"].as_array_mut().unwrap().iter_mut().zip(endpoints)
            {
                endpoint["nodeName"] = scene.network.machines()[*machine].name().into();
            }
            slice
        });
        let [v4, v6] = slices;
        list(&[service, v4, v6])
    }
}

impl Scene {
    /// Makes it, with an agent on each machine that has these `flags`.
    pub(super) fn new(name: &str, mode: Mode, flags: &[&str]) -> Self {
        let name = &format!("{name}-{mode:?}").to_lowercase();
        let manifests = lab().dir().join(name).join("manifests");
        fs::create_dir_all(&manifests).unwrap();
        let mut network = Network::new(lab(), name).unwrap();
        for number in [1, 2] {
            network.add(&format!("{name}{number}"), ("--manifests", manifests.clone())).unwrap();
        }
        let pod = |machine: usize, name: &str| network.machines()[machine].pod(name).unwrap();
        let (here, there) = (pod(0, "here"), pod(1, "there"));
        let pods = [pod(0, "pod"), pod(1, "pod")];
        serve(&here);
        serve(&there);
        let mut scene = Self { mode, network, agents: Vec::new(), manifests, here, there, pods };
        let [v4, v6] = scene.network.machines()[0].ips();
        let routes = format!("route add 192.0.2.0/24 via {v4}\nroute add fd02::/64 via {v6}\n");
        scene.network.outside().ip(&routes).unwrap();
        for machine in scene.network.machines() {
            scene.write(machine.name(), &manifest::node(machine.name(), &machine.ips()));
        }
        let flags = mode.flags(flags);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        scene.agents =
            scene.network.machines().iter().map(|machine| Agent::start(machine, &flags).unwrap()).collect();
        scene
    }

    /// The first machine.
    pub(super) fn first(&self) -> &Machine {
        &self.network.machines()[0]
    }

    /// What the agents have logged.
    pub(super) fn log(&self) -> String {
        self.agents.iter().map(Agent::log).collect()
    }

    /// Puts `object` into the folder that both agents read, at once as a whole.
    pub(super) fn write(&self, name: &str, object: &Value) {
        let temporary = self.manifests.join(format!(".{name}.new"));
        fs::write(&temporary, object.to_string()).unwrap();
        fs::rename(&temporary, self.manifests.join(format!("{name}.json"))).unwrap();
    }

    /// Writes `svc` and waits until both machines serve it with so many endpoints at all its places.
    pub(super) fn serve(&self, svc: Svc, endpoints: &[(&Pod, usize)], more: &Value) {
        self.write(svc.name, &svc.objects(self, endpoints, more));
        let local = more["externalTrafficPolicy"] == "Local";
        let ranges = more["loadBalancerSourceRanges"].as_array().map_or(0, Vec::len) / 2;
        for machine in self.network.machines() {
            let mut last = Value::Null;
            let programmed = |port: &Value| {
                port["endpoints"]["cluster"] == endpoints.len()
                    && port["addresses"].as_array().is_some_and(|all| all.len() == 3)
                    && (port["type"].as_str(), port["node_port"].as_u64())
                        == (Some("LoadBalancer"), Some(svc.node_port().into()))
                    && (port["external_policy"] == "Local") == local
                    // B44 may have added the address of the load balancer.
                    && (ranges..=ranges.saturating_mul(2)).contains(&port["source_ranges"].as_array().map_or(0, Vec::len))
            };
            wait_for(SOON, || {
                last = machine
                    .sluice_json(&["service", "show", &format!("default/{}", svc.name)])
                    .unwrap_or_default();
                last.as_array().is_some_and(|ports| ports.len() == 4 && ports.iter().all(programmed))
            })
            .unwrap_or_else(|error| panic!("{}: {error}: {last:#}\n{}", svc.name, self.log()));
        }
    }

    /// Everybody who may ask: name, where, addresses, and the index of the machine if it is one or a pod of one.
    pub(super) fn clients(&self) -> [Client<'_>; 6] {
        let [first, second] = self.network.machines() else { panic!("two machines") };
        let [pod1, pod2] = &self.pods;
        let client = |name, space, ips, machine, pod| Client { name, space, ips, machine, pod };
        [
            client("outside", self.network.outside(), Network::outside_ips(), None, false),
            client("pod", pod1, pod1.ips(), Some(0), true),
            client("the endpoint itself", &self.here, self.here.ips(), Some(0), true),
            client("pod of the other node", pod2, pod2.ips(), Some(1), true),
            client("node", first.host(), first.ips(), Some(0), false),
            client("other node", second.host(), second.ips(), Some(1), false),
        ]
    }

    /// Asks until each of `expected` has answered: pods, and the address that each has seen. Nothing else may happen.
    pub(super) fn answered(
        &self,
        client: &Client<'_>,
        (svc, front, way): (Svc, Front, Way),
        expected: &BTreeMap<&str, Vec<IpAddr>>,
    ) {
        let case = format!("--socket-lb {:?}: {} to {} {front:?}, {way:?}", self.mode, client.name, svc.name);
        let mut seen = BTreeSet::new();
        for _ in 0..16 {
            let answer = client.space.ask(way.socket, svc.at(self, front, way));
            let Answer { pod, client: from, .. } =
                answer.unwrap_or_else(|failure| panic!("{case}: {failure}"));
            let as_expected = expected.get(pod.as_str()).is_some_and(|all| all.contains(&from.ip()));
            assert!(as_expected, "{case}: {pod} answered {from}, expected is {expected:?}");
            seen.insert(pod);
            if seen.len() == expected.len() {
                return;
            }
        }
        panic!("{case}: only {seen:?} answered, expected is {expected:?}");
    }

    /// Asks once.
    pub(super) fn ask(&self, space: &Space, (svc, front, way): (Svc, Front, Way)) -> Result<Answer, Failure> {
        space.ask(way.socket, svc.at(self, front, way))
    }
}

/// Somebody who asks.
pub(super) struct Client<'s> {
    pub(super) name: &'static str,
    pub(super) space: &'s Space,
    pub(super) ips: [IpAddr; 2],
    pub(super) machine: Option<usize>,
    pub(super) pod: bool,
}
