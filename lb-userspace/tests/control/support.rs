//! Service ports to desire, and the tables as a person would read them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::backend_flags::{CLUSTER, LOCAL, SERVING};
use lb_common::{AddressKind, BackendWord, FrontendKind, Proto, ServiceRecord, Span, service_flags};
use lb_userspace::model::{Family, Frontend, Range, ServicePort, ServicePortKey};
use lb_userspace::plan::{Capacity, Op, Snapshot, decode_meta, frontends_of};
use lb_userspace::reconcile::{Change, Outcome, Reconciler};
use lb_userspace::tables::Tables;

pub(crate) const NODE: &str = "node-1";

pub(crate) const ROOMY: Capacity = room(64, 256, 512);

/// Room for so many Service ports, each with one frontend, address and source range; backends and slots besides.
pub(crate) const fn room(services: u32, backends: u32, slots: u32) -> Capacity {
    let each = [services; 2];
    Capacity { services, backends, slots: [slots; 2], frontends: each, addresses: each, ranges: each }
}

/// What is desired, by Service port.
pub(crate) type Desired = BTreeMap<ServicePortKey, ServicePort>;

/// TCP port `port_name` of Service `name`; of the family of `frontend`.
pub(crate) fn key(name: &str, frontend: &str) -> ServicePortKey {
    ServicePortKey {
        namespace: "default".into(),
        name: name.into(),
        port_name: "http".into(),
        proto: Proto::Tcp,
        family: Family::of(&endpoint(frontend).ip()),
    }
}

pub(crate) fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn endpoints(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|text| endpoint(text)).collect()
}

/// A Service port at `frontend` whose `ready` endpoints are all on other nodes.
pub(crate) fn service(frontend: &str, ready: &[&str]) -> ServicePort {
    let frontend = endpoint(frontend);
    ServicePort {
        port: frontend.port(),
        frontends: vec![Frontend {
            addr: frontend.ip(),
            port: frontend.port(),
            kind: FrontendKind::ClusterIp,
        }],
        cluster: endpoints(ready),
        local: Vec::new(),
        serving: endpoints(ready),
        internal_local: false,
        affinity: None,
        new_flow_rate: None,
        external: None,
    }
}

/// One Service port as the tables, or the desire, have it; ids left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct View {
    port: u16,
    internal_local: bool,
    external_local: bool,
    /// `None`: everybody may use its load balancers.
    clients: Option<BTreeSet<Range>>,
    affinity: u32,
    new_flow_rate: u32,
    cluster: Vec<SocketAddr>,
    local: Vec<SocketAddr>,
    /// With what their words say.
    serving: BTreeMap<SocketAddr, u32>,
    /// With the numbers of their kinds.
    frontends: BTreeMap<SocketAddr, u8>,
}

/// All Service ports, and the known addresses with the numbers of their kinds.
pub(crate) type Views = (BTreeMap<ServicePortKey, View>, BTreeMap<IpAddr, u8>);

pub(crate) fn views_of(desired: &Desired) -> Views {
    let view = |key: &ServicePortKey, service: &ServicePort| View {
        port: service.port,
        internal_local: service.internal_local,
        external_local: service.external.as_ref().is_some_and(|external| external.local),
        clients: service
            .external
            .as_ref()
            .and_then(|external| Some(external.source_ranges.clone()?.into_iter().collect())),
        affinity: service.affinity.map_or(0, NonZeroU32::get),
        new_flow_rate: service.new_flow_rate.map_or(0, NonZeroU32::get),
        cluster: service.cluster.clone(),
        local: service.local.clone(),
        serving: service.serving.iter().map(|addr| (*addr, flags(addr, service))).collect(),
        frontends: frontends_of(key, service).map(|(at, kind)| (at.addr, kind as u8)).collect(),
    };
    let mut addresses = BTreeMap::new();
    for (at, kind) in desired.iter().flat_map(|(key, service)| frontends_of(key, service)) {
        if kind != FrontendKind::NodePort {
            let known = addresses.entry(at.addr.ip()).or_insert(kind.address() as u8);
            // What is a ClusterIP besides is one.
            *known = (*known).min(kind.address() as u8);
        }
    }
    (desired.iter().map(|(key, service)| (key.clone(), view(key, service))).collect(), addresses)
}

/// What the word of the endpoint `addr` has to say.
fn flags(addr: &SocketAddr, service: &ServicePort) -> u32 {
    let flag = |list: &[SocketAddr], flag| if list.contains(addr) { flag } else { 0 };
    SERVING | flag(&service.cluster, CLUSTER) | flag(&service.local, LOCAL)
}

/// Reads the tables as the datapath would and panics where it would lose its way, or reject what is no Service's.
pub(crate) fn check(snapshot: &Snapshot) -> Views {
    let (views, addresses) = check_paths(snapshot);
    for (addr, kind) in addresses.iter().filter(|(_, kind)| **kind != AddressKind::Node as u8) {
        let mut there = snapshot.frontends.iter().filter(|(f, _)| f.addr.ip() == *addr);
        let fits = |value: u8| FrontendKind::from_number(value).map(|it| it.address() as u8) == Some(*kind);
        assert!(there.any(|(_, value)| fits(value.kind)), "{addr} has a frontend of its kind");
    }
    (views, addresses)
}

/// Reads the tables as the datapath would and panics where it would lose its way.
pub(crate) fn check_paths(snapshot: &Snapshot) -> Views {
    let backends: BTreeMap<_, _> = snapshot.backends.iter().copied().collect();
    let mut keys = BTreeMap::new();
    let mut made = BTreeSet::new();
    let mut views = BTreeMap::new();
    let mut runs: [BTreeSet<(u32, u32)>; 2] = Default::default();
    for entry in &snapshot.services {
        let (key, port) = decode_meta(&entry.meta).expect("names make sense");
        let spans = [entry.record.cluster, entry.record.local].map(Span);
        let mut scopes = Vec::new();
        for ((span, slots), scope) in spans.into_iter().zip(&entry.slots).zip([CLUSTER, LOCAL]) {
            assert_eq!(slots.len(), span.len() as usize, "{key}: the span lies in the array");
            for slot in slots.iter() {
                let record = backends.get(&slot.backend).expect("a slot names a backend");
                let word = BackendWord(record.word);
                assert_eq!(
                    (word.generation(), record.service),
                    (slot.generation, entry.id),
                    "{key}: {slot:?}"
                );
                // Session affinity asks the word whether the scope has the backend (B65).
                assert!(word.has(SERVING | scope), "{key}: {slot:?}, {word:?}");
                assert_eq!(record.port.number(), slot.addr.port(), "{key}: slot {slot:?}");
            }
            scopes.push(slots.iter().map(|slot| slot.addr).collect::<Vec<_>>());
        }
        let half = usize::from(key.family == Family::V6);
        let own: BTreeSet<_> =
            spans.iter().filter(|span| !span.is_empty()).map(|s| (s.offset(), s.len())).collect();
        runs[half].extend(own);
        if entry.record != ServiceRecord::default() {
            made.insert(entry.id);
        }
        let serving = snapshot
            .backends
            .iter()
            .filter(|(_, record)| record.service == entry.id && BackendWord(record.word).serving());
        let address = |record: lb_common::BackendRecord| match key.family {
            Family::V4 => std::net::Ipv6Addr::from(record.addr.0).to_ipv4_mapped().unwrap().into(),
            Family::V6 => IpAddr::from(record.addr.0),
        };
        let view = View {
            port,
            internal_local: entry.record.flags & service_flags::INTERNAL_LOCAL != 0,
            external_local: entry.record.flags & service_flags::EXTERNAL_LOCAL != 0,
            clients: (entry.record.flags & service_flags::SOURCE_RANGES != 0).then(|| {
                let own = snapshot.ranges.iter().filter(|(id, _)| *id == entry.id);
                own.map(|(_, range)| *range).collect()
            }),
            affinity: service_flags::affinity(entry.record.flags),
            new_flow_rate: service_flags::new_flow_rate(entry.record.flags),
            local: scopes.pop().unwrap(),
            cluster: scopes.pop().unwrap(),
            serving: serving
                .map(|(_, record)| {
                    let addr = SocketAddr::new(address(*record), record.port.number());
                    (addr, BackendWord(record.word).flags())
                })
                .collect(),
            frontends: BTreeMap::new(),
        };
        assert!(keys.insert(entry.id, key.clone()).is_none());
        assert!(views.insert(key, view).is_none(), "a name has one id");
    }
    for runs in runs {
        let runs: Vec<_> = runs.into_iter().collect();
        assert!(
            runs.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0),
            "no slot is in two runs: {runs:?}"
        );
    }
    for (frontend, value) in &snapshot.frontends {
        let key = keys.get(&value.service).unwrap_or_else(|| panic!("{frontend} names a service"));
        assert!(made.contains(&value.service), "{frontend} names a service with a record");
        views.get_mut(key).unwrap().frontends.insert(frontend.addr, value.kind);
    }
    for (id, range) in &snapshot.ranges {
        assert!(keys.contains_key(id), "{range} is of a service");
    }
    let addresses = snapshot.addresses.iter().map(|(addr, value)| (*addr, value.kind)).collect();
    (views, addresses)
}

/// The whole of `desired`, as the first change.
pub(crate) fn replace(desired: &Desired) -> Change {
    Change::Replace(
        desired.iter().map(|(key, service)| (key.clone(), Some(service.clone().into()))).collect(),
    )
}

/// What turns `old` into `new`.
pub(crate) fn update(old: &Desired, new: &Desired) -> Change {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    Change::Update(changed.map(|key| (key.clone(), new.get(key).cloned().map(Arc::new))).collect())
}

/// Steps, with time passing and grace periods ending, until there is nothing more to do; at most 1,000 times.
pub(crate) fn settle<T: Tables>(reconciler: &mut Reconciler<T>, now: &mut Instant) -> Outcome {
    let mut total = Outcome::default();
    for _ in 0..1000 {
        while let Some(grace) = reconciler.begin_grace() {
            grace();
            reconciler.end_grace();
        }
        let Some(due) = reconciler.due(*now) else {
            return total;
        };
        *now = due.max(*now + Duration::from_micros(1));
        let outcome = reconciler.step(*now);
        total.operations += outcome.operations;
        total.repairs += outcome.repairs;
    }
    panic!("still not settled: {:?}", reconciler.report());
}

/// Adopts `tables` and programs `desired`.
pub(crate) fn started<T: Tables>(tables: T, desired: &Desired) -> Reconciler<T> {
    let mut reconciler = Reconciler::adopt(tables, NODE).unwrap();
    reconciler.desire(replace(desired));
    reconciler.step(Instant::now());
    reconciler
}

/// An operation in a few words.
pub(crate) fn brief(op: &Op) -> String {
    let names = |slots: &[lb_userspace::plan::SlotEntry]| -> Vec<u32> {
        slots.iter().map(|slot| slot.backend).collect()
    };
    let at = |span: &Span| format!("{}+{}", span.offset(), span.len());
    match op {
        Op::PutMeta { id, key, port } => format!("meta {id} {key} {port}"),
        Op::PutBackend { id, service, addr, word } => {
            format!("backend {id} {service} {addr} #{} {}", word.generation(), word.flags())
        }
        Op::SetBackend { id, word } if word.serving() => format!("backend {id} {}", word.flags()),
        Op::PutSlots { family, offset, slots } => format!("slots {family} {offset} {:?}", names(slots)),
        Op::PutService { id, spans, .. } => format!("service {id} {} {}", at(&spans[0]), at(&spans[1])),
        Op::SetSpan { id, scope, span, .. } => format!("span {id} {scope:?} {}", at(span)),
        Op::SetFlags { id, flags } => format!("flags {id} {flags}"),
        Op::PutRange { id, range } => format!("range {id} {range}"),
        Op::DeleteRange { id, range } => format!("-range {id} {range}"),
        Op::PutFrontend { frontend, value } => {
            let kind = FrontendKind::from_number(value.kind).unwrap();
            let kind = if kind == FrontendKind::ClusterIp { "" } else { &format!(" {}", kind.name()) };
            format!("frontend {frontend} {}{kind}", value.service)
        }
        Op::PutAddress { addr, value } if (value.kind, value.flags) == (0, 0) => format!("address {addr}"),
        Op::PutAddress { addr, value } => format!("address {addr} {} {}", value.kind, value.flags),
        Op::DeleteAddress { addr } => format!("-address {addr}"),
        Op::DeleteFrontend { frontend } => format!("-frontend {frontend}"),
        Op::ClearService { id } => format!("-service {id}"),
        Op::SetBackend { id, .. } => format!("-backend {id}"),
        Op::DeleteMeta { id } => format!("-meta {id}"),
    }
}
