//! What failed, and when to try it again.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use crate::model::{Reason, ServicePortKey};
use crate::status::Problem;

/// The first wait; it doubles from time to time.
const FIRST: Duration = Duration::from_millis(20);
/// The longest wait (B8).
const LAST: Duration = Duration::from_secs(30);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Trouble {
    text: String,
    no_room: bool,
    attempts: u32,
    due: Instant,
}

/// Service ports that could not be programmed.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<ServicePortKey, Trouble>);

impl Troubles {
    /// Notes that `key` failed once more; `true` if this is news.
    pub(super) fn failed(&mut self, key: &ServicePortKey, text: String, no_room: bool, now: Instant) -> bool {
        let before = self.0.get(key);
        let attempts = before.map_or(0, |trouble| trouble.attempts) + 1;
        let news = before.is_none_or(|trouble| trouble.text != text);
        let due = now + wait(key, attempts);
        self.0.insert(key.clone(), Trouble { text, no_room, attempts, due });
        news
    }

    /// Puts off what is due: not even trying was possible.
    pub(super) fn postpone(&mut self, now: Instant) {
        for (key, trouble) in self.0.iter_mut().filter(|(_, trouble)| trouble.due <= now) {
            trouble.attempts += 1;
            trouble.due = now + wait(key, trouble.attempts);
        }
    }

    /// Notes that `key` is as it should be; `true` if it was not before.
    pub(super) fn succeeded(&mut self, key: &ServicePortKey) -> bool {
        self.0.remove(key).is_some()
    }

    /// Whether `key` failed the last time.
    pub(super) fn concern(&self, key: &ServicePortKey) -> bool {
        self.0.contains_key(key)
    }

    /// What is to be tried again by `now`.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &ServicePortKey> {
        self.0.iter().filter(move |(_, trouble)| trouble.due <= now).map(|(key, _)| key)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|trouble| trouble.due).min()
    }

    /// What did not fit.
    pub(super) fn without_room(&self) -> impl Iterator<Item = &ServicePortKey> {
        self.0.iter().filter(|(_, trouble)| trouble.no_room).map(|(key, _)| key)
    }

    /// For the report.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let problem = |(key, trouble): (&ServicePortKey, &Trouble)| {
            let reason = if trouble.no_room { Reason::NoRoom } else { Reason::NotProgrammed };
            Problem::new(key.to_string(), &*trouble.text).of(key.service(), reason)
        };
        self.0.iter().map(problem).collect()
    }
}

/// The wait before attempt `attempts + 1`: doubling, and up to a quarter longer by a hash of the key, so that what failed
/// together is not tried together for ever.
fn wait(key: &ServicePortKey, attempts: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LAST);
    let mut hasher = DefaultHasher::new();
    (key, attempts).hash(&mut hasher);
    let [jitter, ..] = hasher.finish().to_le_bytes();
    doubled + doubled * u32::from(jitter) / 1024
}

#[cfg(test)]
mod tests {
    use lb_common::Proto;

    use super::*;
    use crate::model::Family;

    #[test]
    fn b8_waits_double_up_to_half_a_minute() {
        let key = ServicePortKey {
            namespace: "a".into(),
            name: "b".into(),
            port_name: "".into(),
            proto: Proto::Tcp,
            family: Family::V4,
        };
        assert!(wait(&key, 1) >= FIRST && wait(&key, 1) < FIRST * 5 / 4);
        assert!(wait(&key, 5) >= FIRST * 16);
        assert!(wait(&key, u32::MAX) >= LAST && wait(&key, u32::MAX) < LAST * 5 / 4);
    }
}
