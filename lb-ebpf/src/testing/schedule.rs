//! Points at which threads may interleave.

use core::fmt;
use std::sync::Arc;

/// What a thread is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// One access to shared memory.
    Access,
    /// To try again what another thread must finish first.
    Wait,
}

/// Called between any two accesses to shared memory, so that an explorer of schedules can put another thread in
/// between. By default nothing happens, and the machine interleaves as it likes.
#[derive(Clone, Default)]
pub struct Schedule(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Schedule {
    /// A schedule that `step` decides. No lock is held during the call.
    pub fn new(step: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(step)))
    }

    pub(super) fn access(&self) {
        if let Some(step) = &self.0 {
            step(Step::Access);
        }
    }

    pub(super) fn wait(&self) {
        match &self.0 {
            Some(step) => step(Step::Wait),
            None => std::thread::yield_now(),
        }
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schedule")
    }
}
