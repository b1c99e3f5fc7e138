//! Who talks to whom: namespaces, and what is between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use lb_common::{InterfaceValue, Proto, Reason, interface_flags};

use super::talk::{Called, Server, Talk, Told, converse};
use crate::bench::Extent;
use crate::bench::datapath::{BACKEND_PORT, Bench, NODE_PORT, PORT};
use crate::bench::group::Group;
use crate::bench::guest::{self, Guest};
use crate::bench::node::{self, Link, Plan, netlink};
use crate::bench::space;
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
}

/// A pod that calls, and one that answers, on one node.
struct Pods {
    client: Guest,
    server: Guest,
    _answers: Server,
}

impl Pods {
    fn on(node: &Space, plan: &Plan) -> Result<Self> {
        let client = Guest::at(node, "client", plan, plan.pods, plan.within)?;
        let server = Guest::at(node, "server", plan, plan.backends, plan.away)?;
        let answers = serve(&server.space, plan)?;
        Ok(Self { client, server, _answers: answers })
    }
}

/// Has `space` answer at all addresses of endpoints.
fn serve(space: &Space, plan: &Plan) -> Result<Server> {
    space.run(|| guest::take(plan.away))?;
    let any =
        if plan.node.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    Server::at(space, any, BACKEND_PORT)
}

/// All of them.
pub(super) struct Scene {
    plan: Plan,
    talk: Talk,
    /// He is wired to the namespace that answers.
    wired: Guest,
    _wired_answers: Server,
    direct: Pods,
    pods: Pods,
    outside: Guest,
    hooked: Group,
    bench: Bench,
    services: u32,
    /// Conversations of each way in a round.
    count: u32,
    /// How many connections there were.
    connections: u32,
    _untouched: [Space; 2],
}

impl Scene {
    /// Sets it, with Sluice on `node`, which is the namespace of this thread.
    ///
    /// # Errors
    /// What the machine lacks.
    pub(super) fn set(talk: Talk, extent: &Extent, node: &Space) -> Result<Self> {
        let plan = Plan::of(extent.ipv6);
        // First, since it is what most often cannot be had.
        let hooked = Group::new("hooked")?;
        let untouched = [space()?, space()?];
        let [wire, router] = &untouched;
        wire.run(|| guest::prepare(&plan))?;
        let wired = Guest::at(wire, "client", &plan, plan.pods, plan.within)?;
        let wired_answers = serve(wire, &plan)?;
        router.run(|| node::forward(&plan))?;
        let direct = Pods::on(router, &plan)?;
        node::forward(&plan)?;
        let pods = Pods::on(node, &plan)?;
        let outside = Guest::at(node, "uplink", &plan, plan.outside, plan.beyond)?;
        netlink(async |handle| {
            let add = handle.address().add(outside.interface.index, plan.node, plan.width());
            add.execute().await.context("give an address")
        })?;
        let interfaces = [
            (pods.client.interface, Class::Pods, interface_flags::PODS),
            (pods.server.interface, Class::Pods, interface_flags::PODS),
            (outside.interface, Class::Outward, interface_flags::OUTWARD),
        ];
        let known = interfaces.map(|(Link { index, mac, .. }, class, flags)| {
            let mac = if class == Class::Outward { mac } else { Default::default() };
            (index, InterfaceValue { flags, mac, ..InterfaceValue::default() })
        });
        let count = talk.count(extent);
        let bench = Bench::load(plan, Proto::Tcp, &known, &room(extent, talk))?;
        for (Link { index, .. }, class, _) in interfaces {
            bench.datapath().attach_interface(class, index, &format!("interface {index}"))?;
        }
        bench.datapath().attach_cgroup(hooked.dir(), false)?;
        Ok(Self {
            plan,
            talk,
            wired,
            _wired_answers: wired_answers,
            direct,
            pods,
            outside,
            hooked,
            bench,
            services: 0,
            count,
            connections: 0,
            _untouched: untouched,
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
    pub(super) fn talk(&mut self, way: Way) -> Result<Told> {
        let Self { plan, talk, services, count, .. } = *self;
        let endpoints = Called { first: plan.backends, count: services, port: BACKEND_PORT };
        let clusters = Called { first: plan.services, count: services, port: PORT };
        let node_port = Called { first: plan.node, count: 1, port: NODE_PORT };
        let (guest, called) = match way {
            Way::Wire => (&mut self.wired, endpoints),
            Way::Direct => (&mut self.direct.client, endpoints),
            Way::Through => (&mut self.pods.client, endpoints),
            Way::Socket | Way::Packet => (&mut self.pods.client, clusters),
            Way::NodePort => (&mut self.outside, node_port),
        };
        guest.renew()?;
        let counted = || {
            Ok::<_, anyhow::Error>([
                self.bench.count(Reason::SockConnected)?,
                self.bench.count(Reason::FlowOpened)?,
            ])
        };
        let before = counted()?;
        let inside = if way == Way::Socket { Some(self.hooked.enter()?) } else { None };
        let told = guest.space.run(|| converse(talk, called, self.connections, count))?;
        drop(inside);
        self.connections = self.connections.wrapping_add(told.connections);
        // Connections that the socket hook has translated, and the packet path.
        let expected = match way {
            Way::Wire | Way::Direct | Way::Through => [0, 0],
            Way::Socket => [told.connections, 0],
            Way::Packet | Way::NodePort => [0, told.connections],
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
