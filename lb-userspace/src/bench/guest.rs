//! Somebody behind an interface of a node, in a namespace of his own.

use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{AddressAddRequest, Handle, LinkUnspec, RouteMessageBuilder};

use super::frame::{nth, unspecified};
use super::node::{Link, Plan, netlink, pair, remove, set};
use super::space;
use crate::bpf::space::Space;

/// The kernel's table of what a host takes for itself, and its loopback interface.
const LOCAL: u32 = 255;
/// See there.
const LOOPBACK: u32 = 1;

/// A pod, or a client outside.
#[derive(Debug)]
pub(super) struct Guest {
    /// Where he is.
    pub(super) space: Space,
    /// The node's end of the pair, in the node's namespace.
    pub(super) interface: Link,
    /// His own end.
    link: u32,
    /// Whence he calls.
    addr: IpAddr,
    plan: Plan,
}

impl Guest {
    /// One behind a new interface of `node` called `name`, who has the address `addr`, and to whom all of `range` is sent.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn at(
        node: &Space,
        name: &str,
        plan: &Plan,
        addr: IpAddr,
        range: (IpAddr, u8),
    ) -> Result<Self> {
        let space = space()?;
        space.run(|| {
            prepare(plan)?;
            // All of it at once: the kernel takes an address of IPv6 for its own some time after it has given it.
            take(range)
        })?;
        let near =
            node.run(|| netlink(async |handle| connect(&handle, &space, name, plan, addr, range).await))?;
        let link = space.run(|| {
            netlink(async |handle| {
                let link = Link::look(&handle, &format!("{name}-far")).await?.index;
                up(&handle, link).await?;
                give(&handle, plan, link, addr).await?;
                let gateway = handle.neighbours().add(link, plan.gateway).link_layer_address(&near.mac);
                gateway.state(NeighbourState::Permanent).execute().await.context("name a neighbour")?;
                leave_as(&handle, plan, link, addr).await?;
                Ok(link)
            })
        })?;
        Ok(Self { space, interface: near, link, addr, plan: *plan })
    }

    /// Has him call from the next address, and no longer from the one before.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn renew(&mut self) -> Result<()> {
        let (before, addr) = (self.addr, nth(self.addr, 1));
        self.space.run(|| {
            netlink(async |handle| {
                give(&handle, &self.plan, self.link, addr).await?;
                leave_as(&handle, &self.plan, self.link, addr).await?;
                let before = owned(&handle, &self.plan, self.link, before).message_mut().clone();
                handle.address().del(before).execute().await.context("take an address away")
            })
        })?;
        self.addr = addr;
        Ok(())
    }
}

/// Has `link` have `addr`, at once: IPv6 would first ask whether somebody else has it.
async fn give(handle: &Handle, plan: &Plan, link: u32, addr: IpAddr) -> Result<()> {
    owned(handle, plan, link, addr).execute().await.context("give an address")
}

fn owned(handle: &Handle, plan: &Plan, link: u32, addr: IpAddr) -> AddressAddRequest {
    let mut request = handle.address().add(link, addr, plan.width());
    request.message_mut().header.flags.insert(AddressHeaderFlags::Nodad);
    request
}

/// Has everything leave by `link`, from `addr` unless a socket is bound.
async fn leave_as(handle: &Handle, plan: &Plan, link: u32, addr: IpAddr) -> Result<()> {
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(unspecified(addr), 0);
    let route = route.and_then(|route| route.gateway(plan.gateway));
    let route = route.and_then(|route| route.pref_source(addr)).context("make a route")?;
    let route = route.output_interface(link).onlink().build();
    handle.route().add(route).replace().execute().await.context("add the default route")
}

/// Has the namespace of this thread take all of `range` for its own.
///
/// # Errors
/// The kernel refused.
pub(super) fn take(range: (IpAddr, u8)) -> Result<()> {
    netlink(async |handle| {
        up(&handle, LOOPBACK).await?;
        let (net, bits) = range;
        let route =
            RouteMessageBuilder::<IpAddr>::new().destination_prefix(net, bits).context("make a route")?;
        let route = route.kind(RouteType::Local).table_id(LOCAL).scope(RouteScope::Host);
        let route = route.output_interface(LOOPBACK).build();
        handle.route().add(route).execute().await.context("add a local route")
    })
}

/// Settings of the namespace of this thread for who has many connections behind him.
///
/// # Errors
/// The kernel refused.
pub(super) fn prepare(plan: &Plan) -> Result<()> {
    set(
        plan,
        &[
            ("ipv4/ip_local_port_range", "2048 65535"),
            // What was learned of one connection is not to change the next.
            ("ipv4/tcp_no_metrics_save", "1"),
            // One that is over is forgotten in due time, not because there are others.
            ("ipv4/tcp_max_tw_buckets", "1048576"),
            // Seven seconds, then a call has failed.
            ("ipv4/tcp_syn_retries", "2"),
            // Who answers at all addresses of a range has none of them at an interface.
            ("ipv6/ip_nonlocal_bind", "1"),
            ("ipv6/conf/default/accept_ra", "0"),
        ],
    )
}

/// Makes a pair of interfaces called `name` and `name-far` and moves the latter to `space`; the former leads to `addr` and
/// to `range`. What the former is.
async fn connect(
    handle: &Handle,
    space: &Space,
    name: &str,
    plan: &Plan,
    addr: IpAddr,
    range: (IpAddr, u8),
) -> Result<Link> {
    // A namespace without any address of its own takes nobody for a gateway.
    up(handle, LOOPBACK).await?;
    // Of a bench that was killed, or has just ended, in a namespace that outlives it.
    if let Ok(left) = Link::look(handle, name).await {
        remove(handle, left.index).await.with_context(|| format!("take {name} away"))?;
    }
    let [index, far_index] = pair(handle, name).await?;
    let near = Link::look(handle, name).await?;
    let far = Link::look(handle, &format!("{name}-far")).await?;
    let moved = LinkUnspec::new_with_index(far_index).setns_by_fd(space.net().as_raw_fd()).build();
    handle.link().change(moved).execute().await.context("move an interface")?;
    let neighbour = handle.neighbours().add(index, addr).link_layer_address(&far.mac);
    neighbour.state(NeighbourState::Permanent).execute().await.context("name a neighbour")?;
    let own = RouteMessageBuilder::<IpAddr>::new().destination_prefix(addr, plan.width());
    let own = own.context("make a route")?.scope(RouteScope::Link).output_interface(index).build();
    let (net, bits) = range;
    let all = RouteMessageBuilder::<IpAddr>::new().destination_prefix(net, bits);
    let all = all.and_then(|route| route.gateway(addr)).context("make a route")?;
    let all = all.output_interface(index).onlink().build();
    for route in [own, all] {
        handle.route().add(route).execute().await.context("add a route")?;
    }
    Ok(near)
}

async fn up(handle: &Handle, index: u32) -> Result<()> {
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().change(up).execute().await.context("set an interface up")
}
