//! Interfaces and addresses of the network namespace, and word of every change.
//!
//! A change says only that there is one: what holds then is listed again. A burst of hundreds of interfaces thus costs a
//! few lists, and notices that the kernel had no room for (`ENOBUFS`) cost one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection};
use tokio::task::JoinHandle;

use super::interface::{Interface, holds, is_up};

/// Why the network cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No netlink socket can be opened.
    #[error("open a netlink socket: {0}")]
    Open(#[from] io::Error),
    /// The kernel refused a list.
    #[error("{call}: {source}")]
    List {
        /// What was asked for.
        call: &'static str,
        /// What the kernel answered.
        source: rtnetlink::Error,
    },
    /// The socket that notices come by has failed.
    #[error("the netlink socket for notices has failed")]
    Ended,
}

/// The network as it is at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Network {
    /// Interfaces by index.
    pub interfaces: BTreeMap<u32, Interface>,
    /// Addresses of global scope that may be used as a source, in the kernel's order: not tentative, deprecated or
    /// temporary ones.
    pub addresses: Vec<IpAddr>,
    /// Addresses of every kind that interfaces which are up have, but for `kube-ipvs0`: kube-proxy in ipvs mode puts all
    /// addresses of Services there.
    pub held: BTreeSet<IpAddr>,
    /// Those of `addresses`, with the index of an interface that has them.
    pub places: BTreeMap<IpAddr, u32>,
    /// Interfaces by which routes lead out, if the watcher was told to follow routes.
    pub routes: Routes,
}

/// Interfaces by which unicast routes of global reach lead, of both families and all tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routes {
    /// Default routes.
    pub default: BTreeSet<u32>,
    /// Any.
    pub any: BTreeSet<u32>,
}

/// The network of the calling thread's namespace as it is now, for who does not follow it.
///
/// # Errors
/// No socket can be opened, or the kernel refused.
pub fn list_once() -> Result<Network, NetError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { Watcher::open(false)?.list().await })
}

/// What has been since somebody looked, and may be over: indices of interfaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// Vanished; the index may be taken again.
    pub gone: BTreeSet<u32>,
    /// Not up.
    pub down: BTreeSet<u32>,
}

/// Follows the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Watcher {
    lists: Handle,
    notices: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    routes: bool,
    tasks: [JoinHandle<()>; 2],
}

impl Watcher {
    /// Begins to follow, the routes too if `routes`: nodes may have many. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No socket can be opened.
    pub fn open(routes: bool) -> Result<Self, NetError> {
        let mut groups = vec![MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        if routes {
            groups.extend([MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route]);
        }
        // Before the first list, so that nothing happens unseen; a socket of its own, so that notices never crowd out
        // the answers.
        let (connection, _, notices) = new_multicast_connection(&groups)?;
        let following = tokio::spawn(connection);
        let (connection, lists, _) = new_connection()?;
        Ok(Self { lists, notices, routes, tasks: [following, tokio::spawn(connection)] })
    }

    /// The network as it is now.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn list(&self) -> Result<Network, NetError> {
        let failed = |call| move |source| NetError::List { call, source };
        let links: Vec<LinkMessage> =
            self.lists.link().get().execute().try_collect().await.map_err(failed("RTM_GETLINK"))?;
        let addresses: Vec<AddressMessage> =
            self.lists.address().get().execute().try_collect().await.map_err(failed("RTM_GETADDR"))?;
        let holders: BTreeSet<u32> =
            links.iter().filter(|link| holds(link)).map(|link| link.header.index).collect();
        let held = addresses.iter().filter(|message| holders.contains(&message.header.index));
        Ok(Network {
            interfaces: links
                .iter()
                .filter_map(|link| Some((link.header.index, Interface::of(link)?)))
                .collect(),
            addresses: addresses.iter().filter_map(lasting).collect(),
            held: held.filter_map(own).map(|(addr, _)| addr).collect(),
            places: addresses
                .iter()
                .filter_map(|message| Some((lasting(message)?, message.header.index)))
                .collect(),
            routes: if self.routes { self.list_routes().await? } else { Routes::default() },
        })
    }

    async fn list_routes(&self) -> Result<Routes, NetError> {
        let wanted =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        let mut routes = Routes::default();
        for wanted in wanted {
            let mut found = std::pin::pin!(self.lists.route().get(wanted).execute());
            let failed = |source| NetError::List { call: "RTM_GETROUTE", source };
            while let Some(route) = found.try_next().await.map_err(failed)? {
                routes.note(&route);
            }
        }
        Ok(routes)
    }

    /// Waits until something has changed.
    ///
    /// # Errors
    /// [`NetError::Ended`]: what is known is stale, and only a new watcher will know more.
    pub async fn changed(&mut self) -> Result<Passed, NetError> {
        let mut passed = Passed::default();
        let mut next = self.notices.next().await;
        loop {
            let (message, _) = next.ok_or(NetError::Ended)?;
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                    passed.gone.insert(link.header.index);
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) if !is_up(&link) => {
                    passed.down.insert(link.header.index);
                }
                _ => {}
            }
            match self.notices.try_recv() {
                Ok(message) => next = Some(message),
                Err(_) => return Ok(passed),
            }
        }
    }
}

impl Routes {
    fn note(&mut self, route: &RouteMessage) {
        let global = matches!(route.header.scope, RouteScope::Universe | RouteScope::Link);
        let near = route.attributes.iter().any(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet6(addr)) => {
                addr.is_unicast_link_local() || addr.is_multicast()
            }
            _ => false,
        });
        if route.header.kind != RouteType::Unicast || !global || near {
            return;
        }
        for attribute in &route.attributes {
            let interfaces = match attribute {
                RouteAttribute::Oif(index) => vec![*index],
                RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
                _ => continue,
            };
            if route.header.destination_prefix_length == 0 {
                self.default.extend(&interfaces);
            }
            self.any.extend(&interfaces);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The interface's own address, with its flags; none while it is being tested for duplicates or is one.
fn own(message: &AddressMessage) -> Option<(IpAddr, AddressFlags)> {
    let (mut own, mut prefix, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            // Of a point-to-point interface, `Address` is the peer's.
            AddressAttribute::Local(addr) => own = Some(*addr),
            AddressAttribute::Address(addr) => prefix = Some(*addr),
            AddressAttribute::Flags(found) => flags = *found,
            _ => {}
        }
    }
    let usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
    own.or(prefix).filter(|_| usable).map(|addr| (addr, flags))
}

fn lasting(message: &AddressMessage) -> Option<IpAddr> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let (addr, flags) = own(message)?;
    let mut unfit = AddressFlags::Deprecated;
    if addr.is_ipv6() {
        // The same bit: temporary there, and merely a second address of its subnet for IPv4.
        unfit |= AddressFlags::Secondary;
    }
    (!flags.intersects(unfit)).then_some(addr)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    fn message(addr: &str, scope: AddressScope, flags: AddressFlags) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.scope = scope;
        message.attributes =
            vec![AddressAttribute::Address(addr.parse().unwrap()), AddressAttribute::Flags(flags)];
        message
    }

    #[test]
    fn routes_out_are_unicast_and_not_of_one_link_alone() {
        let route = |to: Option<Ipv6Addr>, length, kind, via: RouteAttribute| {
            let mut message = RouteMessage::default();
            (message.header.kind, message.header.destination_prefix_length) = (kind, length);
            message.attributes = vec![via];
            message.attributes.extend(to.map(|to| RouteAttribute::Destination(RouteAddress::Inet6(to))));
            message
        };
        let (near, far) = ("fe80::".parse().ok(), "fd00::".parse().ok());
        let hops = [5, 6].map(|index| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop
        });
        let mut routes = Routes::default();
        for route in [
            route(None, 0, RouteType::Unicast, RouteAttribute::Oif(2)),
            route(far, 64, RouteType::Unicast, RouteAttribute::Oif(3)),
            route(near, 64, RouteType::Unicast, RouteAttribute::Oif(4)),
            route(None, 0, RouteType::Unicast, RouteAttribute::MultiPath(hops.to_vec())),
            route(None, 0, RouteType::Unreachable, RouteAttribute::Oif(7)),
        ] {
            routes.note(&route);
        }
        assert_eq!(routes.default, BTreeSet::from([2, 5, 6]));
        assert_eq!(routes.any, BTreeSet::from([2, 3, 5, 6]));
    }

    #[test]
    fn addresses_of_every_kind_are_held_once_they_are_tested() {
        for (addr, scope, flags, held) in [
            ("10.96.0.10", AddressScope::Host, AddressFlags::Permanent, true),
            ("fd00::a", AddressScope::Universe, AddressFlags::Deprecated, true),
            ("fd00::b", AddressScope::Universe, AddressFlags::Tentative, false),
        ] {
            assert_eq!(own(&message(addr, scope, flags)).is_some(), held, "{addr}");
        }
    }

    #[test]
    fn only_lasting_global_addresses_count() {
        let held = |addr: &str, scope, flags| lasting(&message(addr, scope, flags));
        let (global, none) = (AddressScope::Universe, AddressFlags::Permanent);
        assert!(held("10.0.0.1", global, none).is_some());
        assert!(held("10.0.0.2", global, AddressFlags::Secondary).is_some());
        assert!(held("2001:db8::1", global, none).is_some());
        assert!(held("2001:db8::2", global, AddressFlags::Secondary).is_none());
        assert!(held("2001:db8::3", global, AddressFlags::Tentative).is_none());
        assert!(held("fe80::1", AddressScope::Link, none).is_none());
        assert!(held("127.0.0.1", AddressScope::Host, none).is_none());
    }
}
