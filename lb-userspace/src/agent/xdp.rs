//! XDP on uplinks, beside tc: native where the driver can, else tc works alone and says why.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;

use super::hooks::Attach;
use super::interfaces::{Interfaces, Named};
use crate::bpf::attach::AttachError;
use crate::bpf::hooks::program_name;
use crate::net::driver::{Drivers, xdp_features};
use crate::net::interface::{Framing, Interface};
use crate::net::watch::Network;
use crate::status;

/// XDP on the uplinks of the node.
pub(super) struct Xdp {
    on: bool,
    drivers: Option<Drivers>,
    interfaces: Interfaces,
    /// What drivers have refused, and what the interfaces were then: some reset their hardware before they refuse, so
    /// none is asked twice for the same.
    refused: BTreeMap<u32, (Uplink, Why)>,
    /// Where frames may be sent to from other uplinks.
    sends: BTreeSet<u32>,
    ways: Vec<status::Xdp>,
}

/// What is known of an uplink.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Uplink {
    interface: Interface,
    /// [`xdp_features`], where the kernel tells.
    features: Option<u64>,
    /// The name of a VLAN above it, if its driver takes the tags off.
    strips_tags_of: Option<String>,
}

/// Why tc works alone.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Why {
    /// `--xdp off`.
    Off,
    /// There are no frames.
    Bare,
    /// The driver has no native XDP.
    Unable,
    /// The other end of a veth pair loses what XDP sends.
    FarEnd,
    /// Tags are taken off for this VLAN.
    Tags(String),
    /// Another program is there: its name and id.
    Taken(String),
    /// The driver does not want to, as things are.
    Refused(String),
}

impl Xdp {
    /// `on`: `--xdp auto`; `interfaces` are of the class `Xdp`.
    pub(super) fn new(on: bool, interfaces: Interfaces) -> Self {
        // Without it less is known, and less done.
        let drivers = Drivers::open().ok();
        Self { on, drivers, interfaces, refused: BTreeMap::new(), sends: BTreeSet::new(), ways: Vec::new() }
    }

    /// As [`Interfaces::doubt`].
    pub(super) fn doubt(&mut self) {
        self.interfaces.doubt();
        self.sends.clear();
    }

    /// The uplinks that others may send frames out by: their drivers take them while they have a program.
    pub(super) fn sends(&self) -> &BTreeSet<u32> {
        &self.sends
    }

    /// How each uplink is served.
    pub(super) fn ways(&self) -> &[status::Xdp] {
        &self.ways
    }

    /// What is to have the program of `uplinks`, which have those of tc. From then on [`Xdp::sends`] has no others.
    pub(super) fn choose(&mut self, uplinks: &Named, network: &Network) -> Chosen {
        let known: BTreeMap<u32, Uplink> = uplinks
            .keys()
            .filter_map(|index| Some((*index, self.look(*index, network.interfaces.get(index)?, network))))
            .collect();
        self.refused.retain(|index, (uplink, _)| known.get(index) == Some(uplink));
        let (mut wanted, mut not) = (Named::new(), BTreeMap::new());
        for (index, uplink) in &known {
            let refused = self.refused.get(index).map(|(_, why)| why.clone());
            match self.forbids(uplink).or(refused) {
                Some(why) => drop(not.insert(*index, why)),
                None => drop(wanted.insert(*index, uplink.interface.name.clone())),
            }
        }
        self.sends.retain(|index| wanted.contains_key(index));
        Chosen { known, wanted, not }
    }

    /// Takes the program to where it is `chosen` for, and away from elsewhere; true if another call has more to do. `gone` as
    /// for [`Interfaces::follow`]. Blocks.
    pub(super) fn follow(&mut self, chosen: Chosen, gone: &BTreeSet<u32>, attach: &impl Attach) -> bool {
        let Chosen { known, wanted, mut not } = chosen;
        let more = self.interfaces.follow(&wanted, gone, attach);
        for (index, error) in self.interfaces.failures() {
            let Some(uplink) = known.get(&index) else { continue };
            let why = Why::of(error, uplink);
            // Another program may go at any time, and looking for that costs nothing.
            if !matches!(why, Why::Taken(_)) {
                self.refused.insert(index, (uplink.clone(), why.clone()));
            }
            not.insert(index, why);
        }
        let sends = |(index, uplink): (&u32, &Uplink)| {
            let serves = self.interfaces.serves(*index);
            (serves && uplink.has(xdp_features::SENDS)).then_some(*index)
        };
        self.sends = known.iter().filter_map(sends).collect();
        let way = |(index, uplink): (&u32, &Uplink)| match not.get(index) {
            Some(why) => Some(why.way(&uplink.interface)),
            None => self.interfaces.serves(*index).then(|| status::Xdp {
                interface: uplink.interface.name.clone(),
                native: true,
                ..status::Xdp::default()
            }),
        };
        let ways: Vec<_> = known.iter().filter_map(way).collect();
        for way in ways.iter().filter(|way| !self.ways.contains(way)) {
            info!("{way}");
        }
        self.ways = ways;
        more
    }

    fn look(&self, index: u32, interface: &Interface, network: &Network) -> Uplink {
        let vlan = network.interfaces.values().find(|vlan| vlan.vlan_of == Some(index));
        let strips = || self.drivers.as_ref().is_none_or(|drivers| drivers.strips_tags(index));
        Uplink {
            // Drivers that reset before they refuse take it down and up again, which is no news of it.
            interface: Interface { up: true, ..interface.clone() },
            features: self.drivers.as_ref().and_then(|drivers| drivers.xdp(index)),
            strips_tags_of: vlan.filter(|_| strips()).map(|vlan| vlan.name.clone()),
        }
    }

    /// What needs no attempt to be known.
    fn forbids(&self, uplink: &Uplink) -> Option<Why> {
        if !self.on {
            Some(Why::Off)
        } else if uplink.interface.framing == Framing::Bare {
            Some(Why::Bare)
        } else if uplink.features.is_some() && !uplink.has(xdp_features::BASIC) {
            Some(Why::Unable)
        } else if uplink.interface.veth && !uplink.has(xdp_features::SENDS) {
            Some(Why::FarEnd)
        } else {
            uplink.strips_tags_of.clone().map(Why::Tags)
        }
    }
}

/// Which uplinks are to have the program.
#[derive(Debug)]
pub(super) struct Chosen {
    known: BTreeMap<u32, Uplink>,
    wanted: Named,
    /// The others.
    not: BTreeMap<u32, Why>,
}

impl Uplink {
    fn has(&self, feature: u64) -> bool {
        self.features.unwrap_or_default() & feature != 0
    }
}

impl Why {
    fn of(error: &AttachError, uplink: &Uplink) -> Self {
        match (error.errno(), uplink.interface.xdp) {
            // EEXIST: in the other mode.
            (Some(libc::EBUSY | libc::EEXIST), Some(id)) => {
                Self::Taken(format!("{} (id {id})", program_name(id)))
            }
            (Some(libc::EOPNOTSUPP), _) if uplink.features.is_none() => Self::Unable,
            // Drivers too say EBUSY or EEXIST.
            _ => Self::Refused(error.to_string()),
        }
    }

    fn way(&self, interface: &Interface) -> status::Xdp {
        let name = &interface.name;
        let (why, remedy) = match self {
            Self::Bare => {
                let why = Some("its packets have no Ethernet header".to_owned());
                return status::Xdp { interface: name.clone(), native: false, why, remedy: None };
            }
            Self::Off => ("--xdp off".to_owned(), "--xdp auto".to_owned()),
            Self::Unable => (
                "its driver has no native XDP".to_owned(),
                format!("where that is too slow: another driver or device (`ethtool -i {name}` names this one)"),
            ),
            Self::FarEnd => (
                "the other end of this veth pair takes no frames from XDP, or the kernel does not tell (before 6.3)"
                    .to_owned(),
                "`ethtool -K OTHER-END gro on`, in its network namespace; and here its checksums must be complete: \
                 `ethtool -K OTHER-END tx off`"
                    .to_owned(),
            ),
            Self::Tags(vlan) => (
                format!("its driver takes VLAN tags off, so XDP would take packets of {vlan} for its own"),
                format!("`ethtool -K {name} rxvlan off`"),
            ),
            Self::Taken(program) => (
                format!("another XDP program is there: {program}"),
                format!("`ip link set dev {name} xdp off`, or end who attached it; Sluice follows by itself"),
            ),
            Self::Refused(error) => (
                format!("its driver refuses at MTU {}: {error}", interface.mtu),
                format!(
                    "`dmesg` may say why: mostly the MTU, large receive offload (`ethtool -K {name} lro off`) or too \
                     many channels (`ethtool -L`)"
                ),
            ),
        };
        status::Xdp { interface: name.clone(), native: false, why: Some(why), remedy: Some(remedy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::interfaces::tests::{Recorder, wanted};
    use crate::bpf::attach::Class;

    const CAN: Option<u64> = Some(xdp_features::BASIC | xdp_features::SENDS);

    fn xdp(on: bool) -> Xdp {
        Xdp { drivers: None, ..Xdp::new(on, Interfaces::new(Class::Xdp, BTreeSet::new())) }
    }

    fn uplink(name: &str, features: Option<u64>) -> Uplink {
        let interface = Interface { name: name.to_owned(), ..Interface::default() };
        Uplink { interface, features, strips_tags_of: None }
    }

    #[test]
    fn what_needs_no_attempt_is_known_beforehand() {
        let veth = |features| Uplink {
            interface: Interface { veth: true, ..Interface::default() },
            ..uplink("", features)
        };
        let mut bare = uplink("wg0", CAN);
        bare.interface.framing = Framing::Bare;
        let tags = Uplink { strips_tags_of: Some("eth0.7".to_owned()), ..uplink("eth0", CAN) };
        for (uplink, expected) in [
            (uplink("eth0", CAN), None),
            (uplink("eth0", None), None),
            (uplink("eth0", Some(xdp_features::BASIC)), None),
            (uplink("eth0", Some(0)), Some(Why::Unable)),
            (veth(CAN), None),
            (veth(Some(xdp_features::BASIC)), Some(Why::FarEnd)),
            (veth(None), Some(Why::FarEnd)),
            (bare, Some(Why::Bare)),
            (tags, Some(Why::Tags("eth0.7".to_owned()))),
        ] {
            assert_eq!(xdp(true).forbids(&uplink), expected, "{uplink:?}");
            assert_eq!(xdp(false).forbids(&uplink), Some(Why::Off));
        }
    }

    /// Follows with what is known of the interfaces given, as [`Xdp::choose`] does.
    fn follow(xdp: &mut Xdp, all: &[(u32, Uplink)], recorder: &Recorder) -> String {
        let mut network = Network::default();
        for (index, uplink) in all {
            network.interfaces.insert(*index, uplink.interface.clone());
        }
        let names: Vec<_> =
            all.iter().map(|(index, uplink)| (*index, uplink.interface.name.as_str())).collect();
        let mut chosen = xdp.choose(&wanted(&names), &network);
        for (index, uplink) in all {
            chosen.known.get_mut(index).unwrap().features = uplink.features;
        }
        xdp.follow(chosen, &BTreeSet::new(), recorder);
        recorder.take()
    }

    #[test]
    fn what_was_refused_is_not_tried_again_until_the_interface_is_another() {
        let (mut xdp, recorder) = (xdp(true), Recorder::default());
        let names = [(2, "eth-bad"), (3, "eth-taken"), (4, "eth1"), (5, "eth-taken-by-none")];
        let mut all = names.map(|(index, name)| (index, uplink(name, None)));
        all[1].1.interface.xdp = Some(u32::MAX);
        assert_eq!(follow(&mut xdp, &all, &recorder), "+2 +3 +4 +5");
        assert_eq!(follow(&mut xdp, &all, &recorder), "+3", "who has it may go");
        all[0].1.interface.up = true;
        assert_eq!(follow(&mut xdp, &all, &recorder), "+3", "its driver has reset it");
        all[0].1.interface.mtu = 1500;
        all[3].1.interface.xdp = Some(u32::MAX);
        assert_eq!(follow(&mut xdp, &all, &recorder), "+2 +3 +5");
        let ways: Vec<_> = xdp.ways().iter().map(ToString::to_string).collect();
        assert!(ways[0].starts_with("eth-bad: tc alone: its driver refuses at MTU 1500: "), "{ways:?}");
        assert!(ways[1].starts_with("eth-taken: tc alone: another XDP program is there: "), "{ways:?}");
        assert_eq!(ways[2], "eth1: native XDP");
    }

    #[test]
    fn an_uplink_is_sent_to_only_while_it_has_the_program() {
        let (mut xdp, recorder) = (xdp(true), Recorder::default());
        let all = [(3, uplink("eth0", CAN)), (4, uplink("eth1", Some(xdp_features::BASIC)))];
        follow(&mut xdp, &all, &recorder);
        assert_eq!(*xdp.sends(), BTreeSet::from([3]));
        let chosen = xdp.choose(&wanted(&[(4, "eth1")]), &Network::default());
        assert!(xdp.sends().is_empty(), "before the program is taken away");
        assert!(xdp.interfaces.serves(3));
        xdp.follow(chosen, &BTreeSet::new(), &recorder);
        assert!(!xdp.interfaces.serves(3));
    }
}
