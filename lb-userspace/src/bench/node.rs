//! A node in a namespace of its own: addresses, interfaces, routes.

use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;
use lb_bench::target;
use lb_common::{InterfaceValue, interface_flags};
use rtnetlink::Error::NetlinkError;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use super::frame::nth;

/// Names of the uplink and of the interface of a pod.
const UPLINK: &str = "slb-uplink";
/// See there.
const POD: &str = "slb-pod";

/// The Ethernet address of whoever is behind an interface.
pub(super) const BEHIND: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Addresses of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// ClusterIPs, from the first on.
    pub(super) services: IpAddr,
    /// The range that they are from.
    pub(super) range: (IpAddr, u8),
    /// Pods of other nodes, from the first on.
    pub(super) backends: IpAddr,
    /// Where those are routed.
    pub(super) away: (IpAddr, u8),
    /// Clients in pods, from the first on.
    pub(super) pods: IpAddr,
    /// The range that they are from.
    pub(super) within: (IpAddr, u8),
    /// Clients outside, from the first on.
    pub(super) outside: IpAddr,
    /// Where those are routed.
    pub(super) beyond: (IpAddr, u8),
    /// The node's own address.
    pub(super) node: IpAddr,
    /// Of how many bits its network is.
    pub(super) bits: u8,
    /// The next hop to everybody else.
    pub(super) gateway: IpAddr,
}

impl Plan {
    /// The addresses of IPv4, or those of IPv6. Nobody outside ever meets them.
    ///
    /// But for the socket hooks of an agent of this node, which see every `connect()`: Services and backends have addresses
    /// that no cluster allocates, of class E, and those to be discarded (RFC 6666, RFC 9780).
    pub(super) fn of(v6: bool) -> Self {
        if v6 {
            let at = |[a, b, c, d]: [u16; 4], host| IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, host));
            Self {
                services: at([0x100, 0, 0, 0], 1),
                range: (at([0x100, 0, 0, 0], 0), 108),
                backends: at([0x100, 0, 0, 1], 1),
                away: (at([0x100, 0, 0, 1], 0), 64),
                pods: at([0xfd00, 0x244, 0, 0], 1),
                within: (at([0xfd00, 0x244, 0, 0], 0), 64),
                outside: at([0x2001, 2, 0, 0], 1),
                beyond: (at([0x2001, 2, 0, 0], 0), 48),
                node: at([0x2001, 0xdb8, 0, 0], 1),
                bits: 64,
                gateway: at([0x2001, 0xdb8, 0, 0], 254),
            }
        } else {
            let at = |[a, b, c, d]: [u8; 4]| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
            Self {
                services: at([240, 0, 0, 1]),
                range: (at([240, 0, 0, 0]), 8),
                backends: IpAddr::V4(target::ENDPOINT),
                away: (at([241, 0, 0, 0]), 8),
                pods: at([10, 128, 0, 1]),
                within: (at([10, 128, 0, 0]), 9),
                outside: at([198, 18, 0, 1]),
                beyond: (at([198, 18, 0, 0]), 15),
                node: IpAddr::V4(target::NODE),
                bits: 24,
                gateway: at([192, 0, 2, 254]),
            }
        }
    }

    /// Bits of an address.
    pub(super) const fn width(&self) -> u8 {
        if self.node.is_ipv4() { 32 } else { 128 }
    }

    /// An address that nobody knows.
    pub(super) fn stranger(&self) -> IpAddr {
        nth(self.node, 9)
    }
}

/// The node's interfaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interfaces {
    /// The uplink's index.
    pub(super) uplink: u32,
    /// That of its far end.
    pub(super) far: u32,
    /// The uplink's Ethernet address.
    pub(super) mac: [u8; 6],
    /// That of the interface of a pod.
    pub(super) pod: u32,
    /// That of the pod's end of it.
    pub(super) pod_far: u32,
    /// The Ethernet address of the node's end.
    pub(super) pod_mac: [u8; 6],
}

/// Has the namespace of this thread forward packets of this family, and of no other: it may be somebody else's, and one
/// that forwards IPv6 no longer learns its default route.
///
/// # Errors
/// The kernel refused.
pub(super) fn forward(plan: &Plan) -> Result<()> {
    let settings: &[_] = if plan.node.is_ipv6() {
        &[
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/default/forwarding", "1"),
            ("ipv6/conf/default/accept_dad", "0"),
        ]
    } else {
        &[
            ("ipv4/ip_forward", "1"),
            // To whoever is sent back to where he came from.
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
        ]
    };
    set(plan, settings)
}

/// Sets values of the namespace of this thread, below `/proc/sys/net`.
///
/// # Errors
/// The kernel refused.
pub(super) fn set(plan: &Plan, settings: &[(&str, &str)]) -> Result<()> {
    for (setting, value) in settings {
        let path = format!("/proc/sys/net/{setting}");
        // A kernel without IPv6 has no such files.
        match fs::write(&path, value) {
            Err(error) if plan.node.is_ipv6() || setting.starts_with("ipv4") => {
                return Err(error).with_context(|| format!("set {path}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lays the interfaces of a node in the namespace of this thread, with routes to backends and clients.
///
/// # Errors
/// The kernel refused.
pub(super) fn lay(plan: &Plan) -> Result<Interfaces> {
    forward(plan)?;
    netlink(async |handle| {
        let [uplink, far] = pair(&handle, UPLINK).await?;
        let [pod, pod_far] = pair(&handle, POD).await?;
        let [mac, pod_mac] = [Link::look(&handle, UPLINK).await?.mac, Link::look(&handle, POD).await?.mac];
        handle.address().add(uplink, plan.node, plan.bits).execute().await.context("give an address")?;
        let neighbour = handle.neighbours().add(uplink, plan.gateway).link_layer_address(&BEHIND);
        neighbour.state(NeighbourState::Permanent).execute().await.context("name a neighbour")?;
        for (net, bits) in [plan.away, plan.beyond] {
            let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(net, bits);
            let route = route.and_then(|route| route.gateway(plan.gateway)).context("make a route")?;
            handle.route().add(route.build()).execute().await.context("add a route")?;
        }
        Ok(Interfaces { uplink, far, mac, pod, pod_far, pod_mac })
    })
}

/// Takes away from the namespace of this thread what [`lay`] has put there, if it has.
///
/// # Errors
/// The kernel refused.
pub(super) fn clear() -> Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).context("socket")?;
    netlink(async |handle| {
        for name in [UPLINK, POD] {
            // Its far end goes with it, and routes by it.
            if let Ok(index) = name_to_index(&socket, name) {
                remove(&handle, index).await.with_context(|| format!("take {name} away"))?;
            }
        }
        Ok(())
    })
}

/// Takes an interface away, unless it is gone meanwhile: the kernel does the same, some time after a namespace has ended, to
/// what that had the other end of.
///
/// # Errors
/// The kernel refused.
pub(super) async fn remove(handle: &Handle, index: u32) -> Result<()> {
    match handle.link().del(index).execute().await {
        Err(NetlinkError(message)) if message.raw_code() == -libc::ENODEV => Ok(()),
        result => Ok(result?),
    }
}

/// Makes a pair of interfaces called `name` and `name-far`, both up: their indices.
///
/// # Errors
/// The kernel refused.
pub(super) async fn pair(handle: &Handle, name: &str) -> Result<[u32; 2]> {
    let far = format!("{name}-far");
    let made = handle.link().add(LinkVeth::new(name, &far).build()).execute().await;
    made.with_context(|| format!("make the pair of interfaces {name}"))?;
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).context("socket")?;
    let index = |name: &str| name_to_index(&socket, name).with_context(|| format!("find {name}"));
    for end in [name, &far] {
        let up = LinkUnspec::new_with_index(index(end)?).up().build();
        handle.link().change(up).execute().await.with_context(|| format!("set {end} up"))?;
    }
    Ok([index(name)?, index(&far)?])
}

impl Interfaces {
    /// What the datapath is told of them.
    pub(super) fn known(&self) -> [(u32, InterfaceValue); 2] {
        let uplink =
            InterfaceValue { flags: interface_flags::OUTWARD, mac: self.mac, ..InterfaceValue::default() };
        let pod = InterfaceValue { flags: interface_flags::PODS, ..InterfaceValue::default() };
        [(self.uplink, uplink), (self.pod, pod)]
    }
}

/// What is known of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) mac: [u8; 6],
    /// How many packets have left by it.
    pub(super) sent: u64,
}

impl Link {
    /// Looks at the interface `name`.
    ///
    /// # Errors
    /// There is none, or it has no Ethernet address.
    pub(super) async fn look(handle: &Handle, name: &str) -> Result<Self> {
        let mut links = handle.link().get().match_name(name.to_owned()).execute();
        let link = match links.try_next().await {
            Ok(Some(link)) => link,
            Ok(None) => bail!("no interface is called {name}"),
            Err(NetlinkError(message)) if message.raw_code() == -libc::ENODEV => {
                bail!("no interface is called {name}")
            }
            Err(error) => return Err(error).with_context(|| format!("look for the interface {name}")),
        };
        let (mut mac, mut sent) = (None, 0);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Address(address) => mac = address.as_slice().try_into().ok(),
                LinkAttribute::Stats64(stats) => sent = stats.tx_packets,
                _ => {}
            }
        }
        let mac = mac.with_context(|| format!("{name} has no Ethernet address: frames need one"))?;
        Ok(Self { index: link.header.index, mac, sent })
    }
}

/// Runs `work` with a netlink socket of the namespace of this thread.
pub(super) fn netlink<R, F: Future<Output = Result<R>>>(work: impl FnOnce(Handle) -> F) -> Result<R> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("start a runtime")?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection().context("open a netlink socket")?;
        let task = tokio::spawn(connection);
        let result = work(handle).await;
        task.abort();
        result
    })
}
