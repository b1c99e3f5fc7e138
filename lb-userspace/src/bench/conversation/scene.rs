//! Who talks to whom: namespaces, and what is between them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, Result, ensure};
use lb_bench::target;
use lb_common::{InterfaceValue, Reason, interface_flags};

use super::talk::{Called, Server, Talk, Told, converse};
use crate::bench::datapath::{BACKEND_PORT, Bench, NODE_PORT, PORT};
use crate::bench::group::Group;
use crate::bench::guest::{self, Guest};
use crate::bench::node::{self, Link, Plan, netlink};
use crate::bench::{Extent, space};
use crate::bpf::attach::Class;
use crate::bpf::size::Sizes;
use crate::bpf::space::Space;

/// How a client reaches the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// By a wire, with nothing between them.
    Wire,
    /// By its own address, through a node without a proxy.
    Direct,
    /// By its own address, through Sluice's node.
    Through,
    /// By the address of a Service, which the socket hook translates.
    Socket,
    /// By the address of a Service, which the programs at the pods' interfaces translate.
    Packet,
    /// From outside, by a node port.
    NodePort,
    /// By its own address, through a node with the rules of somebody else.
    BesideThrough,
    /// By the address of a Service there.
    BesideCluster,
    /// From outside, by a node port there.
    BesideNodePort,
}

/// A node, a pod that calls on it and one that answers, and a client outside.
struct Site {
    client: Guest,
    outside: Guest,
    server: Guest,
    _answers: Server,
}

impl Site {
    fn on(node: &Space, plan: &Plan, talk: Talk, taken: &Arc<AtomicU64>) -> Result<Self> {
        node.run(|| node::forward(plan))?;
        let client = Guest::at(node, "slb-client", plan, plan.pods, plan.within)?;
        let server = Guest::at(node, "slb-server", plan, plan.backends, plan.away)?;
        let outside = Guest::at(node, "slb-outside", plan, plan.outside, plan.beyond)?;
        node.run(|| {
            netlink(async |handle| {
                let add = handle.address().add(outside.interface.index, plan.node, plan.width());
                add.execute().await.context("give an address")
            })
        })?;
        let answers = Server::at(&server.space, talk, plan.backends, BACKEND_PORT, taken)?;
        Ok(Self { client, outside, server, _answers: answers })
    }
}

/// All of them.
pub(super) struct Scene {
    plan: Plan,
    extent: Extent,
    /// He is wired to a namespace that answers.
    wired: Guest,
    _wire_answers: Server,
    direct: Site,
    own: Site,
    beside: Option<Site>,
    hooked: Group,
    bench: Bench,
    services: u32,
    /// How many connections there were.
    connections: u32,
    /// Bytes that streams have brought.
    taken: Arc<AtomicU64>,
    /// They are there as long as somebody holds them.
    _nodes: Vec<Space>,
}

impl Scene {
    /// Sets it for conversations like `talk`, with Sluice on `node`, which is the namespace of this thread.
    ///
    /// # Errors
    /// What the machine lacks.
    pub(super) fn set(talk: Talk, extent: &Extent, node: &Space) -> Result<Self> {
        let plan = Plan::of(extent.ipv6);
        let taken = Arc::new(AtomicU64::new(0));
        // First, since it is what most often cannot be had.
        let hooked = Group::new("hooked")?;
        let (wire, router) = (space()?, space()?);
        wire.run(|| {
            guest::prepare(&plan)?;
            guest::take(plan.away)
        })?;
        let wired = Guest::at(&wire, "slb-client", &plan, plan.pods, plan.within)?;
        let wire_answers = Server::at(&wire, talk, plan.backends, BACKEND_PORT, &taken)?;
        let direct = Site::on(&router, &plan, talk, &taken)?;
        let (mut beside, mut nodes) = (None, vec![wire, router]);
        if let Some(name) = &extent.beside {
            let node = Space::named(name).with_context(|| format!("open the network namespace {name}"))?;
            beside = Some(Site::on(&node, &plan, talk, &taken)?);
            nodes.push(node);
        }
        let own = Site::on(node, &plan, talk, &taken)?;
        let interfaces = [
            (own.client.interface, Class::Pods, interface_flags::PODS),
            (own.server.interface, Class::Pods, interface_flags::PODS),
            (own.outside.interface, Class::Outward, interface_flags::OUTWARD),
        ];
        let known = interfaces.map(|(Link { index, mac, .. }, class, flags)| {
            let mac = if class == Class::Outward { mac } else { Default::default() };
            (index, InterfaceValue { flags, mac, ..InterfaceValue::default() })
        });
        let bench = Bench::load(plan, talk.proto(), &known, &room(extent, talk))?;
        for (Link { index, .. }, class, _) in interfaces {
            bench.datapath().attach_interface(class, index, &format!("interface {index}"))?;
        }
        bench.datapath().attach_cgroup(hooked.dir(), false)?;
        Ok(Self {
            plan,
            extent: extent.clone(),
            wired,
            _wire_answers: wire_answers,
            direct,
            own,
            beside,
            hooked,
            bench,
            services: 0,
            connections: 0,
            taken,
            _nodes: nodes,
        })
    }

    /// Has the node have so many Services.
    ///
    /// # Errors
    /// There is no room for them.
    pub(super) fn serve(&mut self, services: u32) -> Result<()> {
        self.services = services;
        self.bench.serve(services)
    }

    /// Has conversations this way, and only this way.
    ///
    /// # Errors
    /// A call that fails; calls that did not go this way.
    pub(super) fn talk(&mut self, talk: Talk, way: Way) -> Result<Told> {
        let Self { plan, services, .. } = *self;
        let of = |first: IpAddr, count, port| Called { first, count, port };
        // Only one address answers datagrams.
        let many = if talk == Talk::Datagrams { 1 } else { services };
        let endpoints = of(plan.backends, many, BACKEND_PORT);
        let beside = self.beside.as_mut().context("nothing is beside");
        let (guest, called) = match way {
            Way::Wire => (&mut self.wired, endpoints),
            Way::Direct => (&mut self.direct.client, endpoints),
            Way::Through => (&mut self.own.client, endpoints),
            Way::Socket | Way::Packet => (&mut self.own.client, of(plan.services, many, PORT)),
            Way::NodePort => (&mut self.own.outside, of(plan.node, 1, NODE_PORT)),
            Way::BesideThrough => (&mut beside?.client, endpoints),
            Way::BesideCluster => (&mut beside?.client, of(target::CLUSTER_IP.into(), 1, PORT)),
            Way::BesideNodePort => (&mut beside?.outside, of(plan.node, 1, NODE_PORT)),
        };
        guest.renew()?;
        let counted = || {
            let [socket, packet] =
                [Reason::SockConnected, Reason::FlowOpened].map(|reason| self.bench.count(reason));
            Ok::<_, anyhow::Error>([socket?, packet?])
        };
        let before = counted()?;
        let inside = if way == Way::Socket { Some(self.hooked.enter()?) } else { None };
        let told = guest.space.run(|| converse(talk, &self.extent, called, self.connections, &self.taken))?;
        drop(inside);
        self.connections = self.connections.wrapping_add(told.connections);
        // Connections that the socket hook has translated, and the packet path.
        let expected = match way {
            Way::Socket => [told.connections, 0],
            Way::Packet | Way::NodePort => [0, told.connections],
            _ => [0, 0],
        };
        let after = counted()?;
        let counted = [after[0] - before[0], after[1] - before[1]];
        ensure!(
            counted == expected.map(u64::from),
            "of {} connections {counted:?} were translated at the socket and on the way, not {expected:?}",
            told.connections
        );
        Ok(told)
    }
}

/// Room for all flows of a run: those that have ended stay, as they do for minutes on any node.
fn room(extent: &Extent, talk: Talk) -> Sizes {
    let [_, most] = super::sizes(extent);
    // A connection each, by two ways, with each number of Services.
    let pairs = talk.connections(extent).saturating_mul(extent.rounds).saturating_mul(4);
    Sizes {
        // Two entries each, and some to spare.
        flows: Some(pairs.saturating_mul(2).saturating_add(pairs / 8).clamp(1 << 14, 1 << 22)),
        services: Some(most.saturating_add(64)),
        backends: Some(most.saturating_mul(2).saturating_add(64)),
    }
}
