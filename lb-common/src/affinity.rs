//! Which backend a client had last: session affinity by client address (B62 to B66).

use crate::abi::shared;
use crate::addr::Addr6;

/// Key of the map `affinity`, 20 bytes: one memory per client and Service port, shared by all its frontends and by the
/// packet and the socket path (B62).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct AffinityKey {
    /// The client's address; IPv4 as an IPv4-mapped address.
    pub client: Addr6,
    /// Id of the Service port.
    pub service: u32,
}

/// Value of the map `affinity`: the client's backend and when the client last opened a connection (B64), as one word, so
/// that of two CPUs that change it one wins and the other sees what won.
///
/// Bits 63..38: time, in units of 2^26 ns (67 ms) of `CLOCK_MONOTONIC_COARSE`, modulo 2^26 units (52 days); 37..24: the
/// lowest bits of the backend's generation; 23..0: its id. That the time comes round does no harm: whoever comes back
/// after weeks may find his backend again.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AffinityWord(pub u64);

/// Bits of a nanosecond clock that are below the unit of time.
const UNIT_BITS: u32 = 26;
/// Where the time begins in the word.
const TIME_SHIFT: u32 = 38;
/// Where the generation begins.
const GENERATION_SHIFT: u32 = 24;
const TIME: u64 = (1 << (64 - TIME_SHIFT)) - 1;
const GENERATION: u64 = (1 << (TIME_SHIFT - GENERATION_SHIFT)) - 1;
const BACKEND: u64 = (1 << GENERATION_SHIFT) - 1;
/// By how many units, a minute, a reader's clock may be behind the time of the word: he was held up since he looked at it.
const BEHIND: u64 = 1024;

impl AffinityWord {
    /// Backend ids must be below this.
    pub const BACKENDS: u32 = 1 << GENERATION_SHIFT;

    /// A connection to `backend` of `generation` was opened at `now`, nanoseconds.
    #[must_use]
    #[inline(always)]
    pub const fn new(backend: u32, generation: u32, now: u64) -> Self {
        let generation = (generation as u64 & GENERATION) << GENERATION_SHIFT;
        Self(generation | (backend as u64 & BACKEND)).at(now)
    }

    /// The same backend, of which a connection was opened at `now`.
    #[must_use]
    #[inline(always)]
    pub const fn at(self, now: u64) -> Self {
        let backend = self.0 & ((1 << TIME_SHIFT) - 1);
        Self((((now >> UNIT_BITS) & TIME) << TIME_SHIFT) | backend)
    }

    /// Id of the backend.
    #[must_use]
    #[inline(always)]
    pub const fn backend(self) -> u32 {
        (self.0 & BACKEND) as u32
    }

    /// Whether the backend was of `generation`, as far as its lowest bits tell.
    #[must_use]
    #[inline(always)]
    pub const fn is_of(self, generation: u32) -> bool {
        (self.0 >> GENERATION_SHIFT) & GENERATION == generation as u64 & GENERATION
    }

    /// Whether more than `timeout` seconds have passed until `now`: never too early, and at most 0.2 s too late.
    #[must_use]
    #[inline(always)]
    pub const fn is_over(self, timeout: u32, now: u64) -> bool {
        self.units(now) > ((timeout as u64 * 1_000_000_000) >> UNIT_BITS) + 1
    }

    /// Nanoseconds from the last connection to `now`, to 67 ms.
    #[must_use]
    pub const fn idle(self, now: u64) -> u64 {
        self.units(now) << UNIT_BITS
    }

    #[inline(always)]
    const fn units(self, now: u64) -> u64 {
        let since = (now >> UNIT_BITS).wrapping_sub(self.0 >> TIME_SHIFT) & TIME;
        if since > TIME - BEHIND { 0 } else { since }
    }
}

shared! {
    AffinityKey: size 20, align 4, fields [Addr6, u32];
    AffinityWord: size 8, align 8, fields [u64];
}
