//! Packets at every stop of an interrupted plan: the datapath runs over what the tables hold then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Instant;

use lb_common::{Config, FrontendKind, Point, Proto, Reason};
use lb_ebpf::env::FlowTable;
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::host;
use lb_ebpf::testing::packet::{Packet, Transport, chunks, flags};
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::tables::Tables as DatapathTables;
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Sizes, World};
use lb_ebpf::verdict::Verdict;
use lb_userspace::model::{ServicePort, ServicePortKey};
use lb_userspace::plan::{Capacity, FrontendAddr, Own, frontends_of};
use lb_userspace::reconcile::{Change, Reconciler};
use lb_userspace::tables::{Fake, Fault, Faulty, TableSet};

use crate::scenarios::all;
use crate::support::{Desired, NODE, ROOMY, endpoint, key, replace, service, settle, started, update};

/// No more than a world has room for.
const SMALL: Capacity = Capacity { services: 16, backends: 64, slots: [128; 2], ..ROOMY };

/// What the datapath would find.
fn datapath_tables(tables: &Fake) -> DatapathTables {
    let TableSet { services, backends, v4, v6, .. } = tables;
    DatapathTables {
        addresses4: v4.addresses.entries.clone().into_iter().collect(),
        addresses6: v6.addresses.entries.clone().into_iter().collect(),
        frontends4: v4.frontends.entries.clone().into_iter().collect(),
        ranges4: v4.ranges.entries.keys().copied().collect(),
        frontends6: v6.frontends.entries.clone().into_iter().collect(),
        ranges6: v6.ranges.entries.keys().copied().collect(),
        services: services.records.clone(),
        slots4: v4.slots.records.clone(),
        slots6: v6.slots.records.clone(),
        backends: backends.records.clone(),
    }
}

/// A pod's address of the family of `dst`.
fn client(dst: SocketAddr, port: u16) -> SocketAddr {
    let addr = if dst.is_ipv4() { "10.9.0.1" } else { "fd09::1" };
    SocketAddr::new(addr.parse().unwrap(), port)
}

fn segment(proto: Proto, src: SocketAddr, dst: SocketAddr, tcp_flags: u8) -> Packet {
    match proto {
        Proto::Tcp => Packet::tcp(src, dst, tcp_flags),
        Proto::Udp => Packet::udp(src, dst),
        Proto::Sctp => {
            let opens = tcp_flags & flags::ACK == 0;
            Packet::sctp(src, dst, if opens { chunks::INIT } else { chunks::DATA })
        }
    }
}

/// Sends `packet` from a pod: why it left the datapath, and where it goes if it goes on.
fn send(world: &World, packet: &Packet) -> (Reason, Option<SocketAddr>) {
    let mut bytes = Bytes::of(packet);
    let before = world.counters().reasons;
    let verdict = host::run(&world.on_cpu(0), Point::PodIngress, &mut bytes);
    let after = world.counters().reasons;
    let (reason, _) = after.into_iter().find(|(reason, count)| before.get(reason) != Some(count)).unwrap();
    let sent = wire::parse(bytes.data()).unwrap();
    let port = match sent.transport {
        Transport::Tcp { ports, .. } | Transport::Udp { ports } => ports[1],
        _ => 0,
    };
    (reason, (verdict == Verdict::Pass).then(|| SocketAddr::new(sent.dst, port)))
}

/// What a packet to a frontend may meet: all endpoints of the Service ports that have it before or after, and whether
/// both, one or none of the two states have one.
#[derive(Default)]
struct Expected {
    endpoints: BTreeSet<SocketAddr>,
    states: usize,
    states_with_endpoints: usize,
}

/// The node's addresses.
const OWN: [&str; 2] = ["172.18.0.2", "fd18::2"];

/// Where `service` is reached, and whether its policy there is Local: pods are not told from others.
fn places<'a>(
    key: &'a ServicePortKey,
    service: &'a ServicePort,
) -> impl Iterator<Item = (SocketAddr, bool)> + 'a {
    frontends_of(key, service).map(|(FrontendAddr { addr, .. }, kind)| match kind {
        FrontendKind::ClusterIp => (addr, service.internal_local),
        FrontendKind::NodePort => {
            let own = OWN[usize::from(addr.is_ipv6())].parse().unwrap();
            (SocketAddr::new(own, addr.port()), service.external.as_ref().unwrap().local)
        }
        _ => (addr, service.external.as_ref().unwrap().local),
    })
}

fn expected(old: &Desired, new: &Desired) -> BTreeMap<SocketAddr, Expected> {
    let mut all: BTreeMap<SocketAddr, Expected> = BTreeMap::new();
    for (key, service) in [old, new].into_iter().flatten() {
        for (place, local) in places(key, service) {
            let usable = if local { &service.local } else { &service.cluster };
            let entry = all.entry(place).or_default();
            // While the policy changes, each scope may be used with the other state's policy.
            entry.endpoints.extend(service.cluster.iter().chain(&service.local));
            entry.states += 1;
            entry.states_with_endpoints += usize::from(!usable.is_empty());
        }
    }
    all
}

fn with(desired: &Desired, proto: Proto, affinity: Option<NonZeroU32>) -> Desired {
    let entries = desired.iter().map(|(key, service)| {
        let key = ServicePortKey { proto, ..key.clone() };
        (key, ServicePort { affinity, ..service.clone() })
    });
    entries.collect()
}

/// Programs `old`, opens a flow to each of its frontends, and stops the turn to `new` after `writes`; `None` if it takes
/// no more. The flows come with their clients' ports and backends.
struct Stopped {
    world: World,
    flows: BTreeMap<SocketAddr, SocketAddr>,
}

const OLD_FLOW: u16 = 1000;

fn stopped(proto: Proto, old: &Desired, new: &Desired, writes: u64) -> Option<Stopped> {
    let own: BTreeSet<IpAddr> = OWN.iter().map(|addr| addr.parse().unwrap()).collect();
    let mut reconciler = Reconciler::adopt(Faulty::new(Fake::new(SMALL), Fault::Never), NODE).unwrap();
    reconciler.desire(Change::Own(Own { held: own.clone(), node_ports: Some(own), node: Vec::new() }));
    reconciler.desire(replace(old));
    reconciler.step(Instant::now());
    let world = World::new(Config::DEFAULT, Sizes::default(), &Schedule::default());
    world.program(&datapath_tables(&reconciler.tables().inner));
    let mut flows = BTreeMap::new();
    for frontend in expected(old, &Desired::new()).into_keys() {
        let opening = segment(proto, client(frontend, OLD_FLOW), frontend, flags::SYN);
        if let (Reason::FlowOpened, Some(backend)) = send(&world, &opening) {
            flows.insert(frontend, backend);
        }
    }
    let calls = reconciler.tables().calls();
    reconciler.tables_mut().fault = Fault::From(calls + writes);
    reconciler.desire(update(old, new));
    reconciler.step(Instant::now());
    let finished = reconciler.report().problems.is_empty();
    world.program(&datapath_tables(&reconciler.tables().inner));
    (!finished).then_some(Stopped { world, flows })
}

/// At every stop, every packet goes where the state before or the state after would send it.
fn no_packet_goes_astray(proto: Proto, old: &Desired, new: &Desired) {
    let mut writes = 0;
    while let Some(Stopped { world, flows }) = stopped(proto, old, new, writes) {
        for (frontend, may) in expected(old, new) {
            let opening = segment(proto, client(frontend, 2000), frontend, flags::SYN);
            let (reason, dst) = send(&world, &opening);
            let at = format!("{proto} {frontend} after {writes} writes: {reason:?} {dst:?}");
            match reason {
                Reason::FlowOpened => assert!(may.endpoints.contains(&dst.unwrap()), "{at}"),
                Reason::NoEndpoints | Reason::NoLocalEndpoints => {
                    assert!(may.states_with_endpoints < 2, "{at}");
                }
                Reason::NotService | Reason::NotServicePort | Reason::PortNotServed => {
                    assert!(may.states < 2, "{at}");
                }
                _ => panic!("{at}"),
            }
        }
        for (frontend, backend) in &flows {
            let next = segment(proto, client(*frontend, OLD_FLOW), *frontend, flags::ACK);
            let (reason, dst) = send(&world, &next);
            let at = format!("{proto} flow to {frontend} after {writes} writes: {reason:?} {dst:?}");
            let serves = |state: &Desired| {
                let owners =
                    state.iter().filter(|(key, it)| places(key, it).any(|(place, _)| place == *frontend));
                owners.flat_map(|(_, service)| service.serving.clone()).collect::<BTreeSet<_>>()
            };
            match proto {
                Proto::Tcp | Proto::Sctp => {
                    assert_eq!((reason, dst), (Reason::FlowForward, Some(*backend)), "{at}");
                }
                // The old backend, or one that serves afterwards.
                Proto::Udp => assert!(
                    dst.is_some_and(|dst| dst == *backend || serves(new).contains(&dst)),
                    "{at}, was {backend}"
                ),
            }
        }
        writes += 1;
    }
    assert!(writes > 0, "there was something to interrupt");
}

#[test]
fn b7_b65_b71_b96_at_every_stop_of_a_plan_no_packet_goes_astray() {
    let empty = Desired::new();
    for proto in [Proto::Tcp, Proto::Udp] {
        // With session affinity the client of the old flow opens the new one, and asks for its endpoint.
        for (scenario, affinity) in all().iter().flat_map(|it| [(it, None), (it, NonZeroU32::new(60))]) {
            let scenario: Vec<_> = scenario.iter().map(|state| with(state, proto, affinity)).collect();
            let states: Vec<_> = [&empty].into_iter().chain(&scenario).chain([&empty]).collect();
            for turn in states.windows(2) {
                no_packet_goes_astray(proto, turn[0], turn[1]);
            }
        }
    }
}

/// Ids that come back are another Service port's, or another endpoint's: nobody inherits a client.
#[test]
fn b62_what_is_made_again_remembers_nobody() {
    let frontend = "10.0.0.1:80";
    let state = |endpoints: &[&str]| {
        let mut service = service(frontend, endpoints);
        service.affinity = NonZeroU32::new(3600);
        Desired::from([(key("web", frontend), service)])
    };
    // So small that every id comes back with the next state.
    let capacity = Capacity { services: 1, backends: 3, ..SMALL };
    let (mut now, empty) = (Instant::now(), Desired::new());
    let mut reconciler = started(Fake::new(capacity), &empty);
    let world = World::new(Config::DEFAULT, Sizes::default(), &Schedule::default());
    let open = |reconciler: &Reconciler<Fake>, client: u8| {
        world.program(&datapath_tables(reconciler.tables()));
        let (frontend, port) =
            (endpoint(frontend), 1000 + u16::try_from(world.flows4(FlowTable::Main).len()).unwrap());
        let src = SocketAddr::new(std::net::Ipv4Addr::new(10, 9, 0, client).into(), port);
        let (reason, dst) = send(&world, &segment(Proto::Tcp, src, frontend, flags::SYN));
        assert_eq!(reason, Reason::FlowOpened);
        dst.unwrap()
    };
    for round in 0..4_u8 {
        let [a, b] = [0, 1].map(|n| format!("10.1.{round}.{n}:80"));
        let now_there = state(&[&a, &b]);
        reconciler.desire(replace(&now_there));
        settle(&mut reconciler, &mut now);
        assert_eq!(reconciler.shadow().service_id(&key("web", frontend)), Some(0));
        let first = open(&reconciler, 1);
        assert!([&a, &b].contains(&&first.to_string()), "{first} in round {round}");
        assert_ne!(open(&reconciler, 2), first);
        assert_eq!(open(&reconciler, 1), first);
        reconciler.desire(update(&now_there, &empty));
        settle(&mut reconciler, &mut now);
    }
    assert_eq!(world.affinity().len(), 2, "one memory per client and id");
}
