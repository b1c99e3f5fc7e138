//! How long to wait after a failure.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(500);
/// The longest that is waited.
const MOST: Duration = Duration::from_secs(30);

/// Doubles with each failure. Each wait is drawn from the upper half, so that the agents of a cluster whose server has
/// come back do not all ask at once.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let most = self.0;
        self.0 = (most * 2).min(MOST);
        most.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// What failed has worked.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_waits_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::default();
        for most in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].map(Duration::from_millis) {
            let wait = backoff.next();
            assert!((most / 2..=most).contains(&wait), "{wait:?} {most:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
