//! Rates.

use lb_common::Bucket;

/// Takes a token from a bucket that fills at `rate` a second and holds one second's worth; false if there is none.
#[inline(always)]
pub(crate) fn take(bucket: &mut Bucket, now: u64, rate: u32) -> bool {
    const TOKEN: u64 = 1_000_000_000;
    let elapsed = now.saturating_sub(bucket.filled).min(TOKEN);
    let tokens = (bucket.tokens + elapsed * u64::from(rate)).min(u64::from(rate) * TOKEN);
    bucket.filled = now;
    let granted = tokens >= TOKEN;
    bucket.tokens = if granted { tokens - TOKEN } else { tokens };
    granted
}
