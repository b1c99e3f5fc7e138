//! Records of events, in place.

use core::ops::{Deref, DerefMut};
use core::ptr::addr_of_mut;

use lb_common::EventRecord;
use lb_common::maps::EVENT_RECORDS;

use super::atomic;
use super::maps::{EVENTS, STATE};

/// A record that this CPU alone writes, until it is published.
pub(crate) struct Event {
    record: *mut EventRecord,
    sequence: u64,
}

impl Deref for Event {
    type Target = EventRecord;

    #[inline(always)]
    fn deref(&self) -> &EventRecord {
        // SAFETY: a value of the array `events`; while its sequence is `WRITING` no other CPU writes it, and readers
        // in user space believe nothing of what they see.
        unsafe { &*self.record }
    }
}

impl DerefMut for Event {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut EventRecord {
        // SAFETY: as above.
        unsafe { &mut *self.record }
    }
}

impl Event {
    /// Takes the place of the next record; `None` if another CPU is writing there, or has overtaken this one.
    #[inline(always)]
    pub(super) fn next() -> Option<Self> {
        let state = STATE.get_ptr_mut(0)?;
        // SAFETY: an aligned word of a value of the array.
        let number = unsafe { atomic::fetch_add(addr_of_mut!((*state).events), 1) };
        let record = EVENTS.get_ptr_mut((number % u64::from(EVENT_RECORDS)) as u32)?;
        // SAFETY: as above.
        let taken = unsafe {
            let sequence = addr_of_mut!((*record).sequence);
            let before = sequence.read_volatile();
            // `WRITING` is greater than any number.
            before <= number && atomic::exchange(sequence, before, EventRecord::WRITING)
        };
        if taken { Some(Self { record, sequence: number + 1 }) } else { None }
    }

    /// Lets readers see the record.
    #[inline(always)]
    pub(super) fn publish(self) {
        // SAFETY: as above. The exchange is a barrier: what was written before is seen before.
        unsafe {
            atomic::exchange(addr_of_mut!((*self.record).sequence), EventRecord::WRITING, self.sequence)
        };
    }
}
