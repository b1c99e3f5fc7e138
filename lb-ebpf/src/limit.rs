//! Rates, as [`lb_common::CpuRecord`] tells them.

use crate::env::ServiceRef;

const SECOND: u64 = 1_000_000_000;
/// How often a CPU tries to spend of what others spend of, too.
const ATTEMPTS: u32 = 4;

/// What is spent of `rate` a second after one thing more at `now`. Later than that if it is one too many.
#[inline(always)]
fn after(spent: u64, now: u64, rate: u32) -> u64 {
    if rate == 0 {
        return u64::MAX;
    }
    let full = now.saturating_sub(SECOND);
    let spent = if spent < full { full } else { spent };
    spent.saturating_add(SECOND / u64::from(rate))
}

/// Spends one of `rate` a second, a second's worth at once; false if there is none.
#[inline(always)]
pub(crate) fn take(spent: &mut u64, now: u64, rate: u32) -> bool {
    let next = after(*spent, now, rate);
    let granted = next <= now;
    if granted {
        *spent = next;
    }
    granted
}

/// The same for a new flow of `service`, on all CPUs. False as well if others were faster each time.
#[inline(always)]
pub(crate) fn take_of<S: ServiceRef>(service: S, now: u64, rate: u32) -> bool {
    for _ in 0..ATTEMPTS {
        let spent = service.spent();
        let next = after(spent, now, rate);
        if next > now {
            return false;
        }
        if service.spend(spent, next) {
            return true;
        }
    }
    false
}
