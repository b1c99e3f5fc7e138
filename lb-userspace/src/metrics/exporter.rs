//! Everything that is told, put together.

use std::fmt;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lb_common::{Reason, SCHEMA, StateRecord};
use prometheus::core::Collector;
use tokio::sync::watch;
use tracing::warn;

use super::families::Families;
use super::names::*;
use super::process;
use super::reading::Reading;
use super::services::{Label, Traffic};
use crate::bpf::pin::PinDir;
use crate::health::{Clock, Health};
use crate::http::Requests;
use crate::model::Family;
use crate::reconcile::{Progress, Report};

/// The maps are read at most so often.
const SHORTEST: Duration = Duration::from_secs(1);
/// And at most this part of the time.
const SHARE: u32 = 10;

/// What only the agent knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Whether everything that was there at the start has been programmed.
    pub synced: bool,
    /// Whether the source has told all that it had at the start.
    pub listed: bool,
    /// Whether it answers.
    pub connected: bool,
    /// Interfaces of pods that have the programs.
    pub pods: usize,
    /// Uplinks and overlays that have them.
    pub outward: usize,
    /// How many problems there are, by what they are about.
    pub problems: Vec<(&'static str, usize)>,
    /// How many Kubernetes Events there were, by what became of them.
    pub events: Vec<(&'static str, u64)>,
}

/// Tells everything.
pub struct Exporter {
    pins: PinDir,
    health: Health,
    reports: watch::Receiver<Report>,
    facts: Box<dyn Fn() -> Facts + Send + Sync>,
    requests: Option<Requests>,
    tables: Tables,
}

/// The last reading of the maps.
#[derive(Debug, Default)]
struct Tables {
    reading: Reading,
    traffic: Traffic,
    /// When the next one is due.
    due: Option<Instant>,
    /// Whether the last attempt failed.
    failing: bool,
}

impl Exporter {
    /// Tells of the datapath under `pins`, and of the agent whose `health`, `facts` and `requests` of API servers these are.
    pub fn new(
        pins: PinDir,
        health: Health,
        requests: Option<Requests>,
        facts: impl Fn() -> Facts + Send + Sync + 'static,
    ) -> Self {
        let reports = health.reports.clone();
        Self { pins, health, reports, facts: Box::new(facts), requests, tables: Tables::default() }
    }

    /// Everything, in Prometheus' text format. Blocks while the maps are read.
    ///
    /// # Errors
    /// Never: what cannot be read is left out.
    pub fn text(&mut self) -> prometheus::Result<String> {
        let mut families = Families::default();
        let report = self.reports.borrow().clone();
        tell_report(&mut families, &report);
        for counter in [&self.health.healthz, &self.health.livez] {
            families.collected(counter.collect());
        }
        if let Some(requests) = &self.requests {
            families.collected(requests.collect());
        }
        if let Err(error) = process::tell(&mut families) {
            warn!("/proc: {error}");
        }
        tell_facts(&mut families, &(self.facts)());
        self.tables.renew(&self.pins);
        self.tables.tell(&mut families, &report);
        families.text()
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("pins", &self.pins).finish_non_exhaustive()
    }
}

/// Seconds since 1970.
fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn by_family<T>(values: impl IntoIterator<Item = T>) -> impl Iterator<Item = (String, T)> {
    Family::ALL.into_iter().map(|family| family.kubernetes_name().to_owned()).zip(values)
}

fn tell_report(families: &mut Families, report: &Report) {
    let clock = Clock::now();
    let times = |at: fn(&Progress) -> Option<Instant>| {
        let known =
            by_family(&report.families).filter_map(move |(family, progress)| Some((family, at(progress)?)));
        known.map(move |(family, at)| ([family], seconds(clock.wall_at(at))))
    };
    families.histograms(&SYNC_DURATION, by_family(report.families.iter().map(|it| &it.syncs)));
    families.many(&SYNC_LAST, times(|progress| progress.synced));
    families.many(&SYNC_QUEUED, times(|progress| progress.queued));
    families.histograms(&PROGRAMMING, by_family(report.families.iter().map(|it| &it.programming)));
    families.one(&ENDPOINTS_PENDING, report.pending.endpoints as f64);
    families.one(&ENDPOINTS_TOTAL, report.seen.endpoints as f64);
    families.one(&SERVICES_PENDING, report.pending.services as f64);
    families.one(&SERVICES_TOTAL, report.seen.services as f64);
    let policies = by_family(&report.families).flat_map(|(family, progress)| {
        let counts = ["internal", "external"].into_iter().zip(progress.no_local_endpoints);
        counts.map(move |(policy, count)| ([family.clone(), policy.to_owned()], count as f64))
    });
    families.many(&NO_LOCAL, policies);
    families.one(&SERVICE_PORTS, report.service_ports as f64);
    families.one(&OPERATIONS, report.operations as f64);
    families.one(&FAILURES, report.failures as f64);
    families.one(&RETRIES, report.retries as f64);
    families.one(&REPAIRS, report.repairs as f64);
    let objects = report.objects.iter().map(|(kind, count)| ([kind.to_string()], *count as f64));
    families.many(&OBJECTS, objects);
}

fn tell_facts(families: &mut Families, facts: &Facts) {
    let version = [env!("CARGO_PKG_VERSION").to_owned(), SCHEMA.to_string()];
    families.many(&BUILD, [(version, 1.0)]);
    families.one(&SYNCED, f64::from(u8::from(facts.synced)));
    families.one(&LISTED, f64::from(u8::from(facts.listed)));
    families.one(&CONNECTED, f64::from(u8::from(facts.connected)));
    let classes = [("pods", facts.pods), ("outward", facts.outward)];
    families.many(&INTERFACES, classes.map(|(class, count)| ([class.to_owned()], count as f64)));
    let problems = facts.problems.iter().map(|(about, count)| ([(*about).to_owned()], *count as f64));
    families.many(&PROBLEMS, problems);
    let events = facts.events.iter().map(|(outcome, count)| ([(*outcome).to_owned()], *count as f64));
    families.many(&EVENTS, events);
}

impl Tables {
    /// Reads the maps again, if it is time.
    fn renew(&mut self, pins: &PinDir) {
        let began = Instant::now();
        if self.due.is_some_and(|due| began < due) {
            return;
        }
        match Reading::of(pins) {
            Ok(mut reading) => {
                self.traffic.update(std::mem::take(&mut reading.services));
                self.reading = reading;
                self.failing = false;
            }
            Err(error) => {
                if !self.failing {
                    warn!("metrics are as of the last reading of the maps: {error:#}");
                }
                self.failing = true;
            }
        }
        self.due = Some(Instant::now() + (began.elapsed() * SHARE).max(SHORTEST));
    }

    fn tell(&self, families: &mut Families, report: &Report) {
        let Reading { reasons, maps, state, config, now, .. } = &self.reading;
        let outcomes = Reason::ALL.iter().zip(reasons).map(|(reason, count)| {
            ([reason.name().to_owned(), reason.effect().name().to_owned()], *count as f64)
        });
        families.many(&OUTCOMES, outcomes);
        self.tell_traffic(families);
        let fills = maps.iter().filter_map(|map| Some((map.name, map.entries? as f64, map.capacity)));
        let arrays = report.used.iter().map(|it| (it.map, f64::from(it.entries), it.capacity));
        let fills: Vec<_> = fills.chain(arrays).collect();
        families.many(&MAP_ENTRIES, fills.iter().map(|(name, entries, _)| ([(*name).to_owned()], *entries)));
        let capacities = fills.iter().map(|(name, _, most)| ([(*name).to_owned()], f64::from(*most)));
        families.many(&MAP_CAPACITY, capacities);
        let memory = maps.iter().filter_map(|map| Some(([map.name.to_owned()], map.memory? as f64)));
        families.many(&MAP_MEMORY, memory);
        if maps.is_empty() {
            return;
        }
        let embryonic = state.begun.iter().zip(state.settled);
        let mut tell = |metric, values: [f64; 2]| {
            families.many(metric, by_family(values).map(|(family, value)| ([family], value)));
        };
        let counts: Vec<_> =
            embryonic.map(|(begun, settled)| StateRecord::embryonic(*begun, settled) as f64).collect();
        tell(&EMBRYONIC, [counts[0], counts[1]]);
        tell(&EMBRYONIC_LIMIT, [f64::from(config.embryonic); 2]);
        tell(&FLOWS_FULL, state.full.map(|full| f64::from(u8::from(full != 0))));
        tell(&LRU_USED, state.lru_used.map(|used| f64::from(u8::from(used != 0))));
        let wall = Timestamp::now();
        let swept = |at: u64| {
            let ago = SignedDuration::try_from(now.saturating_sub(Duration::from_nanos(at)));
            seconds(wall.checked_sub(ago.unwrap_or_default()).unwrap_or(wall))
        };
        let known = by_family(state.swept).filter(|(_, at)| *at > 0);
        families.many(&SWEPT, known.map(|(family, at)| ([family], swept(at))));
    }

    fn tell_traffic(&self, families: &mut Families) {
        families.one(&OTHERS, self.traffic.others() as f64);
        let series = || {
            self.traffic
                .series()
                .map(|(Label { namespace, service, port }, stats)| ([namespace, service, port], stats))
        };
        families.many(&CONNECTIONS, series().map(|(labels, stats)| (labels, stats.connections as f64)));
        let directed = |of: fn(&lb_common::ServiceStats) -> [u64; 2]| {
            series().flat_map(move |([namespace, service, port], stats)| {
                ["in", "out"].into_iter().zip(of(stats)).map(move |(direction, count)| {
                    let labels = [namespace.clone(), service.clone(), port.clone(), direction.to_owned()];
                    (labels, count as f64)
                })
            })
        };
        families.many(&PACKETS, directed(|stats| [stats.packets_in, stats.packets_out]));
        families.many(&BYTES, directed(|stats| [stats.bytes_in, stats.bytes_out]));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use hyper::{Method, StatusCode};
    use lb_common::{Config, ServiceStats, maps};

    use super::*;
    use crate::counts::PortName;
    use crate::health::Told;
    use crate::metrics::reading::Map;
    use crate::model::Kind;
    use crate::plan::Use;

    fn tables() -> Tables {
        let mut traffic = Traffic::default();
        let name = PortName {
            namespace: "shop".into(),
            name: "web".into(),
            port_name: "http".into(),
            port: 80,
            proto: 6,
            family: 4,
        };
        let stats =
            ServiceStats { connections: 3, packets_in: 30, bytes_in: 300, packets_out: 20, bytes_out: 200 };
        traffic.update([(name, stats)]);
        let now = Duration::from_secs(100);
        let reading = Reading {
            reasons: (0..Reason::ALL.len() as u64).collect(),
            maps: vec![Map { name: maps::FLOWS4, entries: Some(10), capacity: 100, memory: Some(4096) }],
            services: Vec::new(),
            state: StateRecord {
                begun: [9, 1],
                settled: [4, 1],
                swept: [99_000_000_000, 0],
                ..StateRecord::default()
            },
            config: Config { embryonic: 50, ..Config::default() },
            now,
        };
        Tables { reading, traffic, ..Tables::default() }
    }

    fn told() -> String {
        let report = Report {
            objects: BTreeMap::from([(Kind::Service, 4)]),
            used: vec![Use { map: maps::SLOTS4, entries: 5, capacity: 50 }],
            families: [0, 1].map(|_| Progress {
                synced: Some(Instant::now()),
                queued: Some(Instant::now()),
                no_local_endpoints: [2, 1],
                ..Progress::default()
            }),
            ..Report::default()
        };
        let (_reports, heard) = watch::channel(report.clone());
        let (_told, node) = watch::channel(Told::default());
        let health = Health::new(heard, node).unwrap();
        assert_eq!(health.answer("/healthz").status(), 200);
        assert_eq!(health.answer("/livez").status(), 200);
        let facts = || Facts {
            pods: 3,
            problems: vec![("source", 2)],
            events: vec![("posted", 1)],
            ..Facts::default()
        };
        let requests = Requests::new().unwrap();
        requests.note(&Method::GET, "192.0.2.1:6443", Some(StatusCode::OK), Duration::from_millis(20));
        let mut exporter = Exporter::new(PinDir::new("/nowhere"), health, Some(requests), facts);
        let later = Some(Instant::now() + Duration::from_secs(3600));
        exporter.tables = Tables { due: later, ..tables() };
        exporter.text().unwrap()
    }

    #[test]
    fn what_is_told_is_what_the_table_of_metrics_has() {
        let text = told();
        let told: BTreeSet<String> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect();
        let kinds = ALL.iter().map(|metric| format!("{} {:?}", metric.name, metric.kind).to_lowercase());
        assert_eq!(told.iter().map(|line| line.to_lowercase()).collect::<BTreeSet<_>>(), kinds.collect());
        for metric in ALL {
            let first = text.lines().find(|line| {
                line.strip_prefix(metric.name).is_some_and(|rest| rest.starts_with([' ', '{', '_']))
            });
            let labels = first.and_then(|line| Some(line.split_once('{')?.1.split_once('}')?.0));
            let names = labels.unwrap_or_default().split("\",").filter_map(|pair| pair.split('=').next());
            let mut names: Vec<_> = names.filter(|name| !matches!(*name, "" | "le")).collect();
            let mut labels = metric.labels.to_vec();
            // Some are sorted by whoever counts them.
            names.sort_unstable();
            labels.sort_unstable();
            assert_eq!(names, labels, "{}: {first:?}", metric.name);
        }
    }

    #[test]
    fn what_alerts_count_is_told_before_it_happens() {
        let text = told();
        let alerts = include_str!("../../../deploy/monitoring/alerts.yaml");
        let counted = ["rate(", "increase("].into_iter().flat_map(|word| alerts.split(word).skip(1));
        let mut count = 0;
        for selector in counted.filter_map(|rest| rest.split('[').next()) {
            let (name, labels) = selector.split_once('{').unwrap_or((selector, ""));
            let exact = labels.trim_end_matches('}').split(',').filter(|pair| !pair.contains('~'));
            let exact: Vec<_> = exact.collect();
            let is_it = |line: &str| line.starts_with(name) && exact.iter().all(|pair| line.contains(pair));
            assert!(text.lines().any(is_it), "{selector}");
            count += 1;
        }
        assert!(count > 5, "{count}");
    }

    #[test]
    fn values_stand_where_they_belong() {
        let text = told();
        for line in [
            r#"sluice_service_connections_total{namespace="shop",service="web",port="http"} 3"#,
            r#"sluice_service_packets_total{namespace="shop",service="web",port="http",direction="in"} 30"#,
            r#"sluice_service_bytes_total{namespace="shop",service="web",port="http",direction="out"} 200"#,
            r#"sluice_outcomes_total{reason="no_endpoints",effect="reject"} 12"#,
            r#"sluice_map_entries{map="flows4"} 10"#,
            r#"sluice_map_capacity_entries{map="slots4"} 50"#,
            r#"sluice_flows_embryonic{ip_family="IPv4"} 5"#,
            r#"sluice_flows_embryonic_limit{ip_family="IPv6"} 50"#,
            r#"sluice_source_objects{kind="Service"} 4"#,
            r#"sluice_interfaces_attached{class="pods"} 3"#,
            r#"sluice_problems{about="source"} 2"#,
            r#"kubeproxy_proxy_healthz_total{code="200"} 1"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 2"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="external"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.25"} 0"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="300"} 0"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="0.001"} 0"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="+Inf"} 0"#,
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
        let swept = text
            .lines()
            .find_map(|line| line.strip_prefix(r#"sluice_sweep_last_timestamp_seconds{ip_family="IPv4"} "#));
        let ago = seconds(Timestamp::now()) - swept.unwrap().parse::<f64>().unwrap();
        assert!(ago >= 1.0, "{ago}");
    }
}
