//! What the datapath works on where it lies: values of maps.

use core::ops::{Deref, DerefMut};
use core::ptr::{addr_of, addr_of_mut, copy_nonoverlapping};
use core::sync::atomic::{Ordering, compiler_fence};

use lb_common::{
    Address, AffinityWord, BackendRecord, BackendWord, FlowValue, FlowWord, Port, Scratch, ServiceRecord,
    Span, WayRecord,
};
use lb_ebpf::env::{AffinityRef, BackendRef, FlowRef, ServiceRef, Traffic};

use super::atomic;
use super::maps::Maps;

/// A flow table entry in place.
pub(crate) struct Entry<A>(pub(super) *mut FlowValue<A>);

impl<A> Clone for Entry<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Entry<A> {}

impl<A: Maps> FlowRef<A> for Entry<A> {
    #[inline(always)]
    fn read(self, value: &mut FlowValue<A>) -> bool {
        // SAFETY: `self.0` is a map value of this type; elements of a preallocated map stay mapped for its life. What
        // another CPU writes meanwhile shows at one of the two ends, which is what the caller looks at.
        unsafe {
            let (word, check) = (addr_of!((*self.0).word), addr_of!((*self.0).check));
            let before = (word.read_volatile(), check.read_volatile());
            compiler_fence(Ordering::SeqCst);
            copy_nonoverlapping(self.0.cast_const(), value, 1);
            compiler_fence(Ordering::SeqCst);
            let after = (word.read_volatile(), check.read_volatile());
            (value.word, value.check) = before;
            FlowWord(before.0).id() == FlowWord(after.0).id() && before.1 == after.1
        }
    }

    #[inline(always)]
    fn peek(self) -> (FlowWord, u64) {
        // SAFETY: as in `read`; each is one aligned load.
        unsafe {
            (FlowWord(addr_of!((*self.0).word).read_volatile()), addr_of!((*self.0).seen).read_volatile())
        }
    }

    #[inline(always)]
    fn exchange(self, old: FlowWord, new: FlowWord) -> bool {
        // SAFETY: as in `read`; the word is aligned.
        unsafe { atomic::exchange(addr_of_mut!((*self.0).word), old.0, new.0) }
    }

    #[inline(always)]
    fn touch(self, now: u64, bytes: u64) {
        // SAFETY: as in `read`; an element that was just recycled counts one packet of another flow.
        unsafe {
            addr_of_mut!((*self.0).seen).write_volatile(now);
            atomic::add(addr_of_mut!((*self.0).packets), 1);
            atomic::add(addr_of_mut!((*self.0).bytes), bytes);
        }
    }

    #[inline(always)]
    fn traffic(self) -> Traffic {
        // SAFETY: as in `read`.
        unsafe {
            Traffic {
                packets: addr_of!((*self.0).packets).read_volatile(),
                bytes: addr_of!((*self.0).bytes).read_volatile(),
            }
        }
    }
}

/// A Service port in place.
#[derive(Clone, Copy)]
pub(crate) struct Service(pub(super) *mut ServiceRecord);

impl ServiceRef for Service {
    #[inline(always)]
    fn cluster(self) -> Span {
        // SAFETY: a value of the array `services`; one aligned load.
        Span(unsafe { addr_of!((*self.0).cluster).read_volatile() })
    }

    #[inline(always)]
    fn local(self) -> Span {
        // SAFETY: as above.
        Span(unsafe { addr_of!((*self.0).local).read_volatile() })
    }

    #[inline(always)]
    fn flags(self) -> u64 {
        // SAFETY: as above.
        unsafe { addr_of!((*self.0).flags).read_volatile() }
    }

    #[inline(always)]
    fn advance(self) -> u64 {
        // SAFETY: as above; the word is aligned.
        unsafe { atomic::fetch_add(addr_of_mut!((*self.0).cursor), 1) }
    }

    #[inline(always)]
    fn spent(self) -> u64 {
        // SAFETY: as above.
        unsafe { addr_of!((*self.0).spent).read_volatile() }
    }

    #[inline(always)]
    fn spend(self, old: u64, new: u64) -> bool {
        // SAFETY: as above; the word is aligned.
        unsafe { atomic::exchange(addr_of_mut!((*self.0).spent), old, new) }
    }
}

/// A backend in place.
#[derive(Clone, Copy)]
pub(crate) struct Backend(pub(super) *const BackendRecord);

impl BackendRef for Backend {
    #[inline(always)]
    fn word(self) -> BackendWord {
        // SAFETY: a value of the array `backends`; one aligned load.
        BackendWord(unsafe { addr_of!((*self.0).word).read_volatile() })
    }

    #[inline(always)]
    fn service(self) -> u32 {
        // SAFETY: as above.
        unsafe { addr_of!((*self.0).service).read_volatile() }
    }

    #[inline(always)]
    fn addr<A: Address>(self) -> A {
        // SAFETY: as above; what is written meanwhile, to a backend that is in no scope, is not used.
        A::unmapped(unsafe { &(*self.0).addr })
    }

    #[inline(always)]
    fn port(self) -> Port {
        // SAFETY: as above.
        unsafe { (*self.0).port }
    }
}

/// A client's memory in place.
#[derive(Clone, Copy)]
pub(crate) struct Remembered(pub(super) *mut AffinityWord);

impl AffinityRef for Remembered {
    #[inline(always)]
    fn load(self) -> AffinityWord {
        // SAFETY: a value of the map `affinity`, preallocated and thus mapped for the map's life; one aligned load.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn exchange(self, old: AffinityWord, new: AffinityWord) -> bool {
        // SAFETY: as above; the word is aligned.
        unsafe { atomic::exchange(self.0.cast(), old.0, new.0) }
    }
}

/// This CPU's memory for a packet.
pub(crate) struct Memory<A>(pub(super) *mut Scratch<A>);

impl<A> Deref for Memory<A> {
    type Target = Scratch<A>;

    #[inline(always)]
    fn deref(&self) -> &Scratch<A> {
        // SAFETY: a value of a per-CPU array; packets on one CPU do not interrupt each other.
        unsafe { &*self.0 }
    }
}

impl<A> DerefMut for Memory<A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Scratch<A> {
        // SAFETY: as above.
        unsafe { &mut *self.0 }
    }
}

/// A way that this CPU keeps, in place.
pub(crate) struct Kept(pub(super) *mut WayRecord);

impl Deref for Kept {
    type Target = WayRecord;

    #[inline(always)]
    fn deref(&self) -> &WayRecord {
        // SAFETY: a value of a per-CPU array; packets on one CPU do not interrupt each other.
        unsafe { &*self.0 }
    }
}

impl DerefMut for Kept {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut WayRecord {
        // SAFETY: as above.
        unsafe { &mut *self.0 }
    }
}
