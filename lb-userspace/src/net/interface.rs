//! What the kernel says of an interface.

use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};

/// The interface of kube-proxy's ipvs mode.
const IPVS: &str = "kube-ipvs0";

/// How packets begin at an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// With an Ethernet header.
    Ethernet,
    /// With their network header: nothing is in front of it.
    Bare,
    /// In another way.
    #[default]
    Other,
}

impl Framing {
    fn of(link: &LinkMessage) -> Self {
        match link.header.link_layer_type {
            LinkLayerType::Ether => Self::Ethernet,
            LinkLayerType::None
            | LinkLayerType::Tunnel
            | LinkLayerType::Tunnel6
            | LinkLayerType::Sit
            | LinkLayerType::Ppp
            | LinkLayerType::Rawip => Self::Bare,
            // Without one other end they show programs the header that they put around a packet.
            LinkLayerType::Ipgre | LinkLayerType::Ip6gre
                if link.header.flags & (LinkFlags::Pointopoint | LinkFlags::Broadcast)
                    == LinkFlags::Pointopoint =>
            {
                Self::Bare
            }
            _ => Self::Other,
        }
    }
}

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is a bridge or the loopback, behind which there are no pods.
    pub inner: bool,
    /// Whether it is a bridge.
    pub bridge: bool,
    /// Whether it is one end of a pair, as pods mostly have it.
    pub veth: bool,
    /// Whether it is one end of such a pair whose other end is in another network namespace.
    pub peer_elsewhere: bool,
    /// Whether it is a tunnel as network plugins lay them between nodes: VXLAN, Geneve, WireGuard, IP in IP, GRE.
    pub overlay: bool,
    /// How its packets begin.
    pub framing: Framing,
    /// Its hardware address, where that is one of Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Index of the interface that it is a port of.
    pub master: Option<u32>,
    /// Whether packets can pass: it is up, and so is its other end, or there is a carrier.
    pub up: bool,
    /// Of a VLAN of another interface: the index of that.
    pub vlan_of: Option<u32>,
    /// Longest packet, bytes.
    pub mtu: u32,
    /// Id of the XDP program that is attached to it, ours or another, in whatever mode.
    pub xdp: Option<u32>,
}

fn name(link: &LinkMessage) -> Option<&String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })
}

impl Interface {
    /// What `link` says; `None` if it names none.
    pub(super) fn of(link: &LinkMessage) -> Option<Self> {
        let mut interface = Self {
            name: name(link)?.clone(),
            up: is_up(link),
            inner: link.header.flags.contains(LinkFlags::Loopback),
            framing: Framing::of(link),
            ..Self::default()
        };
        let (mut vlan, mut below, mut elsewhere) = (false, None, false);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::LinkInfo(infos) => {
                    let kinds = infos.iter().filter_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                    for kind in kinds {
                        vlan |= *kind == InfoKind::Vlan;
                        interface.is(kind);
                    }
                }
                LinkAttribute::Controller(index) => interface.master = Some(*index),
                LinkAttribute::Link(index) => below = Some(*index),
                // The kernel names a namespace only if it is another one.
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::Address(address) => interface.mac = address.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
                LinkAttribute::Xdp(facts) => {
                    interface.xdp = facts.iter().find_map(|fact| match fact {
                        LinkXdp::ProgId(id) => Some(*id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        interface.vlan_of = below.filter(|_| vlan);
        interface.peer_elsewhere = interface.veth && elsewhere;
        Some(interface)
    }

    fn is(&mut self, kind: &InfoKind) {
        match kind {
            InfoKind::Bridge => (self.bridge, self.inner) = (true, true),
            InfoKind::Veth => self.veth = true,
            InfoKind::Vxlan
            | InfoKind::Geneve
            | InfoKind::Wireguard
            | InfoKind::IpIp
            | InfoKind::Ip6Tnl
            | InfoKind::SitTun
            | InfoKind::GreTun
            | InfoKind::GreTun6 => self.overlay = true,
            _ => {}
        }
    }
}

/// Whether packets can pass.
pub(super) fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}

/// Whether the addresses of this interface keep packets from Services.
pub(super) fn holds(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up) && name(link).is_some_and(|name| name != IPVS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, flags: LinkFlags, kind: Option<InfoKind>) -> Option<Interface> {
        let mut message = LinkMessage::default();
        message.header.flags = flags;
        message.attributes.push(LinkAttribute::IfName(name.into()));
        if let Some(kind) = kind {
            let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
            message.attributes.push(info);
        }
        Interface::of(&message)
    }

    #[test]
    fn bridges_and_the_loopback_have_no_pods_behind_them() {
        assert!(link("lo", LinkFlags::Loopback, None).unwrap().inner);
        assert!(link("cni0", LinkFlags::Up, Some(InfoKind::Bridge)).unwrap().inner);
        let veth = link("veth1", LinkFlags::Up, Some(InfoKind::Veth)).unwrap();
        assert_eq!((veth.name.as_str(), veth.inner), ("veth1", false));
        assert_eq!(Interface::of(&LinkMessage::default()), None);
    }

    #[test]
    fn packets_begin_with_what_the_kind_of_link_says() {
        let of = |kind, flags| {
            let mut message = LinkMessage::default();
            (message.header.link_layer_type, message.header.flags) = (kind, flags);
            Framing::of(&message)
        };
        let (none, one) = (LinkFlags::empty(), LinkFlags::Pointopoint);
        for (kind, flags, expected) in [
            (LinkLayerType::Ether, none, Framing::Ethernet),
            (LinkLayerType::None, one, Framing::Bare),
            (LinkLayerType::Tunnel, none, Framing::Bare),
            (LinkLayerType::Ipgre, one, Framing::Bare),
            (LinkLayerType::Ipgre, none, Framing::Other),
            (LinkLayerType::Ip6gre, one | LinkFlags::Broadcast, Framing::Other),
            (LinkLayerType::Infiniband, none, Framing::Other),
        ] {
            assert_eq!(of(kind, flags), expected, "{kind}, {flags:?}");
        }
    }

    #[test]
    fn what_interfaces_that_are_up_have_is_held_whatever_its_kind() {
        let holder = |name: &str, flags| {
            let mut message = LinkMessage::default();
            message.header.flags = flags;
            message.attributes.push(LinkAttribute::IfName(name.into()));
            holds(&message)
        };
        assert!(holder("lo", LinkFlags::Loopback | LinkFlags::Up));
        assert!(!holder("nodelocaldns", LinkFlags::empty()));
        assert!(!holder("kube-ipvs0", LinkFlags::Up));
    }

    #[test]
    fn a_vlan_names_the_interface_below_it_and_a_veth_its_other_end() {
        let of = |kind| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName("x".into()),
                LinkAttribute::Link(7),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
                LinkAttribute::Xdp(vec![LinkXdp::ProgId(9)]),
            ];
            Interface::of(&message).unwrap()
        };
        assert_eq!(of(InfoKind::Vlan).vlan_of, Some(7));
        assert_eq!((of(InfoKind::Veth).vlan_of, of(InfoKind::Veth).xdp), (None, Some(9)));
    }
}
