//! What the tests share: one run, a node for each `--socket-lb` mode with pods, and Services in its manifests.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;
use xtask::lab::helper::wire::{Answer, Failure, Socket, Transport};
use xtask::lab::manifest::{Endpoint, Port, list, service, slice};
use xtask::lab::{Agent, Lab, Node, Pod, Space, wait_for};

/// The port at which backends serve.
pub(crate) const TARGET: u16 = 8000;

/// How soon a change of the manifests has to be in effect. Programming one takes milliseconds; the rest is for a busy
/// machine.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// Tables that are made quickly.
pub(crate) const SMALL: &[&str] = &["--max-flows", "65536"];

/// The run of this test binary. Its reaper removes it when the binary ends.
pub(crate) fn lab() -> &'static Arc<Lab> {
    static LAB: OnceLock<Arc<Lab>> = OnceLock::new();
    LAB.get_or_init(|| Lab::start(env!("CARGO_BIN_EXE_xtask")).unwrap())
}

/// Whether the long tests are wanted as well.
pub(crate) fn long() -> bool {
    std::env::var_os("SLUICE_TEST_LONG").is_some()
}

/// Serves both protocols in `pod` at [`TARGET`], under its name.
pub(crate) fn serve(pod: &Pod) {
    for transport in [Transport::Tcp, Transport::Udp] {
        pod.serve(transport, TARGET, pod.name()).unwrap();
    }
}

/// One way to ask: a kind of socket and a family (0: IPv4, 1: IPv6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    pub(crate) socket: Socket,
    pub(crate) family: usize,
}

/// {TCP, UDP} × {IPv4, IPv6}.
pub(crate) const WAYS: [Way; 4] = [
    Way { socket: Socket::Tcp, family: 0 },
    Way { socket: Socket::Udp, family: 0 },
    Way { socket: Socket::Tcp, family: 1 },
    Way { socket: Socket::Udp, family: 1 },
];

/// Mode of `--socket-lb`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    All,
    Host,
}

impl Mode {
    /// The agent's flags: those of the mode, `given`, and small tables unless their size is given.
    pub(crate) fn flags(self, given: &[&str]) -> Vec<String> {
        let mode = match self {
            Self::All => "all",
            Self::Host => "host",
        };
        let sizes = if given.contains(&SMALL[0]) { &[] } else { SMALL };
        [&["--socket-lb", mode], sizes, given].concat().into_iter().map(str::to_owned).collect()
    }
}

/// A node with an agent and pods that serve: `a`, `b` and `c` of this node, `remote` of another one.
pub(crate) struct World {
    pub(crate) mode: Mode,
    pub(crate) node: Node,
    pub(crate) agent: Mutex<Option<Agent>>,
    flags: Vec<String>,
    pub(crate) client: Pod,
    pub(crate) a: Pod,
    pub(crate) b: Pod,
    pub(crate) c: Pod,
    pub(crate) remote: Pod,
    services: AtomicU8,
}

impl World {
    pub(crate) fn new(name: &str, mode: Mode, flags: &[&str]) -> Self {
        let node = Node::new(lab(), name).unwrap();
        let pod = |name| {
            let pod = node.pod(name).unwrap();
            serve(&pod);
            pod
        };
        let (client, a, b, c) = (node.pod("client").unwrap(), pod("a"), pod("b"), pod("c"));
        let remote = node.remote_pod("remote").unwrap();
        serve(&remote);
        let world = Self {
            mode,
            node,
            agent: Mutex::new(None),
            flags: mode.flags(flags),
            client,
            a,
            b,
            c,
            remote,
            services: AtomicU8::new(1),
        };
        world.start_agent();
        world
    }

    /// Starts the agent with the world's flags and waits until it is ready.
    pub(crate) fn start_agent(&self) {
        let flags: Vec<_> = self.flags.iter().map(String::as_str).collect();
        *self.agent.lock().unwrap() = Some(Agent::start(&self.node, &flags).unwrap());
    }

    /// Takes the running agent, to end it.
    pub(crate) fn take_agent(&self) -> Agent {
        self.agent.lock().unwrap().take().unwrap()
    }

    /// What the agent has logged.
    pub(crate) fn log(&self) -> String {
        self.agent.lock().unwrap().as_ref().map(Agent::log).unwrap_or_default()
    }

    /// Those who may be clients of a Service.
    pub(crate) fn clients(&self) -> [(&'static str, &Space, [IpAddr; 2]); 2] {
        [("pod", &self.client, self.client.ips()), ("host", self.node.host(), Node::addresses())]
    }

    /// Runs `check` for both clients and all ways.
    pub(crate) fn everywhere(&self, mut check: impl FnMut(&Case<'_>, &Space, Way)) {
        for (name, client, _) in self.clients() {
            for way in WAYS {
                check(&Case(self, name, way), client, way);
            }
        }
    }

    /// Has `remote` behind an interface `plain0` that is neither a pod's nor an uplink.
    pub(crate) fn lead_astray(&self) {
        let [v4, _] = self.remote.ips();
        let batch = format!(
            "link add plain0 type veth peer name far0\nlink set plain0 up\nlink set far0 up\nroute add {v4}/32 dev plain0\n"
        );
        self.node.host().ip(&batch).unwrap();
    }

    /// Addresses that no Service of this world has had.
    pub(crate) fn new_addresses(&self) -> [IpAddr; 2] {
        let last = self.services.fetch_add(1, Ordering::Relaxed);
        [
            Ipv4Addr::new(10, 96, 1, last).into(),
            Ipv6Addr::new(0xfd00, 0x10, 0x96, 1, 0, 0, 0, last.into()).into(),
        ]
    }

    /// Makes a Service with TCP and UDP port 80 and these backends, and waits until it is programmed.
    pub(crate) fn service(&self, name: &str, backends: &[&Pod]) -> Svc<'_> {
        let ports = vec![Port::new(Transport::Tcp, 80, TARGET), Port::new(Transport::Udp, 80, TARGET)];
        let service = Svc { world: self, name: name.to_owned(), addresses: self.new_addresses(), ports };
        service.set(backends);
        service
    }
}

/// The nodes that most tests share, one for each mode.
pub(crate) fn worlds() -> [&'static World; 2] {
    static ALL: OnceLock<World> = OnceLock::new();
    static HOST: OnceLock<World> = OnceLock::new();
    [
        ALL.get_or_init(|| World::new("all", Mode::All, &[])),
        HOST.get_or_init(|| World::new("host", Mode::Host, &[])),
    ]
}

/// A port of a Service as it is shown: number, protocol, family, and the endpoints that may be chosen.
type Shown = (u16, String, usize, BTreeSet<String>);

/// A Service in the manifests of a world, IPv4 and IPv6. Its file is removed on drop.
pub(crate) struct Svc<'w> {
    pub(crate) world: &'w World,
    pub(crate) name: String,
    pub(crate) addresses: [IpAddr; 2],
    pub(crate) ports: Vec<Port>,
}

impl Svc<'_> {
    /// Port 80 of the Service in the way's family.
    pub(crate) fn at(&self, way: Way) -> SocketAddr {
        SocketAddr::new(self.addresses[way.family], 80)
    }

    /// Asks port 80 from `client`.
    pub(crate) fn ask(&self, client: &Space, way: Way) -> Result<Answer, Failure> {
        client.ask(way.socket, self.at(way))
    }

    /// Writes the Service with `backends` as its ready endpoints, and waits until it is programmed.
    pub(crate) fn set(&self, backends: &[&Pod]) {
        self.write(&self.slices(backends));
        self.wait(backends);
    }

    /// EndpointSlices of both families with `backends` as ready endpoints.
    pub(crate) fn slices(&self, backends: &[&Pod]) -> [Value; 2] {
        [0, 1].map(|family| {
            let endpoints: Vec<_> = backends.iter().map(|pod| Endpoint::ready(pod.ips()[family])).collect();
            slice(&format!("{}-{family}", self.name), &self.name, &self.ports, &endpoints)
        })
    }

    /// Writes the Service with these EndpointSlices.
    pub(crate) fn write(&self, slices: &[Value]) {
        let mut items = vec![service(&self.name, &self.addresses, &self.ports)];
        items.extend_from_slice(slices);
        self.world.node.write(&self.file(), &list(&items)).unwrap();
    }

    pub(crate) fn file(&self) -> String {
        format!("{}.json", self.name)
    }

    /// Waits until new connections to every port may choose exactly `backends`.
    pub(crate) fn wait(&self, backends: &[&Pod]) {
        let mut expected = BTreeSet::new();
        for port in &self.ports {
            let proto = format!("{:?}", port.transport).to_uppercase();
            for family in [0, 1] {
                let of_port =
                    backends.iter().map(|pod| SocketAddr::new(pod.ips()[family], port.target).to_string());
                expected.insert((port.port, proto.clone(), family, of_port.collect::<BTreeSet<_>>()));
            }
        }
        let mut last = None;
        wait_for(SOON, || {
            last = self.shown();
            last.as_ref() == Some(&expected)
        })
        .unwrap_or_else(|error| {
            panic!("{} {error}: is {last:#?}, should be {expected:#?}\n{}", self.name, self.world.log())
        });
    }

    /// What `sluice service show` says of it.
    fn shown(&self) -> Option<BTreeSet<Shown>> {
        let shown =
            self.world.node.sluice_json(&["service", "show", &format!("default/{}", self.name)]).ok()?;
        let ports = shown.as_array()?.iter().map(|port| {
            let backends = port["backends"].as_array()?.iter().filter(|backend| backend["selected"] == true);
            let endpoint = |backend: &Value| {
                let addr: IpAddr = backend["address"].as_str()?.parse().ok()?;
                Some(SocketAddr::new(addr, u16::try_from(backend["port"].as_u64()?).ok()?).to_string())
            };
            Some((
                u16::try_from(port["port"].as_u64()?).ok()?,
                port["proto"].as_str()?.to_owned(),
                usize::from(port["family"] == "IPv6"),
                backends.map(endpoint).collect::<Option<_>>()?,
            ))
        });
        ports.collect()
    }

    /// Deletes it, and waits until it is gone.
    pub(crate) fn delete(&self) {
        self.world.node.remove(&self.file()).unwrap();
        wait_for(SOON, || self.shown().is_none()).unwrap();
    }
}

impl Drop for Svc<'_> {
    fn drop(&mut self) {
        // A test may have removed it already.
        let _ = self.world.node.remove(&self.file());
    }
}

/// Who is asking whom how, for the message of a test that fails.
pub(crate) struct Case<'a>(pub(crate) &'a World, pub(crate) &'a str, pub(crate) Way);

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(world, client, way) = self;
        let family = if way.family == 0 { "IPv4" } else { "IPv6" };
        write!(f, "--socket-lb {:?}, {client}, {:?} {family}", world.mode, way.socket)
    }
}

impl Case<'_> {
    /// The pod that answered and the client that it saw.
    pub(crate) fn answered(&self, result: Result<Answer, Failure>) -> (String, IpAddr) {
        match result {
            Ok(answer) => (answer.pod, answer.client.ip()),
            Err(failure) => panic!("{self}: {failure}"),
        }
    }

    /// Asserts that `pod` answered.
    pub(crate) fn answered_by(&self, pod: &str, result: Result<Answer, Failure>) {
        assert_eq!(self.answered(result).0, pod, "{self}");
    }

    /// Asserts that nobody answered and the client was told so at once.
    pub(crate) fn refused(&self, result: Result<Answer, Failure>) {
        match result {
            Err(failure) if failure.refused_at_once() => {}
            Err(failure) => panic!("{self}: not refused at once: {failure}"),
            Ok(answer) => panic!("{self}: {} answered", answer.pod),
        }
    }
}
