//! Traffic by Service port, in series that only grow and are not too many.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::ServiceStats;

use crate::counts::{PortName, add};

/// Service ports with series of their own. A node's clients use a small part of a cluster's Services; of each come five
/// series, from every node.
const SERIES: usize = 1000;

/// Namespace, name and port of a Service: both families and all protocols in one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Label {
    pub(super) namespace: String,
    pub(super) service: String,
    /// The port's name; its number if it has none.
    pub(super) port: String,
}

impl Label {
    fn of(name: PortName) -> Self {
        let PortName { namespace, name: service, port_name, port, .. } = name;
        let port = if port_name.is_empty() { port.to_string() } else { port_name };
        Self { namespace, service, port }
    }
}

/// What was told last. Flows count only when they end, so the living ones are added; one that ends between the two readings
/// is in neither for a moment, and a counter that falls would count anew from zero.
#[derive(Debug)]
pub(super) struct Traffic {
    limit: usize,
    told: BTreeMap<Label, ServiceStats>,
    /// Those that have no series.
    others: BTreeMap<Label, ServiceStats>,
    rest: ServiceStats,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { limit: SERIES, told: BTreeMap::new(), others: BTreeMap::new(), rest: ServiceStats::default() }
    }
}

impl Traffic {
    /// Takes up a reading of all Service ports.
    pub(super) fn update(&mut self, read: impl IntoIterator<Item = (PortName, ServiceStats)>) {
        let mut sums: BTreeMap<Label, ServiceStats> = BTreeMap::new();
        for (name, stats) in read {
            add(sums.entry(Label::of(name)).or_default(), &stats);
        }
        let there: BTreeSet<&Label> = sums.keys().collect();
        self.told.retain(|label, _| there.contains(label));
        self.others.retain(|label, _| there.contains(label));
        for (label, now) in sums {
            if let Some(told) = self.told.get_mut(&label) {
                *told = later(told, &now);
            } else if let Some(known) = self.others.get_mut(&label) {
                let now = later(known, &now);
                add(&mut self.rest, &since(known, &now));
                *known = now;
            } else if now == ServiceStats::default() {
            } else if self.told.len() < self.limit {
                self.told.insert(label, now);
            } else {
                add(&mut self.rest, &now);
                self.others.insert(label, now);
            }
        }
    }

    /// How many Service ports share one series.
    pub(super) fn others(&self) -> usize {
        self.others.len()
    }

    /// What to tell; that of all without a series of their own stands under the empty label, if there was ever one.
    pub(super) fn series(&self) -> impl Iterator<Item = (Label, &ServiceStats)> {
        let rest = (self.rest != ServiceStats::default()).then(|| (Label::default(), &self.rest));
        self.told.iter().map(|(label, stats)| (label.clone(), stats)).chain(rest)
    }
}

/// The counters after `before`, when `now` was read.
fn later(before: &ServiceStats, now: &ServiceStats) -> ServiceStats {
    // Connections never fall, unless the Service was made anew.
    if now.connections < before.connections {
        return *now;
    }
    ServiceStats {
        connections: now.connections,
        packets_in: now.packets_in.max(before.packets_in),
        bytes_in: now.bytes_in.max(before.bytes_in),
        packets_out: now.packets_out.max(before.packets_out),
        bytes_out: now.bytes_out.max(before.bytes_out),
    }
}

/// What came between the two.
fn since(before: &ServiceStats, now: &ServiceStats) -> ServiceStats {
    ServiceStats {
        connections: now.connections.saturating_sub(before.connections),
        packets_in: now.packets_in.saturating_sub(before.packets_in),
        bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
        packets_out: now.packets_out.saturating_sub(before.packets_out),
        bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, family: u8, connections: u64, packets: u64) -> (PortName, ServiceStats) {
        let name = PortName {
            namespace: "d".into(),
            name: name.into(),
            port_name: if name == "named" { "http".into() } else { String::new() },
            port: 80,
            proto: 6,
            family,
        };
        (name, ServiceStats { connections, packets_in: packets, ..ServiceStats::default() })
    }

    fn told(traffic: &Traffic) -> Vec<(String, u64, u64)> {
        let one = |(label, stats): (Label, &ServiceStats)| {
            let Label { namespace, service, port } = label;
            (format!("{namespace}/{service}:{port}"), stats.connections, stats.packets_in)
        };
        traffic.series().map(one).collect()
    }

    fn row(label: &str, connections: u64, packets: u64) -> (String, u64, u64) {
        (label.into(), connections, packets)
    }

    #[test]
    fn families_are_one_series_and_what_was_never_used_has_none() {
        let mut traffic = Traffic::default();
        traffic.update([
            read("a", 4, 1, 5),
            read("a", 6, 2, 6),
            read("named", 4, 1, 0),
            read("idle", 4, 0, 0),
        ]);
        assert_eq!(told(&traffic), [row("d/a:80", 3, 11), row("d/named:http", 1, 0)]);
    }

    #[test]
    fn counters_never_fall_unless_the_service_is_made_anew() {
        let mut traffic = Traffic::default();
        traffic.update([read("a", 4, 2, 10)]);
        // A flow has ended between the readings.
        traffic.update([read("a", 4, 2, 4)]);
        assert_eq!(told(&traffic), [row("d/a:80", 2, 10)]);
        traffic.update([read("a", 4, 3, 12)]);
        assert_eq!(told(&traffic), [row("d/a:80", 3, 12)]);
        traffic.update([read("a", 4, 1, 1)]);
        assert_eq!(told(&traffic), [row("d/a:80", 1, 1)]);
        traffic.update([]);
        assert_eq!(told(&traffic), []);
    }

    #[test]
    fn what_comes_when_all_series_are_taken_is_told_together() {
        let mut traffic = Traffic { limit: 1, ..Traffic::default() };
        traffic.update([read("a", 4, 1, 1)]);
        traffic.update([read("a", 4, 1, 1), read("b", 4, 2, 7), read("c", 4, 1, 1)]);
        assert_eq!(told(&traffic), [row("d/a:80", 1, 1), row("/:", 3, 8)]);
        assert_eq!(traffic.others(), 2);
        traffic.update([read("b", 4, 3, 9), read("d", 4, 1, 0)]);
        assert_eq!(told(&traffic), [row("d/d:80", 1, 0), row("/:", 4, 10)], "a deleted one makes room");
        assert_eq!(traffic.others(), 1);
    }
}
