//! What servers could not do, for the status file.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tracing::warn;

use crate::status::Problem;

/// What is wrong now, by server. All clones are one board.
#[derive(Clone, Debug)]
pub struct Board(watch::Sender<BTreeMap<&'static str, Vec<Problem>>>);

impl Default for Board {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Board {
    /// Says that `problems` is all that is wrong with `server`, and logs what is new.
    pub fn tell(&self, server: &'static str, problems: Vec<Problem>) {
        self.0.send_if_modified(|board| {
            let known = board.entry(server).or_default();
            let modified = *known != problems;
            for problem in problems.iter().filter(|problem| !known.contains(problem)) {
                warn!("{problem}");
            }
            *known = problems;
            modified
        });
    }

    /// Everything that is wrong, followed.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<BTreeMap<&'static str, Vec<Problem>>> {
        self.0.subscribe()
    }
}
