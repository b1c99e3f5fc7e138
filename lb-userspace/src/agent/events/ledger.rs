//! What has been said about which object, and what may be said next: no clock and no client of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::{ObjectKey, Reason};

/// An API server keeps Events for an hour: while something is wrong it is said again so often.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// What is wrong once more within this time is the same Event, told again.
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// About one object: so many Events at once, and one more each so often.
const PER_OBJECT: (u32, Duration) = (5, Duration::from_secs(5 * 60));
/// In all.
const IN_ALL: (u32, Duration) = (25, Duration::from_secs(1));

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

/// Everything that is wrong, and what of it has been said.
#[derive(Debug)]
pub(super) struct Ledger {
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
}

#[derive(Debug)]
struct Said {
    /// The Event; `None`: it could not be posted.
    name: Option<String>,
    note: String,
    count: i32,
}

impl Ledger {
    /// Nothing is wrong.
    pub(super) fn new(now: Instant) -> Self {
        Self { entries: BTreeMap::new(), objects: BTreeMap::new(), all: Bucket::full(IN_ALL, now) }
    }

    /// Notes that `wrong` is all that is wrong now.
    pub(super) fn set(&mut self, mut wrong: BTreeMap<Subject, String>, now: Instant) {
        for (subject, entry) in &mut self.entries {
            match wrong.remove(subject) {
                Some(note) => {
                    if entry.gone.take().is_some() || entry.note != note {
                        entry.due = now;
                    }
                    entry.note = note;
                }
                None => drop(entry.gone.get_or_insert(now)),
            }
        }
        let fresh = |(subject, note)| (subject, Entry { note, gone: None, said: None, due: now });
        self.entries.extend(wrong.into_iter().map(fresh));
        self.entries.retain(|_, entry| entry.gone.is_none_or(|gone| now < gone + MEMORY));
        self.objects.retain(|_, bucket| !bucket.is_full(now));
    }

    /// The next Event that is due and may be posted; whoever gets it says what became of it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Post> {
        if !self.all.has(now) {
            return None;
        }
        for (subject, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.is_due(now)) {
            let bucket =
                self.objects.entry(subject.0.clone()).or_insert_with(|| Bucket::full(PER_OBJECT, now));
            if !bucket.take(now) {
                continue;
            }
            self.all.take(now);
            entry.due = now + AGAIN;
            let same = entry.said.as_ref().filter(|said| said.note == entry.note);
            let series = same.and_then(|said| Some((said.name.clone()?, said.count.saturating_add(1))));
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

    /// Notes that `post` is there now, as the Event called `name`; `None`: it could not be posted, and counts as said.
    pub(super) fn posted(&mut self, post: Post, name: Option<String>) {
        let Post { subject, note, series } = post;
        if let Some(entry) = self.entries.get_mut(&subject) {
            let count = series.map_or(1, |(_, count)| count);
            entry.said = Some(Said { name, note, count });
        }
    }

    /// Notes that the Event that `post` would have told again is no longer there: it is said anew.
    pub(super) fn expired(&mut self, post: &Post, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&post.subject) {
            entry.said = None;
            entry.due = now;
        }
    }
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        self.gone.is_none() && self.due <= now
    }
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    size: u32,
    interval: Duration,
    /// When it will be full.
    full: Instant,
}

impl Bucket {
    const fn full((size, interval): (u32, Duration), now: Instant) -> Self {
        Self { size, interval, full: now }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full <= now
    }

    fn has(&self, now: Instant) -> bool {
        self.next(now) <= now
    }

    /// When there is a token.
    fn next(&self, now: Instant) -> Instant {
        let rest = self.interval * self.size.saturating_sub(1);
        self.full.checked_sub(rest).map_or(now, |next| next.max(now))
    }

    fn take(&mut self, now: Instant) -> bool {
        let has = self.has(now);
        if has {
            self.full = self.full.max(now) + self.interval;
        }
        has
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

    /// Posts all that may be posted: names, notes and counts.
    fn flush(ledger: &mut Ledger, now: Instant) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(post) = ledger.next(now) {
            let count = post.series.as_ref().map_or(1, |(_, count)| *count);
            let name = post.subject.0.name.to_string();
            all.push(format!("{name}: {} x{count}", post.note));
            ledger.posted(post, Some(format!("event-of-{name}")));
        }
        all
    }

    #[test]
    fn what_is_wrong_is_said_once_and_again_before_it_is_forgotten() {
        let begin = Instant::now();
        let mut ledger = Ledger::new(begin);
        assert_eq!(ledger.due(begin), None);
        ledger.set(wrong(&[("a", "bad"), ("b", "worse")]), begin);
        assert_eq!(ledger.due(begin), Some(begin));
        assert_eq!(flush(&mut ledger, begin), ["a: bad x1", "b: worse x1"]);
        ledger.set(wrong(&[("a", "bad"), ("b", "worse")]), begin);
        assert!(flush(&mut ledger, begin + AGAIN / 2).is_empty());
        assert_eq!(ledger.due(begin), Some(begin + AGAIN));
        assert_eq!(flush(&mut ledger, begin + AGAIN), ["a: bad x2", "b: worse x2"]);
        ledger.set(BTreeMap::new(), begin + AGAIN);
        assert_eq!(ledger.due(begin + AGAIN), None, "nothing is wrong");
        assert!(flush(&mut ledger, begin + 3 * AGAIN).is_empty());
    }

    #[test]
    fn what_comes_back_is_the_same_event_and_what_changes_another() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now);
        ledger.set(wrong(&[("a", "bad")]), now);
        flush(&mut ledger, now);
        ledger.set(BTreeMap::new(), now);
        ledger.set(wrong(&[("a", "bad")]), now + MEMORY / 2);
        assert_eq!(flush(&mut ledger, now + MEMORY / 2), ["a: bad x2"]);
        ledger.set(wrong(&[("a", "other")]), now + MEMORY / 2);
        assert_eq!(flush(&mut ledger, now + MEMORY / 2), ["a: other x1"]);
        ledger.set(BTreeMap::new(), now + MEMORY);
        ledger.set(BTreeMap::new(), now + 3 * MEMORY);
        assert!(ledger.entries.is_empty() && ledger.objects.is_empty(), "all is forgotten");
    }

    #[test]
    fn one_object_cannot_flood_and_all_together_neither() {
        let begin = Instant::now();
        let mut ledger = Ledger::new(begin);
        for turn in 0..20 {
            ledger.set(wrong(&[("a", &format!("bad {turn}"))]), begin);
            let said = flush(&mut ledger, begin);
            assert_eq!(said.is_empty(), turn >= PER_OBJECT.0, "{turn}");
        }
        let later = begin + PER_OBJECT.1;
        assert_eq!(ledger.due(begin), Some(later), "what is held back waits for its turn");
        assert_eq!(flush(&mut ledger, later), ["a: bad 19 x1"]);

        let mut ledger = Ledger::new(begin);
        let names: Vec<String> = (0..100).map(|name| format!("{name:02}")).collect();
        ledger.set(wrong(&names.iter().map(|name| (name.as_str(), "bad")).collect::<Vec<_>>()), begin);
        assert_eq!(flush(&mut ledger, begin).len(), IN_ALL.0 as usize);
        assert_eq!(ledger.due(begin), Some(begin + IN_ALL.1));
        assert_eq!(flush(&mut ledger, begin + IN_ALL.1), ["25: bad x1"]);
        assert_eq!(flush(&mut ledger, begin + 10 * IN_ALL.1).len(), 9);
    }

    #[test]
    fn what_could_not_be_posted_counts_as_said_and_what_expired_is_said_anew() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now);
        ledger.set(wrong(&[("a", "bad")]), now);
        let post = ledger.next(now).unwrap();
        ledger.posted(post, None);
        assert!(ledger.next(now).is_none());
        let post = ledger.next(now + AGAIN).unwrap();
        assert_eq!(post.series, None, "there is no Event to tell again");
        ledger.posted(post, Some("x".to_owned()));
        let post = ledger.next(now + 2 * AGAIN).unwrap();
        assert_eq!(post.series, Some(("x".to_owned(), 2)));
        ledger.expired(&post, now + 2 * AGAIN);
        assert_eq!(ledger.next(now + 2 * AGAIN).unwrap().series, None);
    }
}
