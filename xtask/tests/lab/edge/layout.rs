//! How the pods of two machines are connected.

use std::net::IpAddr;

use xtask::lab::{Machine, Network, Pod};

/// The ways that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// Each pod behind an interface of its own, with routes from machine to machine.
    Routed,
    /// The same, but that from machine to machine packets go through a VXLAN device.
    Vxlan,
    /// The pods of a machine on a bridge.
    Bridge,
}

impl Layout {
    /// Connects the machines, before they have pods.
    pub(super) fn connect(self, network: &Network) {
        let [one, two] = network.machines() else { panic!("two machines") };
        match self {
            Self::Routed => {}
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
    }

    /// Makes a pod of `machine`.
    pub(super) fn pod(self, machine: &Machine, name: &str) -> Pod {
        match self {
            Self::Routed | Self::Vxlan => machine.pod(name),
            Self::Bridge => machine.bridged_pod(name),
        }
        .unwrap()
    }

    /// The addresses that `machine` has towards pods of the other one.
    pub(super) fn towards_pods(self, machine: &Machine) -> [IpAddr; 2] {
        if self == Self::Vxlan { tunnel_ips(machine) } else { machine.ips() }
    }

    /// All addresses that its own processes may have.
    pub(super) fn ips(self, machine: &Machine) -> Vec<[IpAddr; 2]> {
        let mut all = vec![machine.ips()];
        match self {
            Self::Routed => {}
            Self::Vxlan => all.push(tunnel_ips(machine)),
            Self::Bridge => all.push(machine.bridge_ips()),
        }
        all
    }
}

/// The first of the addresses of its pods is that of the tunnel's end.
fn tunnel_ips(machine: &Machine) -> [IpAddr; 2] {
    machine.pod_cidrs().map(|range| range.split('/').next().unwrap().parse().unwrap())
}
