//! What is being done, and since when.

use std::time::Instant;

use crate::sh;

/// Lines on standard error, each with the seconds since the first step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps(Instant);

impl Steps {
    /// The first step begins now.
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Says what begins.
    pub(super) fn say(&self, what: &str) {
        sh::say(&format!("{:>4.0} s  {what}", self.0.elapsed().as_secs_f32()));
    }
}
