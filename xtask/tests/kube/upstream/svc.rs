//! A Service of a test: what the machines know of it, and who answers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;

use serde_json::Value;
use xtask::lab::Space;
use xtask::lab::helper::wire::{Failure, Socket};

use super::jig::{Jig, TARGETS, clients, node, patiently, spot};
use crate::support::cluster;

/// A Service, as the API server has answered last.
pub(super) struct Svc<'j> {
    pub(super) jig: &'j Jig,
    pub(super) name: String,
    pub(super) object: Value,
}

/// One of the places where a Service is reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    ClusterIp,
    /// At the machine with this index.
    NodePort(usize),
    /// At the first address of the family in its status.
    Balancer,
}

impl Svc<'_> {
    /// Its address of the family (0: IPv4).
    pub(super) fn ip(&self, family: usize) -> IpAddr {
        let all = self.object["spec"]["clusterIPs"].as_array().unwrap().iter();
        let mut all = all.map(|ip| ip.as_str().unwrap().parse::<IpAddr>().unwrap());
        all.find(|ip| ip.is_ipv6() == (family == 1)).unwrap()
    }

    /// Its families.
    pub(super) fn families(&self) -> Vec<usize> {
        let all = self.object["spec"]["ipFamilies"].as_array().unwrap();
        all.iter().map(|family| usize::from(family == "IPv6")).collect()
    }

    /// Where to reach a port of it.
    pub(super) fn at(&self, family: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(family), port)
    }

    /// The number of its first port at nodes, if it has one.
    pub(super) fn node_port(&self) -> Option<u16> {
        self.object["spec"]["ports"][0]["nodePort"].as_u64().map(|port| u16::try_from(port).unwrap())
    }

    /// Where its first port is reached.
    pub(super) fn to(&self, place: Place, family: usize) -> SocketAddr {
        let port = u16::try_from(self.object["spec"]["ports"][0]["port"].as_u64().unwrap()).unwrap();
        match place {
            Place::ClusterIp => self.at(family, port),
            Place::NodePort(index) => SocketAddr::new(node(index).ips()[family], self.node_port().unwrap()),
            Place::Balancer => {
                let mut all = self.object["status"]["loadBalancer"]["ingress"].as_array().unwrap().iter();
                let is = |ip: &IpAddr| ip.is_ipv6() == (family == 1);
                SocketAddr::new(all.find_map(|it| it["ip"].as_str()?.parse().ok().filter(is)).unwrap(), port)
            }
        }
    }

    /// Changes it by a merge patch.
    pub(super) fn update(&mut self, patch: &Value) {
        self.object = cluster().api().merge(&self.path(), patch).unwrap();
    }

    /// Deletes it.
    pub(super) fn delete(&self) {
        cluster().api().delete(&self.path()).unwrap();
    }

    pub(super) fn path(&self) -> String {
        self.jig.path("services", &self.name)
    }

    /// What `sluice service show` says on the machine `index`; `None` when that knows no such Service.
    pub(super) fn shown(&self, index: usize) -> Option<Value> {
        let name = format!("{}/{}", self.jig.namespace(), self.name);
        node(index).sluice_json(&["service", "show", &name]).ok()
    }

    /// Which endpoints of `port` may be chosen on the machine `index`.
    fn chosen(&self, index: usize, proto: &str, port: u16, family: usize) -> Option<BTreeSet<SocketAddr>> {
        let shown = self.shown(index)?;
        let name = if family == 1 { "IPv6" } else { "IPv4" };
        let is = |it: &&Value| it["proto"] == proto && it["port"] == port && it["family"] == name;
        let backends = shown.as_array()?.iter().find(is)?["backends"].as_array()?.iter();
        let selected = backends.filter(|backend| backend["selected"] == true);
        let endpoint = |it: &Value| {
            let port = u16::try_from(it["port"].as_u64()?).ok()?;
            Some(SocketAddr::new(it["address"].as_str()?.parse().ok()?, port))
        };
        selected.map(endpoint).collect()
    }

    /// Waits until the machine `index` chooses among exactly these endpoints of a port.
    pub(super) fn settled(
        &self,
        index: usize,
        proto: &str,
        port: u16,
        family: usize,
        wanted: &BTreeSet<SocketAddr>,
    ) {
        let mut last = None;
        patiently(|| {
            last = self.chosen(index, proto, port, family);
            last.as_ref() == Some(wanted)
        })
        .unwrap_or_else(|error| {
            panic!("{} {port}/{proto} on machine {index} {error}: {last:?}, not {wanted:?}", self.name)
        });
    }

    /// Waits until the machine `index` chooses among exactly `spots` for TCP port 80.
    pub(super) fn settle(&self, index: usize, spots: &[&str]) {
        self.port_settled(index, Socket::Tcp, 80, TARGETS[0], spots);
    }

    /// As [`Svc::settle`], for any port.
    pub(super) fn port_settled(&self, index: usize, socket: Socket, port: u16, target: u16, spots: &[&str]) {
        for family in self.families() {
            let addresses = spots.iter().map(|name| SocketAddr::new(spot(name).pod.ips()[family], target));
            self.settled(index, protocol(socket), port, family, &addresses.collect());
        }
    }

    /// Waits until the machine `index` knows no such port of it, and asserts that its pods and host are refused there.
    pub(super) fn no_port(&self, index: usize, socket: Socket, port: u16) {
        for family in self.families() {
            patiently(|| self.chosen(index, protocol(socket), port, family).is_none()).unwrap();
            for client in clients(index) {
                refused(client.ask(socket, self.at(family, port)));
            }
        }
    }

    /// Waits until no machine knows it.
    pub(super) fn gone(&self) {
        for index in 0..cluster().nodes().len() {
            patiently(|| self.shown(index).is_none()).unwrap();
        }
    }

    /// Waits until TCP port 80 leads to exactly `spots` from the machine `index`, and asks for all of them: as a pod and as
    /// the host, by each family that the Service has.
    pub(super) fn up(&self, index: usize, spots: &[&str]) {
        self.port_up(index, Socket::Tcp, 80, TARGETS[0], spots);
    }

    /// As [`Svc::up`], for any port.
    pub(super) fn port_up(&self, index: usize, socket: Socket, port: u16, target: u16, spots: &[&str]) {
        let suffix = if target == TARGETS[1] { ":2" } else { "" };
        let names: BTreeSet<_> = spots.iter().map(|name| format!("{name}{suffix}")).collect();
        self.port_settled(index, socket, port, target, spots);
        for family in self.families() {
            for client in clients(index) {
                reach(client, socket, self.at(family, port), &names);
            }
        }
    }

    /// Waits until no machine knows it, and asserts that pods and host of the machine `index` reach nobody at TCP port 80.
    pub(super) fn down(&self, index: usize) {
        self.gone();
        thread::scope(|scope| {
            for family in self.families() {
                for client in clients(index) {
                    let to = self.at(family, 80);
                    scope.spawn(move || {
                        assert_ne!(curl(client, to), ANSWERED, "{to} from {}", client.netns());
                    });
                }
            }
        });
    }

    /// Waits until the machine `index` has nobody to choose for TCP port 80, and asserts that its pods and host are refused.
    pub(super) fn refused(&self, index: usize) {
        for family in self.families() {
            self.settled(index, "TCP", 80, family, &BTreeSet::new());
            for client in clients(index) {
                refused(client.ask(Socket::Tcp, self.at(family, 80)));
            }
        }
    }
}

/// The protocol of a kind of socket.
fn protocol(socket: Socket) -> &'static str {
    if socket == Socket::Udp { "UDP" } else { "TCP" }
}

/// Asserts that the client was told at once that nobody listens.
pub(super) fn refused(asked: Result<impl std::fmt::Debug, Failure>) {
    let failure = asked.expect_err("nobody should answer");
    assert_eq!(failure.kind, "ConnectionRefused", "{failure}");
}

/// Asks `to` until each of `wanted` must have answered, and asserts that they and nobody else did.
pub(super) fn reach(client: &Space, socket: Socket, to: SocketAddr, wanted: &BTreeSet<String>) {
    let ask = |_| {
        client.ask(socket, to).unwrap_or_else(|failure| panic!("{to} from {}: {failure}", client.netns())).pod
    };
    // Round robin, beside nobody else: twice as many connections as there are endpoints.
    let answered: BTreeSet<_> = (0..2 * wanted.len()).map(ask).collect();
    assert_eq!(&answered, wanted, "{to} from {}", client.netns());
}

/// Exit codes of curl: answered, refused, and neither in time.
pub(super) const ANSWERED: i32 = 0;
pub(super) const SILENT: i32 = 28;

/// Asks `to` by HTTP from a process of its own, so that one who waits holds up nobody else.
pub(super) fn curl(client: &Space, to: SocketAddr) -> i32 {
    let mut curl = client.command("curl");
    let options = ["-q", "-s", "-o", "/dev/null", "--connect-timeout", "2", "--max-time", "30"];
    curl.args(options).arg(format!("http://{to}/")).status().unwrap().code().unwrap()
}
