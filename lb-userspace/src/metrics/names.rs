//! Every metric: its name is said here and nowhere else.
//!
//! `docs/metrics.md` is this table, and dashboards and alerts name nothing that is not in it: tests compare them.

use prometheus::proto::MetricType;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name, with its unit.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricType,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What is counted.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident, $name:literal: $kind:ident, [$($label:literal),*], $unit:literal, $help:literal;)+) => {
        $(#[doc = $help] pub(super) const $constant: Metric = Metric {
            name: $name,
            kind: MetricType::$kind,
            labels: &[$($label),*],
            unit: $unit,
            help: $help,
        };)+

        /// All metrics.
        pub const ALL: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    // kube-proxy's, with the meaning that they have there.
    SYNC_DURATION, "kubeproxy_sync_proxy_rules_duration_seconds": HISTOGRAM, ["ip_family"], "seconds", "How long a sync of the tables took.";
    SYNC_LAST, "kubeproxy_sync_proxy_rules_last_timestamp_seconds": GAUGE, ["ip_family"], "seconds since 1970", "When a sync of the tables was completed last.";
    SYNC_QUEUED, "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds": GAUGE, ["ip_family"], "seconds since 1970", "When a change was queued last.";
    PROGRAMMING, "kubeproxy_network_programming_duration_seconds": HISTOGRAM, ["ip_family"], "seconds", "From a change of endpoints in the cluster to the end of the sync that has its effect here.";
    ENDPOINTS_PENDING, "kubeproxy_sync_proxy_rules_endpoint_changes_pending": GAUGE, [], "objects", "Changes of endpoints that no completed sync has covered.";
    ENDPOINTS_TOTAL, "kubeproxy_sync_proxy_rules_endpoint_changes_total": COUNTER, [], "objects", "Changes of endpoints that came.";
    SERVICES_PENDING, "kubeproxy_sync_proxy_rules_service_changes_pending": GAUGE, [], "objects", "Changes of Services that no completed sync has covered.";
    SERVICES_TOTAL, "kubeproxy_sync_proxy_rules_service_changes_total": COUNTER, [], "objects", "Changes of Services that came.";
    NO_LOCAL, "kubeproxy_sync_proxy_rules_no_local_endpoints_total": GAUGE, ["ip_family", "traffic_policy"], "Services", "Services with a Local policy that have a port whose endpoints are all on other nodes.";
    HEALTHZ, "kubeproxy_proxy_healthz_total": COUNTER, ["code"], "answers", "Answers to /healthz by HTTP status.";
    LIVEZ, "kubeproxy_proxy_livez_total": COUNTER, ["code"], "answers", "Answers to /livez by HTTP status.";

    // Those of every client of an API server.
    REST_REQUESTS, "rest_client_requests_total": COUNTER, ["code", "method", "host"], "requests", "Requests to the API server by HTTP status.";
    REST_DURATION, "rest_client_request_duration_seconds": HISTOGRAM, ["verb", "host"], "seconds", "How long it took from a request to the API server to the head of its answer.";

    // Those of every Prometheus client.
    PROCESS_CPU, "process_cpu_seconds_total": COUNTER, [], "seconds", "CPU time that the agent took, of user and system.";
    PROCESS_RESIDENT, "process_resident_memory_bytes": GAUGE, [], "bytes", "Resident memory of the agent, with the parts of tables that it has mapped.";
    PROCESS_VIRTUAL, "process_virtual_memory_bytes": GAUGE, [], "bytes", "Virtual memory of the agent.";
    PROCESS_FDS, "process_open_fds": GAUGE, [], "files", "File descriptors that the agent has open.";
    PROCESS_MAX_FDS, "process_max_fds": GAUGE, [], "files", "File descriptors that it may have open.";
    PROCESS_START, "process_start_time_seconds": GAUGE, [], "seconds since 1970", "When the agent began.";

    // The agent.
    BUILD, "sluice_build_info": GAUGE, ["version", "schema"], "1", "The agent's version and the schema of its tables.";
    SYNCED, "sluice_synced": GAUGE, [], "0 or 1", "Whether all that the source held at the start has been programmed, and all interfaces had their turn.";
    LISTED, "sluice_source_listed": GAUGE, [], "0 or 1", "Whether the source has told all that it had at the start.";
    CONNECTED, "sluice_source_connected": GAUGE, [], "0 or 1", "Whether the source answers; what it has told stands while it does not.";
    OBJECTS, "sluice_source_objects": GAUGE, ["kind"], "objects", "Objects that the source has told of.";
    PROBLEMS, "sluice_problems": GAUGE, ["about"], "problems", "What `sluice status` lists, by what it is about: source, reconcile, node, sockets, servers.";
    EVENTS, "sluice_kubernetes_events_total": COUNTER, ["outcome"], "events", "Kubernetes Events that were posted or told again, those that were there already, and posts that failed and are tried again: posted, known, failed.";
    INTERFACES, "sluice_interfaces_attached": GAUGE, ["class"], "interfaces", "Interfaces that have the programs: those of pods, and those that lead out.";
    SERVICE_PORTS, "sluice_service_ports": GAUGE, [], "Service ports", "Service ports that are to be served, each once per family.";
    OPERATIONS, "sluice_reconcile_operations_total": COUNTER, [], "operations", "Writes that the tables have taken.";
    FAILURES, "sluice_reconcile_failures_total": COUNTER, [], "Service ports", "Attempts to program a Service port that failed.";
    RETRIES, "sluice_reconcile_retries_total": COUNTER, [], "Service ports", "Attempts to program a Service port that had failed before.";
    REPAIRS, "sluice_reconcile_repairs_total": COUNTER, [], "Service ports", "Service ports and stray entries that had been changed from outside and were put right.";

    // The datapath.
    OUTCOMES, "sluice_outcomes_total": COUNTER, ["reason", "effect"], "packets and socket calls", "How packets and socket calls left the datapath.";
    CONNECTIONS, "sluice_service_connections_total": COUNTER, ["namespace", "service", "port"], "connections", "Connections to a Service port.";
    PACKETS, "sluice_service_packets_total": COUNTER, ["namespace", "service", "port", "direction"], "packets", "Packets to (in) and from (out) the endpoints of a Service port. What sockets were translated for is not in it.";
    BYTES, "sluice_service_bytes_total": COUNTER, ["namespace", "service", "port", "direction"], "bytes", "Bytes of those packets, with their network headers.";
    OTHERS, "sluice_service_ports_without_series": GAUGE, [], "Service ports", "Service ports in use that share the series with empty labels, since too many others came before.";
    MAP_ENTRIES, "sluice_map_entries": GAUGE, ["map"], "entries", "Entries of a map that are in use.";
    MAP_CAPACITY, "sluice_map_capacity_entries": GAUGE, ["map"], "entries", "Entries that fit a map.";
    MAP_MEMORY, "sluice_map_memory_bytes": GAUGE, ["map"], "bytes", "Memory of a map.";
    EMBRYONIC, "sluice_flows_embryonic": GAUGE, ["ip_family"], "connections", "Connections in the flow table that are not confirmed.";
    EMBRYONIC_LIMIT, "sluice_flows_embryonic_limit": GAUGE, ["ip_family"], "connections", "How many of them there may be before new ones begin in the LRU table.";
    FLOWS_FULL, "sluice_flow_table_full": GAUGE, ["ip_family"], "0 or 1", "Whether the flow table has had no room since the last sweep.";
    LRU_USED, "sluice_flow_lru_used": GAUGE, ["ip_family"], "0 or 1", "Whether connections begin, or are, in the LRU table.";
    SWEPT, "sluice_sweep_last_timestamp_seconds": GAUGE, ["ip_family"], "seconds since 1970", "When the flow table was searched for ended connections last.";
}
