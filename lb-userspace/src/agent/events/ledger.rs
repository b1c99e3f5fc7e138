//! What has been said about which object, and what may be said next: no clock and no client of its own.
//!
//! All nodes find the same wrong with an object. The Event has the same name on all of them, so one is made, and the
//! others are told that it is there. For that each waits for a while that it draws, and begins with another object:
//! a thousand nodes ask a hundred times a second about one object, and a thousand times about any number, for ten seconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::bucket::Bucket;
use crate::model::{ObjectKey, Reason};

/// What is wrong for a shorter time is not said: while objects are changed together, they may contradict each other.
const SETTLE: Duration = Duration::from_secs(1);
/// Then it is said at some time within this.
const SPREAD: Duration = Duration::from_secs(10);
/// An API server keeps Events for an hour: while something is wrong it is said again after so long, or up to a quarter
/// longer.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// What could not be posted is tried again after so long, and then after twice as long each time up to the latter: an API
/// server may have been busy for a moment, and one that refuses is not asked often.
const RETRY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(2 * 60)];
/// What is wrong once more within this time is the same Event, told again.
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// About one object: so many Events at once, and one more each so often.
const PER_OBJECT: (u32, Duration) = (5, Duration::from_secs(5 * 60));
/// In all.
const IN_ALL: (u32, Duration) = (10, Duration::from_secs(10));

/// What is wrong with an object.
pub(super) type Subject = (ObjectKey, Reason);

/// An Event that is to be posted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Post {
    /// What it is about.
    pub(super) subject: Subject,
    /// What is wrong.
    pub(super) note: String,
    /// The Event that says so already, by its name, and how often it will have been said; `None`: there is none.
    pub(super) series: Option<(String, i32)>,
}

/// What became of a post.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is there, as the Event of this name.
    Posted(String),
    /// It was there before, posted by another node or an agent that ran here before; or there is nobody to tell.
    Known,
    /// The Event that it would have told again is there no more.
    Expired,
    /// It could not be posted, and is tried again a while later.
    Failed,
}

/// Everything that is wrong, and what of it has been said.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Draws from 0 to 1.
    chance: fn() -> f64,
    entries: BTreeMap<Subject, Entry>,
    objects: BTreeMap<ObjectKey, Bucket>,
    all: Bucket,
}

#[derive(Debug)]
struct Entry {
    note: String,
    /// Since when it is wrong no more.
    gone: Option<Instant>,
    said: Option<Said>,
    /// When it is to be said, or said again.
    due: Instant,
    /// How often in a row it could not be posted.
    failures: u32,
}

/// The Event that this agent has made or told again last.
#[derive(Debug)]
struct Said {
    name: String,
    note: String,
    count: i32,
}

impl Ledger {
    /// Nothing is wrong. `chance` draws from 0 to 1.
    pub(super) fn new(now: Instant, chance: fn() -> f64) -> Self {
        Self { chance, entries: BTreeMap::new(), objects: BTreeMap::new(), all: Bucket::full(IN_ALL, now) }
    }

    /// Notes that `wrong` is all that is wrong now.
    pub(super) fn set(&mut self, mut wrong: BTreeMap<Subject, String>, now: Instant) {
        let soon = || now + SETTLE + SPREAD.mul_f64((self.chance)());
        for (subject, entry) in &mut self.entries {
            match wrong.remove(subject) {
                Some(note) => {
                    if entry.gone.take().is_some() || entry.note != note {
                        entry.due = entry.due.min(soon());
                    }
                    entry.note = note;
                }
                None => drop(entry.gone.get_or_insert(now)),
            }
        }
        let fresh =
            |(subject, note)| (subject, Entry { note, gone: None, said: None, due: soon(), failures: 0 });
        self.entries.extend(wrong.into_iter().map(fresh));
        self.entries.retain(|_, entry| entry.gone.is_none_or(|gone| now < gone + MEMORY));
        self.objects.retain(|_, bucket| !bucket.is_full(now));
    }

    /// The next Event that is due and may be posted; whoever gets it says what became of it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Post> {
        if !self.all.has(now) {
            return None;
        }
        let mut due: Vec<_> = self.entries.iter_mut().filter(|(_, entry)| entry.is_due(now)).collect();
        due.sort_by_key(|(_, entry)| entry.due);
        for (subject, entry) in due {
            let bucket =
                self.objects.entry(subject.0.clone()).or_insert_with(|| Bucket::full(PER_OBJECT, now));
            if !bucket.take(now) {
                continue;
            }
            self.all.take(now);
            entry.due = now + AGAIN + (AGAIN / 4).mul_f64((self.chance)());
            let said = entry.said.as_ref().filter(|said| said.note == entry.note);
            let series = said.map(|said| (said.name.clone(), said.count.saturating_add(1)));
            return Some(Post { subject: subject.clone(), note: entry.note.clone(), series });
        }
        None
    }

    /// When there may be another Event to post; `None`: not before something changes.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let due = |(subject, entry): (&Subject, &Entry)| {
            let allowed = self.objects.get(&subject.0).map_or(now, |bucket| bucket.next(now));
            entry.gone.is_none().then(|| entry.due.max(allowed).max(self.all.next(now)))
        };
        self.entries.iter().filter_map(due).min()
    }

    /// Notes what became of `post`.
    pub(super) fn note(&mut self, post: Post, fate: Fate, now: Instant) {
        let Post { subject, note, series } = post;
        let Some(entry) = self.entries.get_mut(&subject) else { return };
        let count = series.map_or(1, |(_, count)| count);
        match fate {
            Fate::Failed => {
                entry.due = now + RETRY[1].min(RETRY[0] * (1 << entry.failures.min(8)));
                entry.failures += 1;
                // It has told nobody anything.
                if let Some(bucket) = self.objects.get_mut(&subject.0) {
                    bucket.put_back();
                }
                return;
            }
            Fate::Posted(name) => entry.said = Some(Said { name, note, count }),
            Fate::Known => entry.said = None,
            Fate::Expired => (entry.said, entry.due) = (None, now),
        }
        entry.failures = 0;
    }

    /// Whether something is wrong that could not be posted.
    pub(super) fn is_failing(&self) -> bool {
        self.entries.values().any(|entry| entry.gone.is_none() && entry.failures > 0)
    }
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        self.gone.is_none() && self.due <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn subject(name: &str, reason: Reason) -> Subject {
        (ObjectKey::new(Kind::Service, "d", name), reason)
    }

    fn wrong(all: &[(&str, &str)]) -> BTreeMap<Subject, String> {
        all.iter().map(|(name, note)| (subject(name, Reason::InvalidAddress), (*note).to_owned())).collect()
    }

    fn empty(now: Instant) -> Ledger {
        Ledger::new(now, || 0.0)
    }

    /// Posts all that may be posted: names, notes and counts.
    fn flush(ledger: &mut Ledger, now: Instant) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(post) = ledger.next(now) {
            let count = post.series.as_ref().map_or(1, |(_, count)| *count);
            let name = post.subject.0.name.to_string();
            all.push(format!("{name}: {} x{count}", post.note));
            ledger.note(post, Fate::Posted(format!("event-of-{name}")), now);
        }
        all
    }

    #[test]
    fn what_is_wrong_is_said_once_and_again_before_it_is_forgotten() {
        let begin = Instant::now();
        let mut ledger = empty(begin);
        assert_eq!(ledger.due(begin), None);
        ledger.set(wrong(&[("a", "bad"), ("b", "worse")]), begin);
        let said = begin + SETTLE;
        assert_eq!(ledger.due(begin), Some(said));
        assert!(flush(&mut ledger, begin).is_empty(), "it may be over in a moment");
        assert_eq!(flush(&mut ledger, said), ["a: bad x1", "b: worse x1"]);
        ledger.set(wrong(&[("a", "bad"), ("b", "worse")]), said);
        assert!(flush(&mut ledger, said + AGAIN / 2).is_empty());
        assert_eq!(ledger.due(said), Some(said + AGAIN));
        assert_eq!(flush(&mut ledger, said + AGAIN), ["a: bad x2", "b: worse x2"]);
        ledger.set(BTreeMap::new(), said + AGAIN);
        assert_eq!(ledger.due(said + AGAIN), None, "nothing is wrong");
        assert!(flush(&mut ledger, said + 3 * AGAIN).is_empty());
    }

    #[test]
    fn what_comes_back_is_the_same_event_and_what_changes_another() {
        let begin = Instant::now();
        let mut ledger = empty(begin);
        ledger.set(wrong(&[("a", "bad")]), begin);
        let now = begin + SETTLE;
        flush(&mut ledger, now);
        ledger.set(BTreeMap::new(), now);
        ledger.set(wrong(&[("a", "bad")]), now + MEMORY / 2);
        assert_eq!(flush(&mut ledger, now + MEMORY / 2 + SETTLE), ["a: bad x2"]);
        ledger.set(wrong(&[("a", "other")]), now + MEMORY / 2);
        assert_eq!(flush(&mut ledger, now + MEMORY / 2 + SETTLE), ["a: other x1"]);
        ledger.set(BTreeMap::new(), now + MEMORY);
        ledger.set(BTreeMap::new(), now + 3 * MEMORY);
        assert!(ledger.entries.is_empty() && ledger.objects.is_empty(), "all is forgotten");
    }

    #[test]
    fn one_object_cannot_flood_and_all_together_neither() {
        let begin = Instant::now();
        let mut ledger = empty(begin);
        let now = begin + SETTLE;
        for turn in 0..20 {
            ledger.set(wrong(&[("a", &format!("bad {turn}"))]), begin);
            let said = flush(&mut ledger, now);
            assert_eq!(said.is_empty(), turn >= PER_OBJECT.0, "{turn}");
        }
        let later = now + PER_OBJECT.1;
        assert_eq!(ledger.due(now), Some(later), "what is held back waits for its turn");
        assert_eq!(flush(&mut ledger, later), ["a: bad 19 x1"]);

        let mut ledger = empty(begin);
        let names: Vec<String> = (0..100).map(|name| format!("{name:02}")).collect();
        ledger.set(wrong(&names.iter().map(|name| (name.as_str(), "bad")).collect::<Vec<_>>()), begin);
        assert_eq!(flush(&mut ledger, now).len(), IN_ALL.0 as usize);
        assert_eq!(ledger.due(now), Some(now + IN_ALL.1));
        assert_eq!(flush(&mut ledger, now + IN_ALL.1).len(), 1);
        assert_eq!(flush(&mut ledger, now + 8 * IN_ALL.1).len(), 7);
    }

    #[test]
    fn each_node_waits_for_a_time_of_its_own_and_begins_with_another_object() {
        let begin = Instant::now();
        let names: Vec<String> = (0..8).map(|name| name.to_string()).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "bad")).collect();
        let mut first = BTreeMap::new();
        for _ in 0..200 {
            let mut ledger = Ledger::new(begin, fastrand::f64);
            ledger.set(wrong(&all), begin);
            let due = ledger.due(begin).unwrap();
            assert!((SETTLE..=SETTLE + SPREAD).contains(&(due - begin)));
            let post = ledger.next(begin + SETTLE + SPREAD).unwrap();
            ledger.note(post.clone(), Fate::Known, due);
            *first.entry(post.subject.0.name).or_insert(0) += 1;
        }
        assert!(first.len() == all.len() && first.values().all(|count| *count < 100), "{first:?}");
    }

    #[test]
    fn what_could_not_be_posted_is_tried_again_soon_and_then_ever_less_often() {
        let mut now = Instant::now();
        let mut ledger = empty(now);
        ledger.set(wrong(&[("a", "bad")]), now);
        now += SETTLE;
        for seconds in [5, 10, 20, 40, 80, 120, 120, 120] {
            let post = ledger.next(now).unwrap();
            assert_eq!(post.series, None, "there is no Event to tell again");
            ledger.note(post, Fate::Failed, now);
            assert!(ledger.next(now).is_none() && ledger.is_failing());
            // More often than there may be Events about one object.
            assert_eq!(ledger.due(now), Some(now + Duration::from_secs(seconds)));
            now += Duration::from_secs(seconds);
        }
        assert_eq!(flush(&mut ledger, now), ["a: bad x1"]);
        assert!(!ledger.is_failing() && ledger.next(now + RETRY[1]).is_none());

        now += 2 * AGAIN;
        let post = ledger.next(now).unwrap();
        ledger.note(post, Fate::Failed, now);
        now += RETRY[0];
        assert_eq!(flush(&mut ledger, now), ["a: bad x2"], "it is there as before, and tells it again");
    }

    #[test]
    fn what_expired_is_said_at_once_and_what_another_said_is_not_told_again() {
        let mut now = Instant::now();
        let mut ledger = empty(now);
        ledger.set(wrong(&[("a", "bad")]), now);
        now += SETTLE;
        flush(&mut ledger, now);
        now += 2 * AGAIN;
        let post = ledger.next(now).unwrap();
        assert_eq!(post.series, Some(("event-of-a".to_owned(), 2)));
        ledger.note(post, Fate::Expired, now);
        let post = ledger.next(now).unwrap();
        assert_eq!(post.series, None);
        ledger.note(post, Fate::Known, now);
        assert_eq!(ledger.next(now + 2 * AGAIN).unwrap().series, None);
    }

    #[test]
    fn what_could_not_be_posted_is_no_problem_once_it_is_over() {
        let now = Instant::now();
        let mut ledger = empty(now);
        ledger.set(wrong(&[("a", "bad")]), now);
        let post = ledger.next(now + SETTLE).unwrap();
        ledger.note(post, Fate::Failed, now);
        assert!(ledger.is_failing());
        ledger.set(BTreeMap::new(), now);
        assert!(!ledger.is_failing());
    }
}
