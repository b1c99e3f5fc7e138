//! What each interface is: pods behind it, other nodes, or neither.

use std::collections::BTreeSet;
use std::net::IpAddr;

use glob::Pattern;
use lb_common::interface_flags::{BACK_BY_REDIRECT, BARE, FRAMES, LOCAL, OUTWARD, PODS};

use super::facts;
use super::interfaces::{Interfaces, Named};
use super::masquerade::{Flags, Leads};
use crate::net::interface::{Framing, Interface};
use crate::net::watch::Network;
use crate::status::Problem;

/// The flags that say what interfaces are.
#[derive(Debug)]
pub(super) struct Classes {
    pods: Vec<Pattern>,
    masquerade: Flags,
}

/// The interfaces that lead out of the node.
#[derive(Debug, Default)]
pub(super) struct Outward {
    /// Those that can be served.
    pub(super) served: Named,
    /// Those of them that are tunnels.
    pub(super) overlays: BTreeSet<u32>,
    /// Those that cannot.
    pub(super) problems: Vec<Problem>,
}

impl Classes {
    /// By `--pod-interfaces`, and the flags about masquerading.
    pub(super) fn new(pods: Vec<Pattern>, masquerade: Flags) -> Self {
        Self { pods, masquerade }
    }

    /// The flags about masquerading.
    pub(super) fn masquerade(&self) -> &Flags {
        &self.masquerade
    }

    fn is_pod_facing(&self, interface: &Interface) -> bool {
        let framed = interface.framing == Framing::Ethernet;
        !interface.inner && framed && self.pods.iter().any(|glob| glob.matches(&interface.name))
    }

    /// The interfaces that face pods.
    pub(super) fn pods(&self, network: &Network) -> Named {
        let facing = network.interfaces.iter().filter(|(_, interface)| self.is_pod_facing(interface));
        facing.map(|(index, interface)| (*index, interface.name.clone())).collect()
    }

    /// Uplinks and overlays. `node`: the addresses of the Node object.
    pub(super) fn outward(&self, network: &Network, node: &[IpAddr]) -> Outward {
        let mut outward = Outward::default();
        for (index, interface) in &network.interfaces {
            if self.is_pod_facing(interface) {
                continue;
            }
            let Some(leads) = self.masquerade.leads((*index, interface), network, node) else { continue };
            if interface.framing != Framing::Other {
                outward.served.insert(*index, interface.name.clone());
                if leads == Leads::Overlay {
                    outward.overlays.insert(*index);
                }
            } else {
                outward.problems.push(Problem::new(
                    format!("interface {}", interface.name),
                    "its packets begin neither with an Ethernet header nor with that of IP, so what comes by it reaches no \
                     Services, and what leaves by it is not masqueraded: clients outside have no answer from endpoints \
                     behind it; externalTrafficPolicy Local keeps to those of this node",
                ));
            }
        }
        outward
    }

    /// What the programs are told: of the interfaces with pods those that `pods` serves, or all in `coming`; and that
    /// `frames` may be sent to these.
    pub(super) fn facts(
        &self,
        network: &Network,
        (pods, outward): (&Interfaces, &Interfaces),
        frames: &BTreeSet<u32>,
        coming: &Named,
    ) -> facts::Told {
        let mut told = facts::Told::new();
        for (index, interface) in &network.interfaces {
            if pods.serves(*index) || coming.contains_key(index) {
                told.entry(*index).or_default().flags |= PODS;
                // Routes to pods on a bridge lead to the bridge.
                let master =
                    interface.master.and_then(|master| Some((master, network.interfaces.get(&master)?)));
                if let Some((index, _)) = master.filter(|(_, master)| master.bridge) {
                    told.entry(index).or_default().flags |= PODS;
                }
            }
            // What a former agent has attached works on.
            if outward.knows(*index) {
                let value = told.entry(*index).or_default();
                value.flags |= if interface.veth { OUTWARD | BACK_BY_REDIRECT } else { OUTWARD };
                value.flags |= if interface.framing == Framing::Bare { BARE } else { 0 };
                value.mac = interface.mac.unwrap_or_default();
            }
            // XDP of an aggregate runs where its parts receive.
            if interface.master.is_some_and(|master| outward.knows(master)) {
                told.entry(*index).or_default().mac = interface.mac.unwrap_or_default();
            }
            if frames.contains(index) {
                told.entry(*index).or_default().flags |= FRAMES;
            }
            if self.masquerade.is_local(interface, network) {
                told.entry(*index).or_default().flags |= LOCAL;
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lb_common::InterfaceValue;

    use super::*;
    use crate::agent::args::Args;
    use crate::bpf::attach::Class;
    use crate::net::watch::Routes;

    fn classes(flags: &str) -> Classes {
        Classes::new(vec![Pattern::new("veth*").unwrap()], Args::of(flags).unwrap().masquerade())
    }

    fn node() -> Network {
        let interface = |name: &str| Interface {
            name: name.to_owned(),
            framing: Framing::Ethernet,
            ..Interface::default()
        };
        let overlay = |name| Interface { overlay: true, ..interface(name) };
        let interfaces = [
            (1, Interface { inner: true, ..interface("lo") }),
            (2, interface("eth0")),
            (3, interface("eth1")),
            (4, overlay("flannel.1")),
            (5, Interface { framing: Framing::Bare, ..overlay("tunl0") }),
            (6, overlay("vxlan.idle")),
            (7, Interface { inner: true, bridge: true, ..interface("cni0") }),
            (8, Interface { master: Some(7), ..interface("veth1") }),
            (9, interface("veth2")),
            (10, Interface { framing: Framing::Bare, ..interface("tun0") }),
            (11, Interface { framing: Framing::Bare, ..interface("ppp0") }),
            (12, Interface { framing: Framing::Other, ..interface("ib0") }),
        ];
        Network {
            interfaces: interfaces.into(),
            places: [("192.0.2.3".parse().unwrap(), 3), ("127.0.0.1".parse().unwrap(), 1)].into(),
            routes: Routes {
                default: BTreeSet::from([2, 11, 12]),
                any: BTreeSet::from([2, 3, 4, 5, 10, 11, 12]),
            },
            ..Network::default()
        }
    }

    fn outward(flags: &str) -> (Vec<String>, Vec<String>) {
        let addresses = ["192.0.2.3", "127.0.0.1"].map(|addr| addr.parse().unwrap());
        let Outward { served, problems, .. } = classes(flags).outward(&node(), &addresses);
        (served.into_values().collect(), problems.into_iter().map(|problem| problem.object).collect())
    }

    #[test]
    fn uplinks_and_overlays_are_found_by_routes_and_addresses() {
        let (served, problems) = outward("");
        assert_eq!(served, ["eth0", "eth1", "flannel.1", "tunl0", "tun0", "ppp0"]);
        assert_eq!(problems, ["interface ib0"]);
        let addresses = [];
        let Outward { overlays, .. } = classes("").outward(&node(), &addresses);
        assert_eq!(overlays, BTreeSet::from([4, 5, 10]), "a link with the default route is an uplink");
    }

    #[test]
    fn flags_name_uplinks_and_overlays_instead() {
        let (served, problems) = outward("--uplinks eth1,veth2 --overlays vx*");
        assert_eq!(served, ["eth1", "vxlan.idle"], "interfaces of pods stay those");
        assert!(problems.is_empty());
    }

    #[test]
    fn programs_learn_how_frames_of_an_uplink_are_addressed_and_sent_back() {
        let mac = [2, 0, 0, 0, 0, 7];
        let interface = Interface {
            name: "eth0".to_owned(),
            framing: Framing::Ethernet,
            mac: Some(mac),
            ..Interface::default()
        };
        let part = Interface { master: Some(4), ..interface.clone() };
        let interfaces = [
            (2, interface.clone()),
            (3, Interface { veth: true, ..interface.clone() }),
            (4, interface),
            (5, part.clone()),
            (6, Interface { master: Some(7), ..part }),
        ];
        let network = Network { interfaces: interfaces.into(), ..Network::default() };
        // The programs of a former agent work on.
        let known = |class, indices: &[u32]| Interfaces::new(class, indices.iter().copied().collect());
        let (pods, out) = (known(Class::Pods, &[]), known(Class::Outward, &[2, 3, 4]));
        let told = classes("").facts(&network, (&pods, &out), &BTreeSet::new(), &Named::new());
        let value = |flags| InterfaceValue { flags, mac, pad: [0; 2] };
        let expected =
            [(2, value(OUTWARD)), (3, value(OUTWARD | BACK_BY_REDIRECT)), (4, value(OUTWARD)), (5, value(0))];
        assert_eq!(told, expected.into());
    }

    #[test]
    fn b80_programs_learn_what_is_behind_interfaces() {
        let none = |class| Interfaces::new(class, BTreeSet::new());
        let (pods, out) = (none(Class::Pods), none(Class::Outward));
        let network = node();
        let told = |flags: &str| {
            let classes = classes(flags);
            let told = classes.facts(&network, (&pods, &out), &BTreeSet::from([2]), &classes.pods(&network));
            told.into_iter().map(|(index, value)| (index, value.flags)).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(told(""), [(2, FRAMES), (7, PODS), (8, PODS), (9, PODS)].into());
        let bridge = told("--detect-local-mode BridgeInterface --pod-bridge-interface cni0");
        assert_eq!(bridge, [(2, FRAMES), (7, PODS | LOCAL), (8, PODS | LOCAL), (9, PODS)].into());
        let prefix = told("--detect-local-mode InterfaceNamePrefix --pod-interface-name-prefix veth");
        assert_eq!(
            prefix,
            [(2, FRAMES), (7, PODS), (8, PODS), (9, PODS | LOCAL)].into(),
            "a port is seen as its bridge"
        );
    }
}
