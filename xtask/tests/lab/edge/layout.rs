//! How the pods of two machines are connected.

use std::net::IpAddr;

use xtask::lab::{Machine, Network, Owned, Pod, Space};

/// The ways that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// Each pod behind an interface of its own, with routes from machine to machine.
    Routed,
    /// The same, but that from machine to machine packets go through a VXLAN device.
    Vxlan,
    /// The same through a tunnel whose packets have no Ethernet header.
    Bare,
    /// Routes from machine to machine; the client outside comes to the first one through such a tunnel.
    Dialled,
    /// Both.
    Both,
    /// The pods of a machine on a bridge.
    Bridge,
}

impl Layout {
    /// Connects the machines, before they have pods. What has to go on for that is returned.
    pub(super) fn connect(self, network: &Network) -> Vec<Owned> {
        let [one, two] = network.machines() else { panic!("two machines") };
        let mut tunnels = Vec::new();
        if self.is_bare() {
            tunnels.push(tunnel("tun0", one.host(), two.host(), "1400"));
            for (own, other) in [(one, two), (two, one)] {
                let [v4, v6] = tunnel_ips(own);
                let to = |range| format!("route replace {range} dev tun0\n");
                let ways = other.pod_cidrs().map(to).concat();
                let own = own.host();
                own.ip(&format!("addr add {v4}/32 dev tun0\naddr add {v6}/128 dev tun0 nodad\n{ways}"))
                    .unwrap();
            }
        }
        if self.is_dialled() {
            let outside = network.outside();
            tunnels.push(tunnel("tun1", outside, one.host(), "1500"));
            for (asks, asked) in Network::outside_ips().into_iter().zip(one.ips()) {
                outside.ip(&format!("route replace {asked} dev tun1 src {asks}\n")).unwrap();
                one.host().ip(&format!("route replace {asks} dev tun1 src {asked}\n")).unwrap();
            }
            network.route_outside(Network::SERVICES, one.ips()).unwrap();
        }
        match self {
            Self::Routed | Self::Bare | Self::Dialled | Self::Both => {}
            Self::Vxlan => {
                for (own, other) in [(one, two), (two, one)] {
                    let (local, remote) = (own.ips()[0], other.ips()[0]);
                    let [v4, v6] = tunnel_ips(own);
                    let mut batch = format!(
                        "link add vxlan0 mtu 1450 type vxlan id 7 dstport 4789 local {local} remote {remote}\n\
                         link set vxlan0 up\naddr add {v4}/32 dev vxlan0\naddr add {v6}/128 dev vxlan0 nodad\n"
                    );
                    for (range, via) in other.pod_cidrs().iter().zip(tunnel_ips(other)) {
                        batch +=
                            &format!("route del {range}\nroute add {range} via {via} dev vxlan0 onlink\n");
                    }
                    own.host().ip(&batch).unwrap();
                }
            }
            Self::Bridge => {
                let to = |machine: &Machine| -> String {
                    let ways = machine.bridged_cidrs().into_iter().zip(machine.ips());
                    ways.map(|(range, via)| format!("route add {range} via {via}\n")).collect()
                };
                for machine in network.machines() {
                    machine.bridge().unwrap();
                }
                one.host().ip(&to(two)).unwrap();
                two.host().ip(&to(one)).unwrap();
                network.outside().ip(&(to(one) + &to(two))).unwrap();
            }
        }
        tunnels
    }

    /// Whether pods of the other machine are behind a tunnel whose packets have no Ethernet header.
    pub(super) fn is_bare(self) -> bool {
        matches!(self, Self::Bare | Self::Both)
    }

    /// Whether the client outside is behind one.
    fn is_dialled(self) -> bool {
        matches!(self, Self::Dialled | Self::Both)
    }

    /// The way of `machine` to pods of the other one, which is `other`, in this family.
    pub(super) fn way(self, other: &Machine, family: usize) -> String {
        if self.is_bare() { "dev tun0".to_owned() } else { format!("via {}", other.ips()[family]) }
    }

    /// Makes a pod of `machine`.
    pub(super) fn pod(self, machine: &Machine, name: &str) -> Pod {
        match self {
            Self::Bridge => machine.bridged_pod(name),
            _ => machine.pod(name),
        }
        .unwrap()
    }

    /// The addresses that `machine` has towards pods of the other one.
    pub(super) fn towards_pods(self, machine: &Machine) -> [IpAddr; 2] {
        if self == Self::Vxlan || self.is_bare() { tunnel_ips(machine) } else { machine.ips() }
    }

    /// All addresses that its own processes may have.
    pub(super) fn ips(self, machine: &Machine) -> Vec<[IpAddr; 2]> {
        let mut all = vec![machine.ips()];
        match self {
            Self::Routed | Self::Dialled => {}
            Self::Vxlan | Self::Bare | Self::Both => all.push(tunnel_ips(machine)),
            Self::Bridge => all.push(machine.bridge_ips()),
        }
        all
    }
}

/// Connects two spaces by an interface called `name` in each, for packets of at most `mtu` bytes.
fn tunnel(name: &str, one: &Space, two: &Space, mtu: &str) -> Owned {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/edge/tunnel.py");
    let mut command = one.command("python3");
    let tunnel = Owned::ready(command.args([script, one.netns(), name, two.netns(), name])).unwrap();
    for end in [one, two] {
        end.ip(&format!("link set {name} mtu {mtu} up\n")).unwrap();
    }
    tunnel
}

/// The addresses of the tunnel's end, which no pod has. Not the first of the range: to that, where its route has no gateway,
/// the kernel sends no ICMPv6 error, as it may be many nodes'.
fn tunnel_ips(machine: &Machine) -> [IpAddr; 2] {
    let [v4, v6] = machine.pod_cidrs();
    [v4.replace(".0/24", ".254"), v6.replace("/64", "fe")].map(|addr| addr.parse().unwrap())
}
