//! How crowded the flow tables are, without counting their entries.

use std::time::Duration;

use lb_common::{Config, StateRecord, maps};
use serde::Serialize;

use super::out::Row;
use super::text;
use super::view::family_text;
use crate::bpf::map::{Array, MapError};
use crate::bpf::pin::PinDir;
use crate::counts::flows::now;

/// What the programs know of the flow tables of one family.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Crowd {
    family: &'static str,
    /// Connections in the main table that are not confirmed.
    embryonic: u64,
    /// How many of them there may be before new ones begin in the LRU table.
    embryonic_limit: u32,
    /// Whether the main table has had no room since the last sweep.
    full: bool,
    /// Whether the LRU table may hold connections.
    lru_used: bool,
    /// Since the last sweep; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    swept_seconds: Option<u64>,
    /// Whether that is so long that new connections begin in the LRU table.
    unswept: bool,
}

impl Crowd {
    fn new(state: &StateRecord, config: &Config, family: usize, now: Duration) -> Self {
        let swept = state.swept[family];
        let since = (swept > 0).then(|| now.saturating_sub(Duration::from_nanos(swept)).as_secs());
        Self {
            family: family_text([4, 6][family]),
            embryonic: StateRecord::embryonic(state.begun[family], state.settled[family]),
            embryonic_limit: config.embryonic,
            full: state.full[family] != 0,
            lru_used: state.lru_used[family] != 0,
            swept_seconds: since,
            unswept: since.is_some_and(|seconds| seconds > u64::from(config.patience)),
        }
    }

    /// In one line.
    pub(super) fn summary(&self) -> String {
        let mut line = format!("{} {} of {} embryonic", self.family, self.embryonic, self.embryonic_limit);
        for (holds, text) in [
            (self.full, "main table full"),
            (self.lru_used, "LRU table in use"),
            (self.unswept, "nobody sweeps"),
        ] {
            if holds {
                line.push_str(", ");
                line.push_str(text);
            }
        }
        line
    }
}

impl Row for Crowd {
    const COLUMNS: &'static [&'static str] = &["FAMILY", "EMBRYONIC", "LIMIT", "FULL", "LRU-USED", "SWEPT"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.family.to_owned(),
            self.embryonic.to_string(),
            self.embryonic_limit.to_string(),
            text::yes(self.full),
            text::yes(self.lru_used),
            text::or_none(self.swept_seconds.map(|seconds| text::duration(Duration::from_secs(seconds)))),
        ]
    }
}

/// Both families.
pub(super) fn read(pins: &PinDir) -> Result<[Crowd; 2], MapError> {
    let state = Array::<StateRecord>::open(pins, maps::STATE)?.get(0)?;
    let config = Array::<Config>::open(pins, maps::CONFIG)?.get(0)?;
    let now = now();
    Ok([0, 1].map(|family| Crowd::new(&state, &config, family, now)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A flood of IPv4 in tables that nobody has swept for long.
    pub(in super::super) fn flooded() -> [Crowd; 2] {
        let state = StateRecord {
            lru_used: [2, 0],
            full: [1, 0],
            swept: [10_000_000_000, 0],
            begun: [70, 3],
            settled: [20, 4],
            ..StateRecord::default()
        };
        let config = Config { embryonic: 40, ..Config::default() };
        [0, 1].map(|family| Crowd::new(&state, &config, family, Duration::from_secs(100)))
    }

    #[test]
    fn what_is_notable_is_said() {
        let [v4, v6] = flooded();
        assert_eq!(v4.summary(), "IPv4 50 of 40 embryonic, main table full, LRU table in use, nobody sweeps");
        assert_eq!(v6.summary(), "IPv6 0 of 40 embryonic", "the count is never negative");
        assert_eq!(v4.cells(), ["IPv4", "50", "40", "yes", "yes", "1m30s"]);
        assert_eq!(v6.cells()[5], "-");
    }
}
