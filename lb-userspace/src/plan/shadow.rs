//! The mirror of the tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use lb_common::{AddressValue, BackendWord, FrontendValue, Span, maps};

use super::address::Tally;
use super::op::{FrontendAddr, Op, Scope, SlotEntry};
use super::pool::Pool;
use super::snapshot::{Capacity, half};
use crate::model::{Family, Range as Clients, ServicePortKey};

/// A scope of a service: where its slots are and what is in them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Block {
    pub(super) span: Span,
    pub(super) slots: Arc<[SlotEntry]>,
}

impl Block {
    /// Whether the span names slots that are its own: not beyond the array, not shared with another service.
    pub(super) fn is_sound(&self) -> bool {
        self.slots.len() == self.span.len() as usize
    }

    pub(super) fn run(&self) -> Range<u32> {
        if self.is_sound() { run(self.span) } else { 0..0 }
    }
}

/// The slots that `span` names.
pub(super) const fn run(span: Span) -> Range<u32> {
    span.offset()..span.offset().saturating_add(span.len())
}

/// The backend ids of a service by endpoint, with their words.
pub(super) type Backends = BTreeMap<SocketAddr, (u32, BackendWord)>;

/// One service id that has a name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Service {
    /// `None` if the name makes no sense.
    pub(super) key: Option<ServicePortKey>,
    pub(super) port: u16,
    /// Whether it has a record.
    pub(super) made: bool,
    pub(super) flags: u64,
    pub(super) scopes: [Block; 2],
    /// Sorted.
    pub(super) frontends: Vec<FrontendAddr>,
    pub(super) backends: Backends,
}

impl Service {
    fn gain(&mut self, frontend: FrontendAddr) {
        if let Err(position) = self.frontends.binary_search(&frontend) {
            // Most have one.
            self.frontends.reserve_exact(1);
            self.frontends.insert(position, frontend);
        }
    }

    fn lose(&mut self, frontend: &FrontendAddr) {
        if let Ok(position) = self.frontends.binary_search(frontend) {
            self.frontends.remove(position);
        }
    }
}

/// A backend id.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    /// How often it has been given out.
    pub(super) generation: u32,
    /// Service id and endpoint, if it serves.
    pub(super) owner: Option<(u32, SocketAddr)>,
}

/// An address that is known, or has frontends, or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct KnownAddr {
    /// Its entry in the address tables.
    pub(super) value: Option<AddressValue>,
    /// How many frontends it has.
    pub(super) tally: Tally,
}

/// How much of a table is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    /// Name of the map.
    pub map: &'static str,
    /// Records in use.
    pub entries: u32,
    /// Records that fit.
    pub capacity: u32,
}

/// What the tables hold, as far as it is known: a reading of them and every write since that they have taken.
#[derive(Clone, Debug)]
pub struct Shadow {
    pub(super) node: Arc<str>,
    pub(super) capacity: Capacity,
    pub(super) keys: HashMap<ServicePortKey, u32>,
    pub(super) services: BTreeMap<u32, Service>,
    pub(super) frontends: HashMap<FrontendAddr, FrontendValue>,
    pub(super) addresses: HashMap<IpAddr, KnownAddr>,
    /// Source ranges by service id.
    pub(super) ranges: BTreeSet<(u32, Clients)>,
    /// Entries in the frontend, address and source range tables, by family.
    pub(super) frontend_count: [u32; 2],
    pub(super) address_count: [u32; 2],
    pub(super) range_count: [u32; 2],
    /// By backend id, as far as ids were ever given out.
    pub(super) backends: Vec<Given>,
    pub(super) service_ids: Pool,
    pub(super) backend_ids: Pool,
    pub(super) slots: [Pool; 2],
}

impl Shadow {
    /// Keys of all Service ports in the tables, complete or not.
    pub fn keys(&self) -> impl Iterator<Item = &ServicePortKey> {
        self.keys.keys()
    }

    /// Keys of the Service ports that have backends.
    pub fn keys_with_backends(&self) -> impl Iterator<Item = &ServicePortKey> {
        let services = self.services.values();
        services.filter(|service| !service.backends.is_empty()).filter_map(|service| service.key.as_ref())
    }

    /// The service id of `key`.
    #[must_use]
    pub fn service_id(&self, key: &ServicePortKey) -> Option<u32> {
        self.keys.get(key).copied()
    }

    /// How much of the tables that are arrays is in use, or rests until no program can be reading it.
    #[must_use]
    pub fn used(&self) -> [Use; 4] {
        let Capacity { services, backends, slots: [slots4, slots6], .. } = self.capacity;
        let [pool4, pool6] = &self.slots;
        [
            (maps::SERVICES_MAP, &self.service_ids, services),
            (maps::BACKENDS_MAP, &self.backend_ids, backends),
            (maps::SLOTS4, pool4, slots4),
            (maps::SLOTS6, pool6, slots6),
        ]
        .map(|(map, pool, capacity)| Use { map, entries: pool.taken(), capacity })
    }

    /// The Service port that holds `frontend`.
    #[must_use]
    pub fn holder(&self, frontend: &FrontendAddr) -> Option<&ServicePortKey> {
        let value = self.frontends.get(frontend)?;
        self.services.get(&value.service)?.key.as_ref()
    }

    /// The source ranges of service `id`.
    pub(super) fn ranges_of(&self, id: u32) -> impl Iterator<Item = Clients> {
        let first = Clients { addr: Ipv4Addr::UNSPECIFIED.into(), bits: 0 };
        self.ranges.range((id, first)..).map_while(move |(owner, range)| (*owner == id).then_some(*range))
    }

    /// Whether `addr` is a Service's as a whole and marked as held by an interface of this node: left to the host.
    #[must_use]
    pub fn is_held(&self, addr: &IpAddr) -> bool {
        self.addresses.get(addr).and_then(|known| known.value).is_some_and(|value| value.is_left())
    }

    /// Whether no id and no slot is in use or resting.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        [&self.service_ids, &self.backend_ids].into_iter().chain(&self.slots).all(Pool::is_untouched)
    }

    /// A grace period begins; `false` if nothing waits for one.
    pub fn begin_grace(&mut self) -> bool {
        self.pools().map(Pool::begin_grace).fold(false, |any, one| any | one)
    }

    /// The grace period has ended: what had been given back before it began can be handed out. `true` if that is anything.
    pub fn end_grace(&mut self) -> bool {
        self.pools().map(Pool::end_grace).fold(false, |any, one| any | one)
    }

    fn pools(&mut self) -> impl Iterator<Item = &mut Pool> {
        [&mut self.service_ids, &mut self.backend_ids].into_iter().chain(&mut self.slots)
    }

    /// Notes that the tables have taken `op`.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::PutMeta { id, key, port } => {
                self.service_ids.take(one(*id));
                self.keys.insert(key.clone(), *id);
                let service = self.services.entry(*id).or_default();
                service.key = Some(key.clone());
                service.port = *port;
            }
            Op::PutBackend { id, service, addr, word } => {
                self.backend_ids.take(one(*id));
                *self.given(*id) = Given { generation: word.generation(), owner: Some((*service, *addr)) };
                if let Some(service) = self.services.get_mut(service) {
                    service.backends.insert(*addr, (*id, *word));
                }
            }
            // A run of slots is in use when a span names it; until then its content is nobody's.
            Op::PutSlots { .. } => {}
            Op::PutService { id, spans, slots, flags, cursor: _ } => {
                for ((scope, span), slots) in Scope::ALL.into_iter().zip(*spans).zip(slots) {
                    self.turn(*id, scope, Block { span, slots: slots.clone() });
                }
                if let Some(service) = self.services.get_mut(id) {
                    (service.made, service.flags) = (true, *flags);
                }
            }
            Op::SetSpan { id, scope, span, slots } => {
                self.turn(*id, *scope, Block { span: *span, slots: slots.clone() });
            }
            Op::SetFlags { id, flags } => {
                if let Some(service) = self.services.get_mut(id) {
                    service.flags = *flags;
                }
            }
            Op::PutRange { id, range } => {
                if self.ranges.insert((*id, *range)) {
                    self.range_count[half(range.family())] += 1;
                }
            }
            Op::DeleteRange { id, range } => {
                if self.ranges.remove(&(*id, *range)) {
                    self.range_count[half(range.family())] -= 1;
                }
            }
            Op::PutFrontend { frontend, value } => self.put_frontend(*frontend, *value),
            Op::PutAddress { addr, value } => self.set_address(*addr, Some(*value)),
            Op::DeleteAddress { addr } => self.set_address(*addr, None),
            Op::DeleteFrontend { frontend } => self.delete_frontend(frontend),
            Op::ClearService { id } => {
                for scope in Scope::ALL {
                    self.turn(*id, scope, Block::default());
                }
                if let Some(service) = self.services.get_mut(id) {
                    (service.made, service.flags) = (false, 0);
                }
            }
            Op::SetBackend { id, word } if word.serving() => self.set_backend(*id, *word),
            Op::SetBackend { id, .. } => self.stop_backend(*id),
            Op::DeleteMeta { id } => {
                if let Some(key) = self.services.remove(id).and_then(|service| service.key)
                    && self.keys.get(&key) == Some(id)
                {
                    self.keys.remove(&key);
                }
                self.service_ids.release(one(*id));
            }
        }
    }

    /// Notes that `op` failed and may have been taken all the same. Until the tables have been read again, what it publishes
    /// is not handed out, and an address that it removes counts as gone: another Service port may need it.
    pub fn doubt(&mut self, op: &Op) {
        match op {
            Op::PutMeta { id, .. } => {
                self.service_ids.take(one(*id));
            }
            Op::PutBackend { id, .. } => {
                self.backend_ids.take(one(*id));
            }
            Op::PutService { id, spans, .. } => self.withhold(*id, spans),
            Op::SetSpan { id, span, .. } => self.withhold(*id, &[*span]),
            Op::DeleteAddress { addr } => self.set_address(*addr, None),
            _ => {}
        }
    }

    fn withhold(&mut self, id: u32, spans: &[Span]) {
        if let Some(family) = self.family(id) {
            for span in spans {
                self.slots[half(family)].take(run(*span));
            }
        }
    }

    fn family(&self, id: u32) -> Option<Family> {
        Some(self.services.get(&id)?.key.as_ref()?.family)
    }

    fn turn(&mut self, id: u32, scope: Scope, block: Block) {
        let family = self.family(id);
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut service.scopes[scope as usize], block);
        let Some(family) = family else { return };
        let pool = &mut self.slots[half(family)];
        for block in &service.scopes {
            // False where the run is this service's already.
            pool.take(block.run());
        }
        if service.scopes.iter().all(|block| block.run() != old.run()) {
            pool.release(old.run());
        }
    }

    fn put_frontend(&mut self, frontend: FrontendAddr, value: FrontendValue) {
        let tally = &mut self.addresses.entry(frontend.addr.ip()).or_default().tally;
        tally.add(value.kind);
        match self.frontends.insert(frontend, value) {
            Some(old) => {
                tally.remove(old.kind);
                if old.service != value.service
                    && let Some(loser) = self.services.get_mut(&old.service)
                {
                    loser.lose(&frontend);
                }
            }
            None => self.frontend_count[half_of(frontend.addr.ip())] += 1,
        }
        if let Some(service) = self.services.get_mut(&value.service) {
            service.gain(frontend);
        }
    }

    fn delete_frontend(&mut self, frontend: &FrontendAddr) {
        let Some(old) = self.frontends.remove(frontend) else {
            return;
        };
        let addr = frontend.addr.ip();
        self.frontend_count[half_of(addr)] -= 1;
        if let Some(known) = self.addresses.get_mut(&addr) {
            known.tally.remove(old.kind);
            if *known == KnownAddr::default() {
                self.addresses.remove(&addr);
            }
        }
        if let Some(service) = self.services.get_mut(&old.service) {
            service.lose(frontend);
        }
    }

    fn set_address(&mut self, addr: IpAddr, value: Option<AddressValue>) {
        let known = self.addresses.entry(addr).or_default();
        let count = &mut self.address_count[half_of(addr)];
        match (std::mem::replace(&mut known.value, value), value) {
            (None, Some(_)) => *count += 1,
            (Some(_), None) => *count -= 1,
            _ => {}
        }
        if *known == KnownAddr::default() {
            self.addresses.remove(&addr);
        }
    }

    /// How often `backend` has been given out.
    pub(super) fn generation(&self, backend: u32) -> u32 {
        self.backends.get(backend as usize).map_or(0, |given| given.generation)
    }

    /// What is known of `backend`, to be changed. Ids come from the tables, which are no longer than they are.
    pub(super) fn given(&mut self, backend: u32) -> &mut Given {
        let index = backend as usize;
        if index >= self.backends.len() {
            self.backends.resize(index + 1, Given::default());
        }
        &mut self.backends[index]
    }

    fn set_backend(&mut self, id: u32, word: BackendWord) {
        let Some((service, addr)) = self.given(id).owner else {
            return;
        };
        if let Some(service) = self.services.get_mut(&service)
            && let Some((other, known)) = service.backends.get_mut(&addr)
            && *other == id
        {
            *known = word;
        }
    }

    fn stop_backend(&mut self, id: u32) {
        let Some((service, addr)) = self.given(id).owner.take() else {
            return;
        };
        if let Some(service) = self.services.get_mut(&service)
            && service.backends.get(&addr).is_some_and(|(other, _)| *other == id)
        {
            service.backends.remove(&addr);
        }
        self.backend_ids.release(one(id));
    }
}

pub(super) const fn one(id: u32) -> Range<u32> {
    id..id.saturating_add(1)
}

pub(super) const fn half_of(addr: IpAddr) -> usize {
    half(Family::of(&addr))
}
