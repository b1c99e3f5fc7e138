//! The sweep: walks a flow table and removes what has ended.

use lb_common::{Address, FlowKey, FlowKind, FlowState, FlowValue, FlowWord, Proto, SweepReport};

use crate::env::{Env, FlowRef, FlowTable};
use crate::flow::{self, Found, Hit, Idle, Phase};

/// Looks at one entry, in place, and removes its pair if that has idled for its lifetime, or the entry itself if it is
/// an orphan.
///
/// Runs in process context beside packets on all CPUs. The entry may be recycled while it is looked at; `key` is the
/// caller's copy, and the check word tells whether the value still belongs to it.
#[inline(always)]
pub fn visit<A: Address, E: Env<A>>(
    env: &E,
    table: FlowTable,
    key: &FlowKey<A>,
    entry: E::Flow,
    value: &mut FlowValue<A>,
    report: &mut SweepReport,
) {
    report.scanned += 1;
    if table == FlowTable::Lru {
        report.lru_left += 1;
    }
    let Some(config) = env.config() else { return };
    let Some(proto) = Proto::from_number(key.proto) else {
        return;
    };
    if !entry.read(value) || value.check != FlowValue::check_of(key, FlowWord(value.word).id()) {
        return;
    }
    let word = FlowWord(value.word);
    let other = value.other_key(key.proto);
    let owner = flow::owner(env, table, &other, word);
    if value.kind == FlowKind::Reverse as u8 {
        let hit = Hit { table, flow: entry };
        if owner.is_none() && flow::remove_orphan(env, key, &hit, value, report.began, config) {
            report.orphans += 1;
        }
        return;
    }
    let reverse = owner.map_or(FlowState(0), |(_, word)| word.state());
    let limit = Phase::of(proto, word.state(), reverse).lifetime(&config.lifetimes);
    let found = Found { table, flow: entry, word, service: value.service, backend: value.backend };
    if flow::remove(env, key, &other, &found, Idle::more_than(limit, report.began)) {
        report.expired += 1;
    } else {
        report.pairs += 1;
    }
}
