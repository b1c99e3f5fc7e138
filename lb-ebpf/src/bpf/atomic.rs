//! Atomic operations. The BPF target declares none, though the instructions exist from CPU version 3 on (Linux 5.12):
//! `core::sync::atomic` is empty there, the intrinsics behind it work.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

/// Adds `value` to `*at` and returns what was there.
///
/// # Safety
/// `at` points to an aligned word of a map value that the verifier accepts.
#[inline(always)]
pub(super) unsafe fn fetch_add(at: *mut u64, value: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(at, value) }
}

/// Adds `value` to `*at`.
///
/// # Safety
/// As for [`fetch_add`].
#[inline(always)]
pub(super) unsafe fn add(at: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    let _ = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(at, value) };
}

/// Sets `bits` in `*at`.
///
/// # Safety
/// As for [`fetch_add`].
#[inline(always)]
pub(super) unsafe fn or(at: *mut u64, bits: u64) {
    // SAFETY: the caller's promise.
    let _ = unsafe { atomic_or::<u64, u64, { AtomicOrdering::Relaxed }>(at, bits) };
}

/// Replaces `old` by `new` in `*at`; false if something else was there.
///
/// # Safety
/// As for [`fetch_add`].
#[inline(always)]
pub(super) unsafe fn exchange(at: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller's promise.
    let (_, exchanged) =
        unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, new) };
    exchanged
}
