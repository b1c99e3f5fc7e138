//! From a reading of the tables to their mirror, and what in them belongs to nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use lb_common::{Addr4, Address as _, BackendRecord, BackendWord, ServiceRecord, Span};

use super::address::{Ledger, Own};
use super::diff::removal;
use super::meta::decode_meta;
use super::op::Op;
use super::pool::Pool;
use super::publish::unpublish;
use super::shadow::{Block, Given, Service, Shadow, one};
use super::snapshot::{Capacity, ServiceEntry, Snapshot, half};

impl Shadow {
    /// The mirror of what was read. `node` is the node's name: the rotation of a new Service port begins at a hash of both names.
    ///
    /// Nothing in a reading is an error. What contradicts itself is mirrored as wrong, and the next plan of the Service
    /// port puts it right, or it is among the [strays](Shadow::strays).
    #[must_use]
    pub fn new(snapshot: Snapshot, node: &str) -> Self {
        let mut shadow = Self::empty(snapshot.capacity, node.into());
        shadow.adopt(snapshot);
        shadow
    }

    /// Becomes the mirror of what was read again. Ids and slots that were in use or resting before and are free now rest.
    pub fn renew(&mut self, snapshot: Snapshot) {
        let empty = Self::empty(snapshot.capacity, self.node.clone());
        // The rest goes at once: there is never room for two mirrors.
        let Self { service_ids, backend_ids, slots, .. } = mem::replace(self, empty);
        self.adopt(snapshot);
        self.service_ids.inherit(&service_ids);
        self.backend_ids.inherit(&backend_ids);
        for (pool, old) in self.slots.iter_mut().zip(&slots) {
            pool.inherit(old);
        }
    }

    fn adopt(&mut self, snapshot: Snapshot) {
        let Snapshot { capacity: _, mut services, backends, frontends, addresses, ranges } = snapshot;
        // The lower id wins where two have the same name.
        services.sort_by_key(|entry| entry.id);
        for entry in services {
            self.adopt_service(entry);
        }
        for (id, record) in backends {
            self.adopt_backend(id, &record);
        }
        for (frontend, value) in frontends {
            self.apply(&Op::PutFrontend { frontend, value });
        }
        for (addr, value) in addresses {
            self.apply(&Op::PutAddress { addr, value });
        }
        for (id, range) in ranges {
            self.apply(&Op::PutRange { id, range });
        }
    }

    fn empty(capacity: Capacity, node: Arc<str>) -> Self {
        Self {
            node,
            capacity,
            keys: HashMap::new(),
            services: BTreeMap::new(),
            frontends: HashMap::new(),
            addresses: HashMap::new(),
            ranges: BTreeSet::new(),
            frontend_count: [0; 2],
            address_count: [0; 2],
            range_count: [0; 2],
            backends: Vec::new(),
            service_ids: Pool::new(0..capacity.services),
            backend_ids: Pool::new(1..capacity.backends),
            slots: capacity.slots.map(|slots| Pool::new(0..slots)),
        }
    }

    fn adopt_service(&mut self, entry: ServiceEntry) {
        let ServiceEntry { id, meta, record, slots } = entry;
        self.service_ids.take(one(id));
        let mut service =
            Service { made: record != ServiceRecord::default(), flags: record.flags, ..Service::default() };
        let spans = [record.cluster, record.local].map(Span);
        for ((block, span), slots) in service.scopes.iter_mut().zip(spans).zip(slots) {
            *block = Block { span, slots };
        }
        if let Some((key, port)) = decode_meta(&meta) {
            let pool = &mut self.slots[half(key.family)];
            let [cluster, local] = &mut service.scopes;
            let shared = cluster.run() == local.run();
            let cluster_is_mine = pool.take(cluster.run()) || cluster.run().is_empty();
            let local_is_mine =
                if shared { cluster_is_mine } else { pool.take(local.run()) || local.run().is_empty() };
            for (block, mine) in [(cluster, cluster_is_mine), (local, local_is_mine)] {
                if !mine {
                    block.slots = Arc::default();
                }
            }
            self.keys.entry(key.clone()).or_insert(id);
            (service.key, service.port) = (Some(key), port);
        } else {
            for block in &mut service.scopes {
                block.slots = Arc::default();
            }
        }
        self.services.insert(id, service);
    }

    fn adopt_backend(&mut self, id: u32, record: &BackendRecord) {
        let word = BackendWord(record.word);
        let owner = word.serving().then(|| (record.service, endpoint(record)));
        *self.given(id) = Given { generation: word.generation(), owner };
        let Some((_, addr)) = owner else { return };
        self.backend_ids.take(one(id));
        if let Some(service) = self.services.get_mut(&record.service) {
            service.backends.entry(addr).or_insert((id, word));
        }
    }

    /// The operations that remove what no Service port owns: second bearers of a name, frontends, source ranges and
    /// backends of services without a name. Reads everything; for after a reading. `own`: the node's addresses.
    #[must_use]
    pub fn strays(&self, own: &Own) -> Vec<Op> {
        let owned = |id: &u32, service: &Service| {
            service.key.as_ref().is_some_and(|key| self.keys.get(key) == Some(id))
        };
        let mut ops = Vec::new();
        for (id, _) in self.services.iter().filter(|(id, service)| !owned(id, service)) {
            ops.extend(removal(self, *id, own));
        }
        let nameless = |service: u32| !self.services.contains_key(&service);
        let frontends = self.frontends.iter().filter(|(_, value)| nameless(value.service));
        let frontends = frontends.map(|(frontend, _)| *frontend);
        ops.extend(unpublish(self, frontends, &mut Ledger::new(self, own)));
        let ranges = self.ranges.iter().filter(|(id, _)| nameless(*id));
        ops.extend(ranges.map(|(id, range)| Op::DeleteRange { id: *id, range: *range }));
        for (id, given) in (0..).zip(&self.backends) {
            let Some((service, addr)) = &given.owner else { continue };
            let owner = self.services.get(service).and_then(|service| service.backends.get(addr));
            if owner.is_none_or(|(owner, _)| *owner != id) {
                ops.push(self.stop(id));
            }
        }
        ops
    }

    pub(super) fn stop(&self, id: u32) -> Op {
        Op::SetBackend { id, word: BackendWord::new(self.generation(id), 0) }
    }
}

/// The endpoint that a record names.
fn endpoint(record: &BackendRecord) -> SocketAddr {
    let port = record.port.number();
    match Addr4::from_mapped(&record.addr) {
        Some(addr) if record.family == 4 => SocketAddr::new(addr.into(), port),
        _ => SocketAddr::new(Ipv6Addr::from(record.addr.0).into(), port),
    }
}
