//! The sweep: walks the flow tables of a family, removes what has ended, and puts right what packets left.

use core::ops::DerefMut;

use lb_common::{Address, FlowKey, FlowKind, FlowState, FlowValue, FlowWord, Proto, Scratch, SweepReport};

use crate::env::{Env, FlowRef, FlowTable, Note, note};
use crate::flow::{self, Assured, Found, Hit, Idle, Phase};

/// What a sweep asks for beside what a packet does.
pub trait Walk<A: Address>: Env<A> {
    /// The report of this run.
    type Report: DerefMut<Target = SweepReport>;

    /// The clock that flows are dated by, or one that is ahead of it by a tick at most.
    fn clock(&self) -> u64;
    /// The report; `None` if there is none. Nobody else's until the run ends.
    fn report(&self) -> Option<Self::Report>;
    /// Lets [`visit`] look at each entry of `table`, while packets go on using it.
    fn walk(&self, table: FlowTable);
}

/// Sweeps both tables of a family. One run at a time. `None` if there is no report.
#[inline(always)]
pub fn run<A: Address, E: Walk<A>>(env: &E) -> Option<()> {
    let began = env.clock();
    *env.report()? = SweepReport { began, ..SweepReport::default() };
    let (begun, settled) = (env.note(Note::Begun), env.note(Note::Settled));
    env.walk(FlowTable::Main);
    // Both only grow: if they are what they were, no pair began or settled during the walk, and what it met is the
    // truth. Adding the difference is right whatever has happened since.
    if begun == env.note(Note::Begun) && settled == env.note(Note::Settled) {
        let excess = begun.wrapping_sub(settled).wrapping_sub(env.report()?.embryonic);
        if excess != 0 {
            env.add_note(Note::Settled, excess);
        }
    }
    // Whatever made room without saying so: if the table still is full, the first packet that needs room notices.
    env.set_note(Note::Full, 0);
    if env.lru_used() {
        env.set_note(Note::LruUsed, note::ASKED);
        env.walk(FlowTable::Lru);
        // Who inserts says so afterwards, and the exchange fails; or says so after it, and before any other packet of
        // the flow can be under way.
        if env.report()?.lru_left == 0 {
            env.exchange_note(Note::LruUsed, note::ASKED, 0);
        }
    }
    env.set_note(Note::Swept, began);
    Some(())
}

/// Looks at one entry, in place, and removes its pair if that has idled for its lifetime, or the entry itself if it is
/// an orphan. A pair that is confirmed and not yet assured, or still in the LRU table, is seen to.
///
/// Runs in process context beside packets on all CPUs. The entry may be recycled while it is looked at; `key` is the
/// caller's copy, and the check word tells whether the value still belongs to it.
#[inline(always)]
pub fn visit<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    key: &FlowKey<A>,
    entry: E::Flow,
    scratch: &mut Scratch<A>,
    report: &mut SweepReport,
) {
    report.scanned += 1;
    if table == FlowTable::Lru {
        report.lru_left += 1;
    }
    let Scratch { value, reverse, .. } = scratch;
    let Some(config) = env.config() else { return };
    let Some(proto) = Proto::from_number(key.proto) else {
        return;
    };
    if !entry.read(value) || value.check != FlowValue::check_of(key, FlowWord(value.word).id()) {
        return;
    }
    let word = FlowWord(value.word);
    let state = word.state();
    *reverse = value.other_key(key.proto);
    if value.kind == FlowKind::Host as u8 {
        let found = Found { table, flow: entry, word, service: value.service, backend: value.backend };
        let limit = Phase::of(proto, state, flow::shown(state)).lifetime(&config.lifetimes);
        let gone = flow::remove(env, key, reverse, &found, Idle::more_than(limit, report.began));
        *if gone { &mut report.expired } else { &mut report.pairs } += 1;
        return;
    }
    let owner = flow::owner(env, table, reverse, word);
    if value.kind == FlowKind::Reverse as u8 {
        let hit = Hit { table, flow: entry };
        if owner.is_none() && flow::remove_orphan(env, key, &hit, value, report.began, config) {
            report.orphans += 1;
        }
        return;
    }
    let back = owner.map_or(FlowState(0), |(_, word)| word.state());
    let limit = Phase::of(proto, state, back).lifetime(&config.lifetimes);
    let found = Found { table, flow: entry, word, service: value.service, backend: value.backend };
    if flow::remove(env, key, reverse, &found, Idle::more_than(limit, report.began)) {
        report.expired += 1;
        return;
    }
    report.pairs += 1;
    let mut assured = state.has(FlowState::ASSURED);
    if flow::confirmed(state, back) && (!assured || table == FlowTable::Lru) {
        scratch.key = *key;
        scratch.now = report.began;
        let outcome = env.assure(scratch);
        assured |= matches!(outcome, Ok(Assured::Yes | Assured::Moved));
        report.moved += u64::from(matches!(outcome, Ok(Assured::Moved)));
    }
    if table == FlowTable::Main && !assured {
        report.embryonic += 1;
    }
}
