//! The pair protocol: how two entries are made, locked and removed as one, without locks of the kernel.
//!
//! - Making: reverse first, then forward, neither replacing anything. Who loses the forward uses the winner's tuple and
//!   takes its own reverse away again.
//! - The forward entry's word is the lock: whoever swaps it to `dead` owns the removal of both.
//! - A reverse whose forward is missing or belongs to another pair is an orphan; it locks by its own word.

use lb_common::{
    Address, Config, FlowKey, FlowKind, FlowState, FlowValue, FlowWord, Point, Proto, Reason, Slot, Tuple,
};

use super::phase::{Phase, seconds};
use super::{Hit, lookup};
use crate::env::{Env, FlowRef, FlowTable, Inserted, Traffic};

/// Rounds of the search for a free source port; the last one may go to the change of table.
const TRIES: u32 = 33;

/// What is to become a pair.
pub(crate) struct Opening<'a, A> {
    /// The packet's key.
    pub(crate) key: &'a FlowKey<A>,
    /// Its protocol.
    pub(crate) proto: Proto,
    /// The Service port.
    pub(crate) service: u32,
    /// The chosen endpoint.
    pub(crate) slot: &'a Slot<A>,
    /// The address to masquerade as, if that is needed: the pair then lives at one point and is redirected.
    pub(crate) masquerade: Option<A>,
    /// Where to make it; a full main table falls back to the LRU table.
    pub(crate) table: FlowTable,
    /// Now.
    pub(crate) now: u64,
    /// Bytes of the packet.
    pub(crate) bytes: u64,
    /// What the packet adds to the state of its direction.
    pub(crate) state: u8,
}

/// What the packet that asked for a pair is to do.
pub(crate) struct Pair<A> {
    /// Its new addresses and ports.
    pub(crate) to: Tuple<A>,
    /// Whether it goes back out of the interface it came by.
    pub(crate) redirect: bool,
    /// Whether this packet made the pair.
    pub(crate) opened: bool,
}

/// What was found where a reverse entry was to go.
enum Contention {
    /// The reverse entry of this very flow.
    Own,
    /// Nothing any more: try again with the same port.
    Freed,
    /// Another flow: try another port.
    Taken,
    /// The reverse entry of this very flow, being removed.
    Busy,
}

/// Makes the pair, or finds the one that another CPU made meanwhile.
#[inline(always)]
pub(crate) fn make<A: Address, E: Env<A>>(
    env: &E,
    opening: &Opening<'_, A>,
    config: &Config,
    value: &mut FlowValue<A>,
) -> Result<Pair<A>, Reason> {
    let key = opening.key;
    let id = fresh(env)?;
    let mut to = Tuple {
        src: key.tuple.src,
        dst: opening.slot.addr,
        sport: key.tuple.sport,
        dport: opening.slot.port,
    };
    let mut points = (Point::PodIngress, Point::PodEgress);
    if let Some(node) = opening.masquerade {
        to.src = node;
        points = (Point::PodIngress, Point::PodIngress);
    }
    let redirect = opening.masquerade.is_some();
    let mut table = opening.table;
    let mut draw = redirect;
    for _ in 0..TRIES {
        if draw {
            let tried = env.port_cursor(opening.slot.backend);
            let number = crate::ports::number(opening.slot.backend, tried);
            to.sport = crate::ports::nth(&config.snat_ports, number).ok_or(Reason::SnatPortsExhausted)?;
        }
        let reverse = FlowKey::new(to.reverse(), key.proto);
        fill(
            value,
            opening,
            id,
            FlowKind::Reverse,
            points.1,
            &key.tuple.reverse(),
            &reverse,
        );
        match insert(env, table, &reverse, value) {
            Inserted::Done => {}
            Inserted::Exists => match contend(env, key, &reverse, opening, config, value) {
                Contention::Own => {
                    return Ok(Pair {
                        to,
                        redirect,
                        opened: false,
                    });
                }
                Contention::Busy => return Err(Reason::FlowBusy),
                Contention::Freed => continue,
                Contention::Taken => {
                    draw = true;
                    continue;
                }
            },
            Inserted::Full if table == FlowTable::Main => {
                table = FlowTable::Lru;
                continue;
            }
            Inserted::Full => return Err(Reason::FlowTableFull),
            Inserted::Failed => return Err(Reason::FlowError),
        }
        fill(value, opening, id, FlowKind::Forward, points.0, &to, key);
        match insert(env, table, key, value) {
            Inserted::Done => {
                return Ok(Pair {
                    to,
                    redirect,
                    opened: true,
                });
            }
            outcome => {
                if is(env, table, &reverse, id) {
                    env.delete_flow(table, &reverse);
                }
                match outcome {
                    Inserted::Exists => return winner(env, opening, value),
                    Inserted::Full if table == FlowTable::Main => table = FlowTable::Lru,
                    Inserted::Full => return Err(Reason::FlowTableFull),
                    Inserted::Done | Inserted::Failed => return Err(Reason::FlowError),
                }
            }
        }
    }
    Err(Reason::SnatPortsExhausted)
}

/// A creation id that no other pair has.
#[inline(always)]
fn fresh<A: Address, E: Env<A>>(env: &E) -> Result<FlowWord, Reason> {
    let count = env.with_cpu(|cpu| {
        cpu.pairs = cpu.pairs.wrapping_add(1);
        cpu.pairs
    });
    Ok(FlowWord::new(env.cpu(), count.ok_or(Reason::FlowError)?, 0))
}

#[inline(always)]
fn fill<A: Address>(
    value: &mut FlowValue<A>,
    opening: &Opening<'_, A>,
    id: FlowWord,
    kind: FlowKind,
    point: Point,
    to: &Tuple<A>,
    key: &FlowKey<A>,
) {
    let first = matches!(kind, FlowKind::Forward);
    value.word = id.with(if first { opening.state } else { 0 }).0;
    value.seen = opening.now;
    value.packets = u64::from(first);
    value.bytes = if first { opening.bytes } else { 0 };
    value.tuple = *to;
    value.service = opening.service;
    value.backend = opening.slot.backend;
    value.generation = opening.slot.generation;
    value.point = point as u8;
    value.kind = kind as u8;
    value.redirect = u8::from(opening.masquerade.is_some());
    value.pad = 0;
    value.check = FlowValue::check_of(key, id.id());
}

/// Inserts into `table` and gives way if the other table, the same name space, has the key.
///
/// The look at the other table comes after the insertion: of two CPUs that insert the same key into different tables
/// at least one sees the other's entry. Both may; both then give way, and the packet is sent again.
#[inline(always)]
fn insert<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    key: &FlowKey<A>,
    value: &FlowValue<A>,
) -> Inserted {
    if table == FlowTable::Lru {
        env.use_lru();
    }
    let inserted = env.insert_flow(table, key, value);
    if inserted == Inserted::Done
        && (table == FlowTable::Lru || env.lru_used())
        && env.flow(table.other(), key).is_some()
    {
        env.delete_flow(table, key);
        return Inserted::Exists;
    }
    inserted
}

/// Another CPU made the forward entry first: its tuple holds for this packet too.
#[inline(always)]
fn winner<A: Address, E: Env<A>>(
    env: &E,
    opening: &Opening<'_, A>,
    value: &mut FlowValue<A>,
) -> Result<Pair<A>, Reason> {
    let hit = lookup(env, opening.key, value).ok_or(Reason::FlowBusy)?;
    if FlowWord(value.word).state().has(FlowState::DEAD) {
        return Err(Reason::FlowBusy);
    }
    hit.flow.touch(opening.now, opening.bytes);
    Ok(Pair {
        to: value.tuple,
        redirect: value.redirect != 0,
        opened: false,
    })
}

/// Looks at the entry that stands where the reverse entry of `key` was to go, and removes it if it is of no use.
#[inline(always)]
fn contend<A: Address, E: Env<A>>(
    env: &E,
    key: &FlowKey<A>,
    reverse: &FlowKey<A>,
    opening: &Opening<'_, A>,
    config: &Config,
    value: &mut FlowValue<A>,
) -> Contention {
    let Some(hit) = lookup(env, reverse, value) else {
        return Contention::Freed;
    };
    let word = FlowWord(value.word);
    if value.tuple == key.tuple.reverse() {
        return if word.state().has(FlowState::DEAD) {
            Contention::Busy
        } else {
            Contention::Own
        };
    }
    if value.kind != FlowKind::Reverse as u8 {
        return Contention::Taken;
    }
    let forward = value.other_key(key.proto);
    let freed = match owner(env, hit.table, &forward, word) {
        Some((flow, state)) => {
            let phase = Phase::of(opening.proto, state.state(), word.state());
            let limit = if phase.is_over() {
                seconds(config.lifetimes.reuse_closed)
            } else {
                phase.lifetime(&config.lifetimes)
            };
            let found = Found {
                table: hit.table,
                flow,
                word: state,
                service: value.service,
                backend: value.backend,
            };
            remove(
                env,
                &forward,
                reverse,
                &found,
                Some(Idle {
                    now: opening.now,
                    limit,
                }),
            )
        }
        None => remove_orphan(env, reverse, &hit, value, opening.now, config),
    };
    if freed {
        Contention::Freed
    } else {
        Contention::Taken
    }
}

/// The forward entry that a reverse entry with `word` belongs to.
#[inline(always)]
pub(crate) fn owner<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    forward: &FlowKey<A>,
    word: FlowWord,
) -> Option<(E::Flow, FlowWord)> {
    let flow = env.flow(table, forward)?;
    let (state, _) = flow.peek();
    (state.id() == word.id()).then_some((flow, state))
}

/// Whether the entry of `key` is of the pair `id`.
#[inline(always)]
fn is<A: Address, E: Env<A>>(env: &E, table: FlowTable, key: &FlowKey<A>, id: FlowWord) -> bool {
    owner(env, table, key, id).is_some()
}

/// The forward entry of a pair that may have to go.
pub(crate) struct Found<F> {
    /// The table that holds the pair.
    pub(crate) table: FlowTable,
    /// The forward entry in place.
    pub(crate) flow: F,
    /// Its word, as it was read.
    pub(crate) word: FlowWord,
    /// The Service port that its traffic counts for.
    pub(crate) service: u32,
    /// The backend that its traffic counts for.
    pub(crate) backend: u32,
}

/// The condition that both halves of a pair have idled for more than `limit` nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Idle {
    /// Now.
    pub(crate) now: u64,
    /// Longest time that leaves the pair alive.
    pub(crate) limit: u64,
}

impl Idle {
    /// Whether a pair last seen at `seen` fulfils the condition.
    #[inline(always)]
    pub(crate) const fn holds(&self, seen: u64) -> bool {
        self.now.saturating_sub(seen) > self.limit
    }
}

/// Locks the pair and removes it; with `idle` only if it is idle. True if the pair is gone by this call.
#[inline(always)]
pub(crate) fn remove<A: Address, E: Env<A>>(
    env: &E,
    forward: &FlowKey<A>,
    reverse: &FlowKey<A>,
    found: &Found<E::Flow>,
    idle: Option<Idle>,
) -> bool {
    let Found {
        table,
        flow,
        word,
        service,
        backend,
    } = *found;
    let dead = word.with(FlowState::DEAD);
    if let Some(idle) = idle {
        // Most pairs that the sweep asks about live: do not lock those.
        if !idle.holds(flow.peek().1) {
            return false;
        }
    }
    if word.state().has(FlowState::DEAD) || !flow.exchange(word, dead) {
        return false;
    }
    let other = env
        .flow(table, reverse)
        .filter(|other| other.peek().0.id() == word.id());
    if let Some(idle) = idle {
        // Read again under the lock: a packet may have come between, and one-way traffic refreshes one half only.
        let reverse_seen = other.map_or(0, |other| other.peek().1);
        if !idle.holds(flow.peek().1) || !idle.holds(reverse_seen) {
            // Nobody else changes a dead word, so this cannot fail.
            flow.exchange(dead, word);
            return false;
        }
    }
    let inward = flow.traffic();
    let outward = other.map_or(Traffic::default(), FlowRef::traffic);
    env.delete_flow(table, forward);
    if let Some(other) = other {
        let (word, _) = other.peek();
        if word.id() == dead.id() && bury(other, word) {
            env.delete_flow(table, reverse);
        }
    }
    env.ended(service, backend, inward, outward);
    true
}

/// Removes a reverse entry without a forward entry, if it is old enough. True if it is gone by this call.
#[inline(always)]
pub(crate) fn remove_orphan<A: Address, E: Env<A>>(
    env: &E,
    reverse: &FlowKey<A>,
    hit: &Hit<E::Flow>,
    value: &FlowValue<A>,
    now: u64,
    config: &Config,
) -> bool {
    let idle = Idle {
        now,
        limit: seconds(config.lifetimes.orphan),
    };
    let word = FlowWord(value.word);
    if !idle.holds(value.seen) || !bury(hit.flow, word) {
        return false;
    }
    // Read again under the lock: a packet may have come between, and the copy of an element that was being refilled
    // can have the new entry's word and the old one's time.
    if !idle.holds(hit.flow.peek().1) {
        hit.flow.exchange(word.with(FlowState::DEAD), word);
        return false;
    }
    env.delete_flow(hit.table, reverse);
    true
}

/// Marks a reverse entry dead: the one who succeeds removes it.
#[inline(always)]
fn bury<A: Address, F: FlowRef<A>>(flow: F, word: FlowWord) -> bool {
    !word.state().has(FlowState::DEAD) && flow.exchange(word, word.with(FlowState::DEAD))
}
