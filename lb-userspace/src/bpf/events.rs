//! Records of events, read while the programs write on.

use lb_common::maps::{EVENT_RECORDS, EVENTS, STATE};
use lb_common::{EventRecord, StateRecord};

use super::map::{Array, MapError};
use super::pin::PinDir;

/// What stands where a record should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The record.
    Whole(EventRecord),
    /// Not the record yet; where two programs met in one place it will never be there.
    NotYet,
    /// A later record.
    Gone,
}

/// The history that the pinned maps hold, from its beginning; reading takes nothing away.
#[derive(Debug)]
pub struct Events {
    records: Array<EventRecord>,
    state: Array<StateRecord>,
    reader: Reader,
}

/// A record, and how many right before it were overwritten before they could be read.
pub type News = (EventRecord, u64);

impl Events {
    /// Opens the maps of `pins`.
    ///
    /// # Errors
    /// They are not pinned, or of another shape.
    pub fn open(pins: &PinDir) -> Result<Self, MapError> {
        let (records, state) = (Array::open(pins, EVENTS)?, Array::<StateRecord>::open(pins, STATE)?);
        let reader = Reader::new(state.get(0)?.events);
        Ok(Self { records, state, reader })
    }

    /// The records that have come since the last call; the first call gives those that are kept.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn news(&mut self) -> Result<Vec<News>, MapError> {
        let head = self.state.get(0)?.events;
        self.reader.read(head, |number| {
            let index = (number % u64::from(EVENT_RECORDS)) as u32;
            // `get` loads the sequence first; once more afterwards it tells whether the rest belongs to it.
            let record = self.records.get(index)?;
            Ok(judge(number, record, self.records.load(index, 0)?))
        })
    }
}

fn judge(number: u64, record: EventRecord, after: u64) -> Place {
    match record.sequence {
        sequence if sequence == number + 1 && after == sequence => Place::Whole(record),
        EventRecord::WRITING => Place::NotYet,
        sequence if sequence <= number => Place::NotYet,
        _ => Place::Gone,
    }
}

/// How far somebody has read.
#[derive(Debug)]
struct Reader {
    next: u64,
    lost: u64,
    /// The record that was not there yet at the last reading.
    awaited: Option<u64>,
}

impl Reader {
    /// At the oldest record that is kept when `head` numbers have been given out.
    const fn new(head: u64) -> Self {
        Self { next: head.saturating_sub(EVENT_RECORDS as u64), lost: 0, awaited: None }
    }

    fn read<E>(&mut self, head: u64, look: impl Fn(u64) -> Result<Place, E>) -> Result<Vec<News>, E> {
        let oldest = head.saturating_sub(u64::from(EVENT_RECORDS));
        self.lost += oldest.saturating_sub(self.next);
        self.next = self.next.max(oldest);
        let mut news = Vec::new();
        while self.next < head {
            match look(self.next)? {
                Place::Whole(record) => news.push((record, std::mem::take(&mut self.lost))),
                Place::NotYet if self.awaited != Some(self.next) => {
                    self.awaited = Some(self.next);
                    break;
                }
                Place::NotYet | Place::Gone => self.lost += 1,
            }
            self.next += 1;
        }
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const SIZE: u64 = EVENT_RECORDS as u64;

    fn record(number: u64) -> EventRecord {
        EventRecord { sequence: number + 1, ..EventRecord::default() }
    }

    /// What stands in each place after so many records.
    fn after(head: u64) -> impl Fn(u64) -> Result<Place, Infallible> {
        move |number| {
            let latest = (head - 1) - (head - 1 - number % SIZE) % SIZE;
            Ok(judge(number, record(latest), latest + 1))
        }
    }

    fn numbers(news: Result<Vec<News>, Infallible>) -> Vec<(u64, u64)> {
        let Ok(news) = news;
        news.iter().map(|(record, lost)| (record.sequence - 1, *lost)).collect()
    }

    #[test]
    fn history_comes_first_and_then_what_is_new() {
        let mut reader = Reader::new(3);
        assert_eq!(numbers(reader.read(3, after(3))), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(numbers(reader.read(3, after(3))), []);
        assert_eq!(numbers(reader.read(4, after(4))), [(3, 0)]);
    }

    #[test]
    fn what_was_overwritten_is_counted_unless_it_was_never_missed() {
        let head = 3 * SIZE + 7;
        let mut reader = Reader::new(head);
        let history = numbers(reader.read(head, after(head)));
        assert_eq!((history.len() as u64, history[0]), (SIZE, (head - SIZE, 0)));
        let later = head + SIZE + 5;
        let news = numbers(reader.read(later, after(later)));
        assert_eq!((news.len() as u64, news[0], news[1].1), (SIZE, (later - SIZE, 5), 0));
    }

    #[test]
    fn a_record_that_is_not_there_yet_is_waited_for_once() {
        let mut reader = Reader::new(0);
        let absent = |number| Ok(if number == 1 { Place::NotYet } else { Place::Whole(record(number)) });
        assert_eq!(numbers(reader.read(3, absent)), [(0, 0)]);
        assert_eq!(numbers(reader.read(3, absent)), [(2, 1)]);
        let mut reader = Reader::new(0);
        reader.read(3, absent).unwrap();
        assert_eq!(numbers(reader.read(3, |number| Ok(Place::Whole(record(number))))), [(1, 0), (2, 0)]);
    }

    #[test]
    fn a_copy_during_which_the_record_changed_is_none() {
        assert_eq!(judge(4, record(4), 5), Place::Whole(record(4)));
        assert_eq!(judge(4, record(4), EventRecord::WRITING), Place::Gone);
        let writing = EventRecord { sequence: EventRecord::WRITING, ..EventRecord::default() };
        assert_eq!(judge(4, writing, 5), Place::NotYet);
        assert_eq!(judge(4, EventRecord::default(), 0), Place::NotYet);
        assert_eq!(judge(4, record(4 + SIZE), 5 + SIZE), Place::Gone);
    }
}
