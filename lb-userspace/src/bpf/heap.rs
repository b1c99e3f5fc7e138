//! The heap of a process that runs for months.

use libc::{M_ARENA_MAX, M_TRIM_THRESHOLD, c_int};

/// What may stay free at the end of the heap: glibc's own beginning, but fixed.
const SPARE: c_int = 128 << 10;

/// Has what is freed go back to the kernel. glibc keeps ever more of it, and apart for each thread: programs that have been
/// loaded and lists that have been read would count as this process's for good. To be called before there are threads.
pub fn give_back() {
    for (parameter, value) in [(M_TRIM_THRESHOLD, SPARE), (M_ARENA_MAX, 1)] {
        // SAFETY: takes two integers, which are the allocator's to judge: what it refuses stays as it was.
        unsafe { libc::mallopt(parameter, value) };
    }
}
