//! Numbers to hand out: ids, and runs of slots.

use std::collections::BTreeMap;
use std::ops::Range;

/// Hands out numbers of a range, singly or in runs, going round (next fit), so that each comes back late.
///
/// What is given back rests: a program that was running when it was unpublished may still read it. It is free again when a
/// grace period that began later has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    limits: Range<u32>,
    /// Runs by their start, none touching another; the value is the end.
    free: BTreeMap<u32, u32>,
    available: u32,
    next: u32,
    resting: Vec<Range<u32>>,
    waiting: Vec<Range<u32>>,
}

impl Pool {
    /// A pool of all numbers in `limits`, all free.
    #[must_use]
    pub fn new(limits: Range<u32>) -> Self {
        let mut pool = Self {
            next: limits.start,
            limits: limits.clone(),
            free: BTreeMap::new(),
            available: 0,
            resting: Vec::new(),
            waiting: Vec::new(),
        };
        pool.give(limits);
        pool
    }

    /// How many numbers are free.
    #[must_use]
    pub const fn available(&self) -> u32 {
        self.available
    }

    /// How many numbers are in use or resting.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.limits.end.saturating_sub(self.limits.start) - self.available
    }

    /// Whether no number is in use or resting.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.taken() == 0
    }

    /// Free runs in the order in which they are to be used. The run around the place where the search goes on comes twice:
    /// from that place on, first; whole, last.
    fn runs(&self) -> impl Iterator<Item = Range<u32>> {
        let around = self.free.range(..self.next).next_back().map(|(_, end)| self.next..*end);
        let run = |(start, end): (&u32, &u32)| *start..*end;
        around
            .into_iter()
            .chain(self.free.range(self.next..).map(run))
            .chain(self.free.range(..self.next).map(run))
    }

    /// The free numbers, in the order in which they are to be used.
    pub fn singles(&self) -> impl Iterator<Item = u32> {
        // Numbers that come twice come last.
        self.runs().flatten().take(self.available as usize)
    }

    /// Where `len` free numbers follow one another, none of them in `except`.
    #[must_use]
    pub fn find(&self, len: u32, except: &Range<u32>) -> Option<u32> {
        self.runs()
            .flat_map(|run| {
                if run.start < except.end && except.start < run.end {
                    [run.start..except.start, except.end..run.end]
                } else {
                    [run.clone(), run.end..run.end]
                }
            })
            .find(|piece| piece.end.saturating_sub(piece.start) >= len)
            .map(|piece| piece.start)
    }

    /// Takes `run` out; `false`, and nothing happens, if it is not all free.
    pub fn take(&mut self, run: Range<u32>) -> bool {
        if run.is_empty() {
            return false;
        }
        let Some((start, end)) = self.free.range(..=run.start).next_back().map(|(s, e)| (*s, *e)) else {
            return false;
        };
        if end < run.end {
            return false;
        }
        self.free.remove(&start);
        if start < run.start {
            self.free.insert(start, run.start);
        }
        if run.end < end {
            self.free.insert(run.end, end);
        }
        self.available -= run.end - run.start;
        self.next = if run.end < self.limits.end { run.end } else { self.limits.start };
        true
    }

    /// Gives `run`, which was taken, back: it rests. Numbers that the pool never had are ignored.
    pub fn release(&mut self, run: Range<u32>) {
        if !run.is_empty() && self.limits.start <= run.start && run.end <= self.limits.end {
            self.resting.push(run);
        }
    }

    /// A grace period begins; what rests now will be free when it ends. `false` if nothing rests.
    pub fn begin_grace(&mut self) -> bool {
        if self.waiting.is_empty() {
            self.waiting = std::mem::take(&mut self.resting);
        }
        !self.waiting.is_empty()
    }

    /// The grace period has ended. `true` if numbers became free.
    pub fn end_grace(&mut self) -> bool {
        let ended = std::mem::take(&mut self.waiting);
        let any = !ended.is_empty();
        for run in ended {
            self.give(run);
        }
        any
    }

    /// Goes on where `old`, a pool of the same numbers, left off: what was not free there and is free here rests.
    pub fn inherit(&mut self, old: &Self) {
        let mut from = old.limits.start;
        let ends = old.free.iter().map(|(start, end)| (*start, *end));
        for (start, end) in ends.chain([(old.limits.end, old.limits.end)]) {
            for run in self.free_within(&(from..start)) {
                if self.take(run.clone()) {
                    self.resting.push(run);
                }
            }
            from = end;
        }
        self.next = old.next;
    }

    fn free_within(&self, bounds: &Range<u32>) -> Vec<Range<u32>> {
        let first = self.free.range(..=bounds.start).next_back().map_or(bounds.start, |(start, _)| *start);
        self.free
            .range(first..bounds.end.max(first))
            .map(|(start, end)| (*start).max(bounds.start)..(*end).min(bounds.end))
            .filter(|run| !run.is_empty())
            .collect()
    }

    fn give(&mut self, run: Range<u32>) {
        if run.is_empty() {
            return;
        }
        self.available += run.end - run.start;
        let end = self.free.remove(&run.end).unwrap_or(run.end);
        match self.free.range_mut(..run.start).next_back() {
            Some((_, before)) if *before == run.start => *before = end,
            _ => {
                self.free.insert(run.start, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: Range<u32> = 0..0;

    #[test]
    fn numbers_come_round_late() {
        let mut pool = Pool::new(1..5);
        for expected in [1, 2] {
            let id = pool.singles().next().unwrap();
            assert_eq!(id, expected);
            assert!(pool.take(id..id + 1));
        }
        pool.release(1..2);
        assert!(pool.begin_grace());
        assert!(pool.end_grace());
        assert_eq!(pool.singles().collect::<Vec<_>>(), [3, 4, 1]);
    }

    #[test]
    fn what_is_given_back_rests_until_a_later_grace_period_has_ended() {
        let mut pool = Pool::new(0..2);
        assert!(pool.take(0..2));
        pool.release(0..1);
        assert!(pool.begin_grace());
        pool.release(1..2);
        assert!(pool.end_grace());
        assert_eq!(pool.singles().collect::<Vec<_>>(), [0]);
        assert!(pool.begin_grace());
        assert!(pool.end_grace());
        assert!(pool.is_untouched());
        assert!(!pool.begin_grace());
    }

    #[test]
    fn a_run_may_span_the_place_where_the_search_goes_on() {
        let mut pool = Pool::new(0..10);
        assert!(pool.take(0..5));
        pool.release(0..5);
        pool.begin_grace();
        pool.end_grace();
        assert_eq!(pool.find(8, &NONE), Some(0));
        assert_eq!(pool.find(4, &NONE), Some(5));
        assert_eq!(pool.find(4, &(5..9)), Some(0));
        assert_eq!(pool.find(11, &NONE), None);
    }

    #[test]
    fn what_was_in_use_before_a_new_reading_rests() {
        let mut old = Pool::new(0..10);
        assert!(old.take(2..4) && old.take(6..8));
        old.release(6..8);
        let mut new = Pool::new(0..10);
        assert!(new.take(3..5));
        new.inherit(&old);
        assert_eq!(new.available(), 10 - 2 - 1 - 2);
        assert!(!new.take(2..3) && !new.take(6..7));
        new.begin_grace();
        new.end_grace();
        assert_eq!(new.available(), 8);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_handed_out_twice(steps in prop::collection::vec((1_u32..6, any::<bool>()), 0..200)) {
            let mut pool = Pool::new(3..40);
            let mut held: Vec<Range<u32>> = Vec::new();
            for (len, take) in steps {
                if take {
                    if let Some(start) = pool.find(len, &NONE) {
                        let run = start..start + len;
                        prop_assert!(held.iter().all(|other| other.end <= run.start || run.end <= other.start));
                        prop_assert!(pool.take(run.clone()));
                        held.push(run);
                    }
                } else if !held.is_empty() {
                    pool.release(held.remove(len as usize % held.len()));
                    pool.begin_grace();
                    pool.end_grace();
                }
                let in_use: u32 = held.iter().map(|run| run.end - run.start).sum();
                prop_assert_eq!(pool.available() + in_use, 37);
                prop_assert_eq!(pool.singles().count() as u32, pool.available());
            }
            for run in held {
                pool.release(run);
            }
            pool.begin_grace();
            pool.end_grace();
            prop_assert!(pool.is_untouched());
            prop_assert_eq!(pool.free.len(), 1);
        }
    }
}
