//! How far the programming of changes has come, and how long it takes: for health checks and metrics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::model::{Family, Kind, Seen, ServiceName, ServicePort, ServicePortKey};

/// Upper bounds of the time that a sync takes: 1 ms, doubled up to 16 s.
const SYNC: [Duration; 15] = {
    let mut bounds = [Duration::ZERO; 15];
    let mut i = 0;
    while i < bounds.len() {
        bounds[i] = Duration::from_millis(1 << i);
        i += 1;
    }
    bounds
};

/// Upper bounds of the time from what happened to its effect, as SIG-scalability defines them: a quarter and half a second,
/// each second of the first minute, then in steps of 5 seconds, and from the second minute on of 30.
const PROGRAMMING: [Duration; 80] = {
    let mut bounds = [Duration::ZERO; 80];
    let mut i = 0;
    while i < bounds.len() {
        let n = i as u64;
        bounds[i] = Duration::from_millis(match n {
            0 | 1 => 250 * (n + 1),
            2..61 => 1_000 * (n - 1),
            61..73 => 60_000 + 5_000 * (n - 61),
            _ => 120_000 + 30_000 * (n - 73),
        });
        i += 1;
    }
    bounds
};

/// Times of what happened that are kept for a family.
const TRIGGERS: usize = 10_000;

/// How often something took how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [Duration; N],
    counts: [u64; N],
    count: u64,
    sum: Duration,
}

impl<const N: usize> Histogram<N> {
    const fn new(bounds: &'static [Duration; N]) -> Self {
        Self { bounds, counts: [0; N], count: 0, sum: Duration::ZERO }
    }

    fn observe(&mut self, took: Duration) {
        let buckets = self.bounds.iter().zip(&mut self.counts);
        if let Some((_, count)) = buckets.into_iter().find(|(bound, _)| took <= **bound) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// Each upper bound, and how often it took no longer than that.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((*bound, *sum))
        })
    }

    /// How often.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How long in all.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }
}

/// The changes of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// When the oldest change came that no completed sync has covered; `None`: none waits (B93).
    pub waiting: Option<Instant>,
    /// When a change came last.
    pub queued: Option<Instant>,
    /// When a sync was completed last.
    pub synced: Option<Instant>,
    /// How long syncs took.
    pub syncs: Histogram<15>,
    /// How long it took from what happened in the cluster to its effect here.
    pub programming: Histogram<80>,
    /// Services whose internal, and those whose external policy is Local, with a port whose endpoints are all elsewhere
    /// (B69).
    pub no_local_endpoints: [u64; 2],
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            waiting: None,
            queued: None,
            synced: None,
            syncs: Histogram::new(&SYNC),
            programming: Histogram::new(&PROGRAMMING),
            no_local_endpoints: [0; 2],
        }
    }
}

/// Objects that came, changed or went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Objects {
    /// Services.
    pub services: u64,
    /// EndpointSlices, and what stands for them in a folder.
    pub endpoints: u64,
}

/// What one step did for a family.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    /// Service ports that it tried to program.
    pub(super) tried: u64,
    /// Those of them that the kernel refused to, for another reason than room.
    pub(super) refused: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) families: [Progress; 2],
    pub(super) seen: Objects,
    pub(super) pending: Objects,
    /// How many objects there are.
    pub(super) objects: BTreeMap<Kind, u64>,
    /// When that happened of which waiting changes tell, by family: [`TRIGGERS`] at most.
    triggers: [Vec<Timestamp>; 2],
    /// How many ports of a Service are without a local endpoint, by family and policy: those that have any.
    silent: [[BTreeMap<ServiceName, u32>; 2]; 2],
    /// Whether objects came since the last step began.
    pub(super) news: bool,
}

impl Book {
    /// Notes objects that came. What they say about times before `started` tells nothing about this agent.
    pub(super) fn see(&mut self, seen: Seen, started: Option<Timestamp>) {
        self.news = true;
        self.objects = seen.objects;
        for objects in [&mut self.seen, &mut self.pending] {
            objects.services += seen.services;
            objects.endpoints += seen.endpoints;
        }
        for (family, at) in seen.triggers {
            // While nothing can be programmed, more of them tell nothing new.
            if started.is_some_and(|started| at > started) && self.triggers[family as usize].len() < TRIGGERS
            {
                self.triggers[family as usize].push(at);
            }
        }
    }

    /// Notes at `now` that changes wait; `concerned`: of which families. True if none had been waiting.
    pub(super) fn queue(&mut self, concerned: [bool; 2], now: Instant) -> bool {
        let mut news = false;
        for (family, progress) in self.families.iter_mut().enumerate() {
            if concerned[family] || !self.triggers[family].is_empty() {
                progress.queued = Some(now);
                news |= progress.waiting.is_none();
                progress.waiting.get_or_insert(now);
            }
        }
        news
    }

    /// Notes that a step ended at `now`, which is `wall` by the clock on the wall. A sync is completed unless the tables
    /// could not be read (`readable`), or refused all that they were asked for in this family.
    pub(super) fn end(
        &mut self,
        attempts: [Attempt; 2],
        readable: bool,
        began: Instant,
        now: Instant,
        wall: Timestamp,
    ) {
        let completed = attempts.map(|it| readable && (it.tried == 0 || it.refused < it.tried));
        for (family, progress) in self.families.iter_mut().enumerate() {
            if attempts[family].tried == 0 && progress.waiting.is_none() {
                continue;
            }
            progress.syncs.observe(now - began);
            if completed[family] {
                progress.synced = Some(now);
                progress.waiting = None;
                for at in self.triggers[family].drain(..) {
                    // A clock that is behind the control plane's makes no time pass at all.
                    let took = Duration::try_from(wall.duration_since(at)).unwrap_or_default();
                    progress.programming.observe(took);
                }
            }
        }
        if completed == [true; 2] {
            self.pending = Objects::default();
        }
    }

    /// Notes that of `key` `before` was desired, and `after` is now.
    pub(super) fn desire(
        &mut self,
        key: &ServicePortKey,
        before: Option<&ServicePort>,
        after: Option<&ServicePort>,
    ) {
        let silent = |port: Option<&ServicePort>| {
            let port = port.filter(|port| port.local.is_empty() && !port.cluster.is_empty());
            let external = port.and_then(|port| port.external.as_deref());
            [port.is_some_and(|port| port.internal_local), external.is_some_and(|external| external.local)]
        };
        let family = key.family as usize;
        let (before, after) = (silent(before), silent(after));
        for (policy, silent) in self.silent[family].iter_mut().enumerate() {
            if before[policy] == after[policy] {
                continue;
            }
            let name = (key.namespace.clone(), key.name.clone());
            let ports = silent.entry(name.clone()).or_default();
            *ports = *ports + u32::from(after[policy]) - u32::from(before[policy]);
            if *ports == 0 {
                silent.remove(&name);
            }
            self.families[family].no_local_endpoints[policy] = silent.len() as u64;
        }
    }
}

/// Both families, each `true` if one of `families` is it.
pub(super) fn concerned(families: impl Iterator<Item = Family>) -> [bool; 2] {
    let mut concerned = [false; 2];
    families.for_each(|family| concerned[family as usize] = true);
    concerned
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;

    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn what_waits_for_ever_is_not_kept_without_bound() {
        let mut book = Book::default();
        let started = Timestamp::UNIX_EPOCH;
        let at = started + SignedDuration::from_secs(1);
        for _ in 0..3 {
            let seen = Seen { triggers: vec![(Family::V4, at); TRIGGERS / 2], ..Seen::default() };
            book.see(seen, Some(started));
        }
        assert_eq!(book.triggers[0].len(), TRIGGERS);
    }

    #[test]
    fn buckets_are_kube_proxys() {
        let seconds: Vec<f64> =
            Progress::default().programming.buckets().map(|(bound, _)| bound.as_secs_f64()).collect();
        let minute = (1..60).map(f64::from);
        let steps = (0..12).map(|i| f64::from(60 + 5 * i)).chain((0..7).map(|i| f64::from(120 + 30 * i)));
        let expected: Vec<f64> = [0.25, 0.5].into_iter().chain(minute).chain(steps).collect();
        assert_eq!(seconds, expected);
        let syncs: Vec<_> = Progress::default().syncs.buckets().map(|(bound, _)| bound).collect();
        assert_eq!(syncs, from_fn::<_, 15, _>(|i| Duration::from_millis(1 << i)));
    }
}
