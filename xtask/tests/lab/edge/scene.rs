//! Two nodes and clients on all sides of them, and Services that are reached from everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;
use xtask::lab::helper::wire::{Answer, Failure};
use xtask::lab::manifest;
use xtask::lab::{Agent, Machine, Network, Owned, Pod, Space, binary, wait_for};

use super::layout::Layout;
use super::service::{Front, Svc};
use crate::endpoints::READY;
use crate::support::{Mode, SOON, Way, lab, serve};

/// Where ClusterIPs are allocated.
const RANGES: &str = "10.96.0.0/16,fd00:10:96::/112";

/// Pods are told by their addresses.
pub(super) const DETECTOR: [&str; 2] = ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"];

/// What is the same for all that happens in a scene.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) mode: Mode,
    pub(super) layout: Layout,
    /// Whether pods are told from others.
    pub(super) detector: bool,
    /// Whether native XDP serves the uplinks.
    pub(super) xdp: bool,
}

impl Setting {
    /// The flags of its agents.
    fn flags(self) -> Vec<&'static str> {
        let detector: &[_] = if self.detector { &DETECTOR } else { &[] };
        let xdp: &[_] = if self.xdp { &[] } else { &["--xdp", "off"] };
        [&["--service-cluster-ip-range", RANGES], detector, xdp].concat()
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, layout, detector, xdp } = self;
        let detector = if *detector { "detector" } else { "no detector" };
        let xdp = if *xdp { "XDP" } else { "no XDP" };
        write!(f, "socket-lb {mode:?}, {layout:?}, {detector}, {xdp}")
    }
}

/// Two machines: a pod that serves on each, `here` and `there`, and one that only asks on each; and a client outside.
pub(super) struct Scene {
    /// They end before their namespaces.
    _tunnels: Vec<Owned>,
    pub(super) setting: Setting,
    pub(super) network: Network,
    agents: [Mutex<Option<Agent>>; 2],
    flags: Vec<String>,
    manifests: PathBuf,
    pub(super) here: Pod,
    pub(super) there: Pod,
    pub(super) pods: [Pod; 2],
    /// A pod of the first machine's network.
    host_pod: Space,
}

impl Scene {
    /// Makes it with pods that have interfaces and routes, and an agent on each machine that has these `flags`.
    pub(super) fn new(name: &str, mode: Mode, flags: &[&str]) -> Self {
        Self::with_xdp(name, mode, false, flags)
    }

    /// As [`Scene::new`], with native XDP at the uplinks if `xdp`.
    pub(super) fn with_xdp(name: &str, mode: Mode, xdp: bool, flags: &[&str]) -> Self {
        let setting = Setting { mode, layout: Layout::Routed, detector: flags.contains(&DETECTOR[0]), xdp };
        Self::made(&format!("{name}-{mode:?}-{}", u8::from(xdp)).to_lowercase(), setting, flags)
    }

    /// Makes it in this setting.
    pub(super) fn laid(name: &str, setting: Setting) -> Self {
        let Setting { mode, layout, detector, xdp } = setting;
        let name =
            format!("{name}-{mode:?}-{layout:?}-{}{}", u8::from(detector), u8::from(xdp)).to_lowercase();
        Self::made(&name, setting, &setting.flags())
    }

    fn made(name: &str, setting: Setting, flags: &[&str]) -> Self {
        let Setting { mode, layout, xdp, .. } = setting;
        let manifests = lab().dir().join(name).join("manifests");
        fs::create_dir_all(&manifests).unwrap();
        let mut network = Network::new(lab(), name).unwrap();
        for number in [1, 2] {
            network.add(&format!("{name}{number}"), ("--manifests", manifests.clone())).unwrap();
        }
        let tunnels = layout.connect(&network);
        let pod = |machine: usize, name: &str| layout.pod(&network.machines()[machine], name);
        let (here, there) = (pod(0, "here"), pod(1, "there"));
        let pods = [pod(0, "pod"), pod(1, "pod")];
        serve(&here);
        serve(&there);
        let first = &network.machines()[0];
        let host_pod = first.host().beside(&first.cgroup().join("host-pod")).unwrap();
        let flags = mode.flags(flags);
        let agents = [Mutex::default(), Mutex::default()];
        let scene = Self {
            setting,
            network,
            agents,
            flags,
            manifests,
            here,
            there,
            pods,
            host_pod,
            _tunnels: tunnels,
        };
        scene.network.route_outside(["192.0.2.0/24", "fd02::/64"], scene.first().ips()).unwrap();
        for machine in scene.network.machines() {
            scene.write(machine.name(), &manifest::node(machine.name(), &machine.ips()));
        }
        if xdp {
            scene.network.wire().unwrap();
        }
        for machine in [0, 1] {
            scene.start_agent(machine, &binary());
            let ways = scene.network.machines()[machine].sluice_json(&["status"]).unwrap()["xdp"].clone();
            assert_eq!(ways[0]["native"], xdp, "{ways}\n{}", scene.log());
        }
        scene
    }

    /// The first machine.
    pub(super) fn first(&self) -> &Machine {
        &self.network.machines()[0]
    }

    /// Starts the agent of the machine with this index, of the build whose binary is `program`.
    pub(super) fn start_agent(&self, machine: usize, program: &Path) {
        let flags: Vec<_> = self.flags.iter().map(String::as_str).collect();
        let agent = Agent::start_as(program, &self.network.machines()[machine], &flags).unwrap();
        *self.agents[machine].lock().unwrap() = Some(agent);
    }

    /// Takes the agent of the machine with this index, to end it.
    pub(super) fn take_agent(&self, machine: usize) -> Agent {
        self.agents[machine].lock().unwrap().take().unwrap()
    }

    /// What the agents have logged.
    pub(super) fn log(&self) -> String {
        let log = |agent: &Mutex<Option<Agent>>| agent.lock().ok()?.as_ref().map(Agent::log);
        self.agents.iter().filter_map(log).collect()
    }

    /// Waits until the uplink of the machine with this index works, or does not.
    pub(super) fn wait_link(&self, machine: usize, works: bool) {
        let host = self.network.machines()[machine].host();
        let is = || {
            let output = host.command("ip").args(["-j", "link", "show", "up0"]).output().unwrap();
            let links: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            (links[0]["operstate"] == "UP") == works
        };
        wait_for(SOON, is).unwrap();
    }

    /// Puts `object` into the folder that both agents read, at once as a whole.
    pub(super) fn write(&self, name: &str, object: &Value) {
        let temporary = self.manifests.join(format!(".{name}.new"));
        fs::write(&temporary, object.to_string()).unwrap();
        fs::rename(&temporary, self.manifests.join(format!("{name}.json"))).unwrap();
    }

    /// Writes `svc` and waits until both machines serve it with so many endpoints at all its places.
    pub(super) fn serve(&self, svc: Svc, endpoints: &[(&Pod, usize)], more: &Value) {
        self.serve_as(svc, (endpoints, READY, endpoints.len()), more);
    }

    /// As [`Scene::serve`], with endpoints in these conditions, of which so many may be chosen.
    pub(super) fn serve_as(
        &self,
        svc: Svc,
        (endpoints, conditions, usable): (&[(&Pod, usize)], [bool; 3], usize),
        more: &Value,
    ) {
        self.write(svc.name, &svc.objects(self, (endpoints, conditions), more));
        let local = more["externalTrafficPolicy"] == "Local";
        let ranges = more["loadBalancerSourceRanges"].as_array().map_or(0, Vec::len) / 2;
        for machine in self.network.machines() {
            let mut last = Value::Null;
            let programmed = |port: &Value| {
                port["endpoints"]["cluster"] == usable
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
    pub(super) fn clients(&self) -> [Client<'_>; 7] {
        let [first, second] = self.network.machines() else { panic!("two machines") };
        let [pod1, pod2] = &self.pods;
        let client = |name, space, ips, machine, pod| Client { name, space, ips, machine, pod };
        [
            client("outside", self.network.outside(), Network::outside_ips(), None, false),
            client("pod", pod1, pod1.ips(), Some(0), true),
            client("the endpoint itself", &self.here, self.here.ips(), Some(0), true),
            client("pod of the other node", pod2, pod2.ips(), Some(1), true),
            client("node", first.host(), first.ips(), Some(0), false),
            client("hostNetwork pod", &self.host_pod, first.ips(), Some(0), false),
            client("other node", second.host(), second.ips(), Some(1), false),
        ]
    }

    /// The addresses of one family that `client` may have where nobody masquerades it.
    pub(super) fn own(&self, client: &Client<'_>, family: usize) -> Vec<IpAddr> {
        let machine = client.machine.filter(|_| !client.pod).map(|index| &self.network.machines()[index]);
        let all = machine.map_or_else(|| vec![client.ips], |machine| self.setting.layout.ips(machine));
        all.into_iter().map(|ips| ips[family]).collect()
    }

    /// Asks until each of `expected` has answered: pods, and the addresses under which each may see the client.
    ///
    /// # Errors
    /// What happened instead.
    pub(super) fn answered(
        &self,
        client: &Client<'_>,
        (svc, front, way): (Svc, Front, Way),
        expected: &BTreeMap<&str, Vec<IpAddr>>,
    ) -> Result<(), String> {
        let case = format!("{}: {} to {} {front:?}, {way:?}", self.setting, client.name, svc.name);
        let mut seen = BTreeSet::new();
        for _ in 0..16 {
            let answer = client.space.ask(way.socket, svc.at(self, front, way));
            let Answer { pod, client: from, .. } = answer.map_err(|failure| format!("{case}: {failure}"))?;
            if !expected.get(pod.as_str()).is_some_and(|all| all.contains(&from.ip())) {
                return Err(format!("{case}: {pod} answered {from}, expected is {expected:?}"));
            }
            seen.insert(pod);
            if seen.len() == expected.len() {
                return Ok(());
            }
        }
        Err(format!("{case}: only {seen:?} answered, expected is {expected:?}"))
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
