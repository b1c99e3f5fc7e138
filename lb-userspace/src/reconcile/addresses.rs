//! The node's own addresses, and what of them could not be written.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::plan::Own;
use crate::status::Problem;
use crate::tables::TableError;

/// When to try again.
const AGAIN: Duration = Duration::from_secs(1);

/// The node's own addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    pub(super) own: Own,
    /// Whether the tables may say otherwise.
    changed: bool,
    /// Why they do, and when to try again.
    trouble: Option<(String, Instant)>,
}

impl Addresses {
    /// Notes what they are from now on.
    pub(super) fn follow(&mut self, own: Own) {
        self.changed |= own != self.own;
        self.own = own;
    }

    /// When they are to be written.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.changed { Some(now) } else { self.trouble.as_ref().map(|(_, due)| *due) }
    }

    /// Notes how that went at `now`.
    pub(super) fn written(&mut self, result: Result<(), TableError>, now: Instant) {
        self.changed = false;
        let text = result.err().map(|error| {
            format!("what is sent to some of them is not taken for what it is: {error}; it is tried again")
        });
        if let Some(text) =
            text.as_ref().filter(|text| self.trouble.as_ref().is_none_or(|old| old.0 != **text))
        {
            warn!("addresses of the node: {text}");
        }
        self.trouble = text.map(|text| (text, now + AGAIN));
    }

    /// For the report.
    pub(super) fn problem(&self) -> Option<Problem> {
        self.trouble.as_ref().map(|(text, _)| Problem::new("addresses of the node", &**text))
    }
}
