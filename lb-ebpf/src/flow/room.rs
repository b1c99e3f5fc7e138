//! Which table a new pair goes to.

use lb_common::{Address, StateRecord};

use super::phase::seconds;
use crate::env::{Env, Note};

/// Whether the main table takes no new pair: it had no room, its share of embryonic pairs is used up, or nobody has
/// swept for so long that what comes into it would stay for good.
#[inline(always)]
pub(super) fn crowded<A: Address, E: Env<A>>(env: &E, now: u64) -> bool {
    let Some(config) = env.config() else { return false };
    let embryonic = StateRecord::embryonic(env.note(Note::Begun), env.note(Note::Settled));
    let swept = env.note(Note::Swept);
    env.note(Note::Full) != 0
        || embryonic >= u64::from(config.embryonic)
        || (swept != 0 && now.saturating_sub(swept) > seconds(config.patience))
}
