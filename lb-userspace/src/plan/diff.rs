//! The difference between a Service port as it is and as it should be, as ordered writes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use lb_common::{BackendWord, Span, backend_flags, service_flags};

use super::address::{Ledger, Own};
use super::op::{FrontendAddr, Op, Scope, SlotEntry};
use super::publish::unpublish;
use super::room::{NoRoom, Table};
use super::shadow::{Backends, Block, Service, Shadow};
use super::snapshot::half;
use crate::model::{Family, ServicePort, ServicePortKey};

/// The writes, in the order in which they must be made, that turn what `shadow` holds of `key` into `desired`; none if
/// they are equal already. A frontend that another Service port holds is taken over. One that this Service port loses
/// goes, unless it is `spared` because another one is about to take it over: it would be absent in between. `own`: the
/// node's addresses.
///
/// Work and memory grow with the size of this Service port alone.
///
/// # Errors
/// Something that is new does not fit. Nothing is to be written then.
pub fn plan(
    shadow: &Shadow,
    key: &ServicePortKey,
    desired: Option<&ServicePort>,
    spared: impl Fn(&FrontendAddr) -> bool,
    own: &Own,
) -> Result<Vec<Op>, NoRoom> {
    let id = shadow.service_id(key);
    let Some(desired) = desired else {
        return Ok(id.map_or_else(Vec::new, |id| removal(shadow, id, own)));
    };
    let nothing = Service::default();
    let current = id.and_then(|id| shadow.services.get(&id));
    let planner = Planner {
        shadow,
        key,
        desired,
        in_use: current.is_some(),
        current: current.unwrap_or(&nothing),
        own,
    };
    let id = match id.or_else(|| shadow.service_ids.singles().next()) {
        Some(id) => id,
        None => return Err(planner.no_room(Table::Services, 1, 0)),
    };
    planner.plan(id, spared)
}

/// The writes that remove service `id`.
pub(super) fn removal(shadow: &Shadow, id: u32, own: &Own) -> Vec<Op> {
    let Some(service) = shadow.services.get(&id) else {
        return Vec::new();
    };
    let mut ops = unpublish(shadow, service.frontends.iter().copied(), &mut Ledger::new(shadow, own));
    if service.made {
        ops.push(Op::ClearService { id });
    }
    ops.extend(shadow.ranges_of(id).map(|range| Op::DeleteRange { id, range }));
    ops.extend(service.backends.values().map(|(backend, _)| shadow.stop(*backend)));
    ops.push(Op::DeleteMeta { id });
    ops
}

/// The turn of one Service port.
pub(super) struct Planner<'a> {
    pub(super) shadow: &'a Shadow,
    pub(super) key: &'a ServicePortKey,
    pub(super) desired: &'a ServicePort,
    pub(super) current: &'a Service,
    in_use: bool,
    pub(super) own: &'a Own,
}

impl Planner<'_> {
    fn plan(&self, id: u32, spared: impl Fn(&FrontendAddr) -> bool) -> Result<Vec<Op>, NoRoom> {
        let mut ops = Vec::new();
        if !self.in_use || self.current.port != self.desired.port {
            ops.push(Op::PutMeta { id, key: self.key.clone(), port: self.desired.port });
        }
        let backends = self.put_backends(id, &mut ops)?;
        let ranges = self.ranges();
        self.put_ranges(id, &ranges, &mut ops)?;
        let flags = self.flags();
        // What guards a frontend is there before it, and stays for as long.
        let guarded = flags | self.current.flags & service_flags::SOURCE_RANGES;
        self.put_scopes(id, &backends, guarded, &mut ops)?;
        self.put_frontends(id, spared, &mut ops)?;
        if guarded != flags {
            ops.push(Op::SetFlags { id, flags });
        }
        let gone = self.shadow.ranges_of(id).filter(|range| !ranges.contains(range));
        ops.extend(gone.map(|range| Op::DeleteRange { id, range }));
        let stopped = self.current.backends.iter().filter(|(addr, _)| !backends.contains_key(addr));
        // No scope shows a backend any more that loses its flag: until then session affinity may go on using it (B65).
        for (addr, (backend, word)) in &backends {
            if self.current.backends.get(addr).is_some_and(|(_, old)| old.flags() & !word.flags() != 0) {
                ops.push(Op::SetBackend { id: *backend, word: *word });
            }
        }
        // Last: a datagram flow chooses again as soon as its backend stops, and must then find the new selection (B100).
        ops.extend(stopped.map(|(_, (backend, _))| self.shadow.stop(*backend)));
        Ok(ops)
    }

    /// What the record says beside the scopes.
    fn flags(&self) -> u64 {
        let ServicePort { internal_local, external, affinity, new_flow_rate, .. } = self.desired;
        let external = external.as_deref();
        let flags = [
            (*internal_local, service_flags::INTERNAL_LOCAL),
            (external.is_some_and(|external| external.local), service_flags::EXTERNAL_LOCAL),
            (self.desired.is_guarded(), service_flags::SOURCE_RANGES),
        ];
        let set = flags.into_iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        let set = service_flags::with_affinity(set, affinity.map_or(0, NonZeroU32::get));
        service_flags::with_new_flow_rate(set, new_flow_rate.map_or(0, NonZeroU32::get))
    }

    pub(super) fn no_room(&self, table: Table, needed: usize, free: u32) -> NoRoom {
        NoRoom { table, needed: u32::try_from(needed).unwrap_or(u32::MAX), free, in_use: self.in_use }
    }

    fn of_family<'a>(&self, endpoints: &'a [SocketAddr]) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let family = self.key.family;
        endpoints.iter().copied().filter(move |addr| Family::of(&addr.ip()) == family)
    }

    fn put_backends(&self, id: u32, ops: &mut Vec<Op>) -> Result<Backends, NoRoom> {
        let ServicePort { serving, cluster, local, .. } = self.desired;
        let mut wanted: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for (list, flag) in [(serving, 0), (cluster, backend_flags::CLUSTER), (local, backend_flags::LOCAL)] {
            for addr in self.of_family(list) {
                *wanted.entry(addr).or_insert(backend_flags::SERVING) |= flag;
            }
        }
        let known = |addr: &SocketAddr| self.current.backends.get(addr).copied();
        let needed = wanted.keys().filter(|addr| known(addr).is_none()).count();
        let pool = &self.shadow.backend_ids;
        if needed > pool.available() as usize {
            return Err(self.no_room(Table::Backends, needed, pool.available()));
        }
        let mut fresh = pool.singles();
        let mut backends = Backends::new();
        for (addr, flags) in wanted {
            let backend = match known(&addr) {
                Some((backend, old)) => {
                    // A flag is set before the scope shows the backend, and stays until it no longer does.
                    if flags & !old.flags() != 0 {
                        let word = BackendWord::new(old.generation(), flags | old.flags());
                        ops.push(Op::SetBackend { id: backend, word });
                    }
                    (backend, BackendWord::new(old.generation(), flags))
                }
                None => {
                    let Some(backend) = fresh.next() else { continue };
                    let last = self.shadow.generation(backend);
                    let word = BackendWord::new(last.wrapping_add(1), flags);
                    ops.push(Op::PutBackend { id: backend, service: id, addr, word });
                    (backend, word)
                }
            };
            backends.insert(addr, backend);
        }
        Ok(backends)
    }

    fn put_scopes(&self, id: u32, backends: &Backends, flags: u64, ops: &mut Vec<Op>) -> Result<(), NoRoom> {
        let contents = [&self.desired.cluster, &self.desired.local].map(|list| {
            let distinct: BTreeSet<_> = self.of_family(list).collect();
            let entry = |addr| {
                let entry = |&(backend, word): &(u32, BackendWord)| SlotEntry {
                    addr,
                    backend,
                    generation: word.generation(),
                };
                backends.get(&addr).map(entry)
            };
            distinct.into_iter().filter_map(entry).collect::<Vec<_>>()
        });
        let current = &self.current.scopes;
        let stays = [0, 1].map(|i: usize| current[i].is_sound() && *current[i].slots == *contents[i]);
        // A scope that changes takes over the other's run if it has the same content and is there to stay.
        let mut settled: Vec<Block> = (0..2).filter(|i| stays[*i]).map(|i| current[i].clone()).collect();
        let mut taken = 0..0;
        let mut blocks: [Block; 2] = current.clone();
        for i in (0..2).filter(|i| !stays[*i]) {
            let content = &contents[i];
            blocks[i] = if content.is_empty() {
                Block::default()
            } else if let Some(same) = settled.iter().find(|block| *block.slots == **content) {
                same.clone()
            } else {
                let block = self.fresh_block(content, &taken)?;
                let (offset, slots) = (block.span.offset(), block.slots.clone());
                ops.push(Op::PutSlots { family: self.key.family, offset, slots });
                taken = block.run();
                settled.push(block.clone());
                block
            };
        }
        let [cluster, local] = blocks;
        if !self.current.made {
            ops.push(Op::PutService {
                id,
                spans: [cluster.span, local.span],
                slots: [cluster.slots, local.slots],
                flags,
                cursor: cursor_start(&self.shadow.node, self.key),
            });
            return Ok(());
        }
        for ((scope, block), stays) in Scope::ALL.into_iter().zip([cluster, local]).zip(stays) {
            if !stays {
                let Block { span, slots } = block;
                ops.push(Op::SetSpan { id, scope, span, slots });
            }
        }
        if self.current.flags != flags {
            ops.push(Op::SetFlags { id, flags });
        }
        Ok(())
    }

    fn fresh_block(&self, content: &[SlotEntry], taken: &std::ops::Range<u32>) -> Result<Block, NoRoom> {
        let pool = &self.shadow.slots[half(self.key.family)];
        let found = u32::try_from(content.len()).ok().and_then(|len| Some((pool.find(len, taken)?, len)));
        match found {
            Some((offset, len)) => Ok(Block { span: Span::new(offset, len), slots: Arc::from(content) }),
            None => Err(self.no_room(Table::Slots, content.len(), pool.available())),
        }
    }
}

/// Where the rotation of a new Service port begins: a 32-bit FNV-1a hash, so that not every node's first connection goes
/// to the same endpoint.
fn cursor_start(node: &str, key: &ServicePortKey) -> u64 {
    let hash = format!("{node}/{key}")
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}
