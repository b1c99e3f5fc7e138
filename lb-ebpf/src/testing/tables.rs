//! Services as tests describe them, and what user space would write into the tables for them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use lb_common::backend_flags::{CLUSTER, LOCAL, SERVING};
use lb_common::{
    Addr4, Addr6, Address, AddressKind, AddressValue, BackendRecord, BackendWord, FlowKey, FrontendKey,
    FrontendKind, FrontendValue, Port, Proto, ServiceRecord, Slot, SourceRangeKey, Span, Tuple,
    address_flags, service_flags,
};

use super::routes::NODES;

/// One port of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Protocol.
    pub proto: Proto,
    /// Its ClusterIPs; all of one family.
    pub frontends: Vec<SocketAddr>,
    /// Where else it is reached; of a node port the address says the family alone.
    pub others: Vec<(FrontendKind, SocketAddr)>,
    /// Endpoints usable from anywhere.
    pub cluster: Vec<SocketAddr>,
    /// Endpoints on this node.
    pub local: Vec<SocketAddr>,
    /// Endpoints that serve, selected or not.
    pub serving: Vec<SocketAddr>,
    /// Endpoints that are in no scope any more, but keep their backend ids, the first ones.
    pub retired: Vec<SocketAddr>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `loadBalancerSourceRanges`, if there are any: addresses and lengths.
    pub ranges: Option<Vec<(IpAddr, u8)>>,
    /// Seconds that session affinity lasts; 0: there is none.
    pub affinity: u32,
    /// New flows a second; 0: any number.
    pub new_flow_rate: u32,
    /// An interface of the node has its addresses.
    pub held: bool,
}

impl Service {
    /// A Service port at `frontend` without endpoints.
    #[must_use]
    pub fn new(proto: Proto, frontend: SocketAddr) -> Self {
        Self {
            proto,
            frontends: [frontend].to_vec(),
            others: Vec::new(),
            cluster: Vec::new(),
            local: Vec::new(),
            serving: Vec::new(),
            retired: Vec::new(),
            internal_local: false,
            external_local: false,
            ranges: None,
            affinity: 0,
            new_flow_rate: 0,
            held: false,
        }
    }

    /// The same with one more frontend.
    #[must_use]
    pub fn frontend(mut self, frontend: SocketAddr) -> Self {
        self.frontends.push(frontend);
        self
    }

    /// The same with a frontend of this kind.
    #[must_use]
    pub fn at(mut self, kind: FrontendKind, frontend: SocketAddr) -> Self {
        self.others.push((kind, frontend));
        self
    }

    /// The same with these serving endpoints, usable from anywhere, none of them on this node.
    #[must_use]
    pub fn endpoints(mut self, endpoints: &[SocketAddr]) -> Self {
        self.cluster = endpoints.to_vec();
        self.serving = endpoints.to_vec();
        self
    }

    /// The same with these of its endpoints on this node.
    #[must_use]
    pub fn local(mut self, endpoints: &[SocketAddr]) -> Self {
        self.local = endpoints.to_vec();
        self
    }

    /// The same with addresses that an interface of the node has.
    #[must_use]
    pub const fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// The same with `internalTrafficPolicy: Local`.
    #[must_use]
    pub const fn internal_local(mut self) -> Self {
        self.internal_local = true;
        self
    }

    /// The same with `externalTrafficPolicy: Local`.
    #[must_use]
    pub const fn external_local(mut self) -> Self {
        self.external_local = true;
        self
    }

    /// The same with these `loadBalancerSourceRanges`.
    #[must_use]
    pub fn ranges(mut self, ranges: &[(IpAddr, u8)]) -> Self {
        self.ranges = Some(ranges.to_vec());
        self
    }

    /// The same with session affinity for so many seconds; 0: none.
    #[must_use]
    pub const fn affinity(mut self, seconds: u32) -> Self {
        self.affinity = seconds;
        self
    }

    /// The same with so many new flows a second at most.
    #[must_use]
    pub const fn new_flow_rate(mut self, rate: u32) -> Self {
        self.new_flow_rate = rate;
        self
    }
}

/// Contents of the tables that user space writes. Service ids count from 1 in the order of the Services, backend ids
/// from 1 in the order of their endpoints; slots begin at index 7.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tables {
    /// IPv4 addresses.
    pub addresses4: BTreeMap<Addr4, AddressValue>,
    /// IPv6 addresses.
    pub addresses6: BTreeMap<Addr6, AddressValue>,
    /// IPv4 frontends.
    pub frontends4: BTreeMap<FrontendKey<Addr4>, FrontendValue>,
    /// IPv6 frontends.
    pub frontends6: BTreeMap<FrontendKey<Addr6>, FrontendValue>,
    /// IPv4 source ranges.
    pub ranges4: BTreeSet<SourceRangeKey<Addr4>>,
    /// IPv6 source ranges.
    pub ranges6: BTreeSet<SourceRangeKey<Addr6>>,
    /// Service ports by id.
    pub services: Vec<ServiceRecord>,
    /// IPv4 slots.
    pub slots4: Vec<Slot<Addr4>>,
    /// IPv6 slots.
    pub slots6: Vec<Slot<Addr6>>,
    /// Backends by id.
    pub backends: Vec<BackendRecord>,
}

/// What the word of a backend says.
fn flags(service: &Service, endpoint: &SocketAddr) -> u32 {
    let Service { serving, cluster, local, .. } = service;
    [(serving, SERVING), (cluster, CLUSTER), (local, LOCAL)]
        .into_iter()
        .filter_map(|(list, flag)| list.contains(endpoint).then_some(flag))
        .sum()
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// The address as 16 bytes, see [`Address::to_mapped`].
#[must_use]
pub fn mapped(addr: IpAddr) -> Addr6 {
    match addr {
        IpAddr::V4(addr) => Addr4::from(addr).to_mapped(),
        IpAddr::V6(addr) => addr.into(),
    }
}

impl Tables {
    /// The tables of `services`.
    #[must_use]
    pub fn of(services: &[Service]) -> Self {
        let mut tables = Self {
            services: [ServiceRecord::default()].to_vec(),
            slots4: [Slot::default(); 7].to_vec(),
            slots6: [Slot::default(); 7].to_vec(),
            backends: [BackendRecord::default()].to_vec(),
            ..Self::default()
        };
        for service in services {
            tables.add(service);
        }
        tables
    }

    fn add(&mut self, service: &Service) {
        let id = number(self.services.len());
        let held = if service.held { address_flags::HELD } else { 0 };
        let cluster_ips = service.frontends.iter().map(|frontend| (FrontendKind::ClusterIp, *frontend));
        for (kind, frontend) in cluster_ips.chain(service.others.iter().copied()) {
            let v6 = frontend.is_ipv6();
            let mut addr = frontend.ip();
            if kind == FrontendKind::NodePort {
                addr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
                for node in node_port_addresses(v6) {
                    self.add_address(
                        node,
                        AddressKind::Node,
                        address_flags::NODE_PORTS | address_flags::HELD,
                    );
                }
            } else {
                self.add_address(addr, kind.address(), held);
            }
            let (port, proto) = (Port::new(frontend.port()), service.proto as u8);
            let value = FrontendValue { service: id, kind: kind as u8, pad: [0; 3] };
            match addr {
                IpAddr::V4(addr) => {
                    self.frontends4.insert(FrontendKey::new(addr.into(), port, proto), value);
                }
                IpAddr::V6(addr) => {
                    self.frontends6.insert(FrontendKey::new(addr.into(), port, proto), value);
                }
            }
        }
        for (addr, bits) in service.ranges.iter().flatten() {
            match *addr {
                IpAddr::V4(addr) => {
                    self.ranges4.insert(SourceRangeKey::new(id, addr.into(), *bits));
                }
                IpAddr::V6(addr) => {
                    self.ranges6.insert(SourceRangeKey::new(id, addr.into(), *bits));
                }
            }
        }
        let mut ids = BTreeMap::new();
        let Service { cluster, local, serving, retired, .. } = service;
        for endpoint in retired.iter().chain(cluster).chain(local).chain(serving) {
            ids.entry(*endpoint).or_insert_with(|| {
                self.backends.push(BackendRecord {
                    word: BackendWord::new(1, flags(service, endpoint)).0,
                    service: id,
                    family: if endpoint.is_ipv4() { 4 } else { 6 },
                    pad: 0,
                    port: Port::new(endpoint.port()),
                    addr: mapped(endpoint.ip()),
                });
                number(self.backends.len() - 1)
            });
        }
        let cluster = self.block(&service.cluster, &ids);
        let local = self.block(&service.local, &ids);
        let flags: u64 = [
            (service.internal_local, service_flags::INTERNAL_LOCAL),
            (service.external_local, service_flags::EXTERNAL_LOCAL),
            (service.ranges.is_some(), service_flags::SOURCE_RANGES),
        ]
        .into_iter()
        .filter_map(|(set, flag)| set.then_some(flag))
        .sum();
        let flags = service_flags::with_affinity(flags, service.affinity);
        let flags = service_flags::with_new_flow_rate(flags, service.new_flow_rate);
        self.services.push(ServiceRecord {
            cluster: cluster.0,
            local: local.0,
            flags,
            ..ServiceRecord::default()
        });
    }

    /// An address may be several things at once: what a Service has there counts for more than that it is the node's.
    fn add_address(&mut self, addr: IpAddr, kind: AddressKind, flags: u8) {
        let new = AddressValue { kind: kind as u8, flags, pad: [0; 2] };
        let value = match addr {
            IpAddr::V4(addr) => self.addresses4.entry(addr.into()).or_insert(new),
            IpAddr::V6(addr) => self.addresses6.entry(addr.into()).or_insert(new),
        };
        value.kind = value.kind.min(new.kind);
        value.flags |= flags;
    }

    /// Makes backend `id` the `generation`-th that has this id.
    pub fn renew(&mut self, id: u32, generation: u32) {
        let record = usize::try_from(id).ok().and_then(|id| self.backends.get_mut(id));
        let Some(record) = record else { return };
        record.word = BackendWord::new(generation, BackendWord(record.word).flags()).0;
        for slot in self.slots4.iter_mut().filter(|slot| slot.backend == id) {
            slot.generation = generation;
        }
        for slot in self.slots6.iter_mut().filter(|slot| slot.backend == id) {
            slot.generation = generation;
        }
    }

    fn block(&mut self, endpoints: &[SocketAddr], ids: &BTreeMap<SocketAddr, u32>) -> Span {
        let v4 = endpoints.first().is_some_and(SocketAddr::is_ipv4);
        let offset = number(if v4 { self.slots4.len() } else { self.slots6.len() });
        for endpoint in endpoints {
            let (port, backend) = (Port::new(endpoint.port()), ids[endpoint]);
            match endpoint.ip() {
                IpAddr::V4(addr) => self.slots4.push(slot(addr.into(), port, backend)),
                IpAddr::V6(addr) => self.slots6.push(slot(addr.into(), port, backend)),
            }
        }
        Span::new(offset, number(endpoints.len()))
    }
}

/// Where node ports are served: at the node's address among nodes, and at its loopback address.
fn node_port_addresses(v6: bool) -> impl Iterator<Item = IpAddr> {
    let loopback = if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    NODES.own.map(|own| NODES.host(v6, own)).into_iter().chain([loopback])
}

const fn slot<A: Address>(addr: A, port: Port, backend: u32) -> Slot<A> {
    Slot { addr, port, pad: [0; 2], backend, generation: 1 }
}

/// The hash of the flow key of a packet of `proto` from `src` to `dst`, both of one family.
///
/// # Panics
/// If they are not.
#[must_use]
pub fn hash(proto: Proto, src: SocketAddr, dst: SocketAddr) -> u32 {
    fn key<A: Address>(proto: Proto, src: A, dst: A, sport: u16, dport: u16) -> u32 {
        let (sport, dport) = (Port::new(sport), Port::new(dport));
        let tuple = Tuple { src, dst, sport, dport };
        FlowKey::new(tuple, proto as u8).hash()
    }
    let (sport, dport) = (src.port(), dst.port());
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => key(proto, Addr4::from(src), dst.into(), sport, dport),
        (IpAddr::V6(src), IpAddr::V6(dst)) => key(proto, Addr6::from(src), dst.into(), sport, dport),
        _ => panic!("source and destination are of two families"),
    }
}
