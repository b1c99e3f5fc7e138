//! How much may be said: so much at once, and so much as time goes by.

use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    size: u32,
    interval: Duration,
    /// When it will be full.
    full: Instant,
}

impl Bucket {
    /// One of so many tokens that gets one back each so often. It is full.
    pub(super) const fn full((size, interval): (u32, Duration), now: Instant) -> Self {
        Self { size, interval, full: now }
    }

    /// Whether nothing is missing.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full <= now
    }

    /// Whether there is a token.
    pub(super) fn has(&self, now: Instant) -> bool {
        self.next(now) <= now
    }

    /// When there is a token.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let rest = self.interval * self.size.saturating_sub(1);
        self.full.checked_sub(rest).map_or(now, |next| next.max(now))
    }

    /// Takes a token; whether there was one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let has = self.has(now);
        if has {
            self.full = self.full.max(now) + self.interval;
        }
        has
    }

    /// Takes back the last [`Bucket::take`].
    pub(super) fn put_back(&mut self) {
        self.full = self.full.checked_sub(self.interval).unwrap_or(self.full);
    }
}
