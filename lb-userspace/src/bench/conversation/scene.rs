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
use crate::bpf::driver::Driver;
use crate::bpf::size::Sizes;
use crate::bpf::space::Space;

/// How a client reaches the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// By a wire, with nothing between them.
    Wire,
    /// By its own address, through a node without a proxy.
    Direct,
    /// The same, where programs that do nothing are wherever Sluice has some on the way.
    Idle,
    /// By its own address, through Sluice's node.
    Through,
    /// By the address of a Service, which the socket hook translates.
    Socket,
    /// By the address of a Service, which the programs at the pods' interfaces translate.
    Packet,
    /// As `Socket`, with `--redirect-peer`.
    SocketPast,
    /// As `Packet`, with `--redirect-peer`.
    PacketPast,
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

    /// Its interfaces, and what they are to the node.
    const fn interfaces(&self) -> [(Link, Class, u32); 3] {
        [
            (self.client.interface, Class::Pods, interface_flags::PODS | interface_flags::PEER),
            (self.server.interface, Class::Pods, interface_flags::PODS | interface_flags::PEER),
            (self.outside.interface, Class::Outward, interface_flags::OUTWARD),
        ]
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
    idle: Site,
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
    _idle_programs: Driver,
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
        let (wire, router, idler) = (space()?, space()?, space()?);
        wire.run(|| {
            guest::prepare(&plan)?;
            guest::take(plan.away)
        })?;
        let wired = Guest::at(&wire, "slb-client", &plan, plan.pods, plan.within)?;
        let wire_answers = Server::at(&wire, talk, plan.backends, BACKEND_PORT, &taken)?;
        let direct = Site::on(&router, &plan, talk, &taken)?;
        let idle = Site::on(&idler, &plan, talk, &taken)?;
        let mut idle_programs = Driver::load()?;
        for (Link { index, .. }, ..) in idle.interfaces() {
            idler.run(|| Ok::<_, anyhow::Error>(idle_programs.idle(index)?))?;
        }
        let (mut beside, mut nodes) = (None, vec![wire, router, idler]);
        if let Some(name) = &extent.beside {
            let node = Space::named(name).with_context(|| format!("open the network namespace {name}"))?;
            beside = Some(Site::on(&node, &plan, talk, &taken)?);
            nodes.push(node);
        }
        let own = Site::on(node, &plan, talk, &taken)?;
        let interfaces = own.interfaces();
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
            idle,
            own,
            beside,
            hooked,
            bench,
            services: 0,
            connections: 0,
            taken,
            _nodes: nodes,
            _idle_programs: idle_programs,
        })
    }

    /// Has the node have so many Services, for conversations like `talk`.
    ///
    /// # Errors
    /// There is no room for them.
    pub(super) fn serve(&mut self, talk: Talk, services: u32) -> Result<()> {
        self.services = services;
        self.bench.serve_each(services, endpoints(talk, services))
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
        let endpoints = of(plan.backends, many * endpoints(talk, services), BACKEND_PORT);
        let pods = [self.own.client.interface.index, self.own.server.interface.index];
        let beside = self.beside.as_mut().context("nothing is beside");
        let (guest, called) = match way {
            Way::Wire => (&mut self.wired, endpoints),
            Way::Direct => (&mut self.direct.client, endpoints),
            Way::Idle => (&mut self.idle.client, endpoints),
            Way::Through => (&mut self.own.client, endpoints),
            Way::Socket | Way::Packet | Way::SocketPast | Way::PacketPast => {
                (&mut self.own.client, of(plan.services, many, PORT))
            }
            Way::NodePort => (&mut self.own.outside, of(plan.node, 1, NODE_PORT)),
            Way::BesideThrough => (&mut beside?.client, endpoints),
            Way::BesideCluster => {
                let others = many.min(self.extent.beside_services);
                let (first, count) =
                    if others > 1 { (target::OTHERS, others) } else { (target::CLUSTER_IP, 1) };
                (&mut beside?.client, of(first.into(), count, PORT))
            }
            Way::BesideNodePort => (&mut beside?.outside, of(plan.node, 1, NODE_PORT)),
        };
        guest.renew()?;
        let counted = || {
            let [socket, packet, past] = [Reason::SockConnected, Reason::FlowOpened, Reason::PastStack]
                .map(|reason| self.bench.count(reason));
            Ok::<_, anyhow::Error>([socket?, packet?, past?])
        };
        let past = matches!(way, Way::SocketPast | Way::PacketPast);
        for index in pods.into_iter().filter(|_| past) {
            self.bench.datapath().attach_interface(Class::Shortcut, index, &format!("interface {index}"))?;
        }
        let before = counted()?;
        let at_socket = matches!(way, Way::Socket | Way::SocketPast);
        let inside = if at_socket { Some(self.hooked.enter()?) } else { None };
        let told = guest.space.run(|| converse(talk, &self.extent, called, self.connections, &self.taken))?;
        drop(inside);
        self.connections = self.connections.wrapping_add(told.connections);
        // Connections that the socket hook has translated, and the packet path.
        let expected = match way {
            Way::Socket | Way::SocketPast => [told.connections, 0],
            Way::Packet | Way::PacketPast | Way::NodePort => [0, told.connections],
            _ => [0, 0],
        };
        let after = counted()?;
        for index in pods.into_iter().filter(|_| past) {
            self.bench.datapath().detach_interface(Class::Shortcut, index)?;
        }
        let counted = [after[0] - before[0], after[1] - before[1]];
        let went = after[2] - before[2];
        // At least one there and one back, of each connection and of each conversation.
        let least = 2 * u64::from(told.connections.max(told.timed));
        ensure!(if past { went >= least } else { went == 0 }, "{went} packets went past the host stack");
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
    // A flow for each connection by three ways (`Packet`, `PacketPast`, `NodePort`), with each of two numbers of Services.
    let pairs = talk.connections(extent).saturating_mul(extent.rounds).saturating_mul(6);
    Sizes {
        // Two entries each, and some to spare.
        flows: Some(pairs.saturating_mul(2).saturating_add(pairs / 8).clamp(1 << 14, 1 << 22)),
        services: Some(most.saturating_add(64)),
        backends: Some(most.saturating_mul(endpoints(talk, most)).saturating_mul(2).saturating_add(64)),
    }
}

/// How many endpoints each of so many Services has: where there are many, as many as those beside.
fn endpoints(talk: Talk, services: u32) -> u32 {
    if talk == Talk::Datagrams || services == 1 { 1 } else { target::OTHERS_ENDPOINTS }
}
