//! Services and backends as they are shown, from tables in memory.

use clap::Parser as _;
use lb_common::{BackendWord, FlowKind, FlowValue, FrontendKind, ServiceStats, backend_flags};
use serde_json::{Value, json};

use super::args::Namespaced;
use super::out::{Format, Out};
use super::target::{ServiceName, Target};
use super::view::{Backend, Service, View};
use super::{backend, service};
use crate::counts::PortName;
use crate::counts::flows::Living;

/// The id of no process: a holder that is believed to have written the status file.
pub(super) const NOBODY: u32 = u32::MAX;

/// The example of `command` in the documentation.
pub(super) fn documented(command: &str) -> Value {
    let page = include_str!("../../../docs/json.md");
    let (_, section) = page.split_once(&format!("\n## `{command}`\n")).unwrap();
    let (_, example) = section.split_once("\n```json\n").unwrap();
    serde_json::from_str(example.split_once("\n```\n").unwrap().0).unwrap()
}

/// Keys and types, whatever the values; of a list of objects those of the first.
pub(super) fn shape(value: &Value) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(items) => items.first().filter(|item| item.is_object()).map_or(json!("list"), shape),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("boolean"),
        Value::Null => json!("null"),
    }
}

fn port(namespace: &str, name: &str, family: u8, backends: Vec<Backend>) -> Service {
    let count =
        |wanted: fn(&Backend) -> bool| backends.iter().filter(|backend| wanted(backend)).count() as u32;
    Service {
        name: PortName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port_name: "http".to_owned(),
            port: 80,
            proto: 6,
            family,
        },
        frontends: [
            ("10.96.0.1", "fd00:96::1", FrontendKind::ClusterIp),
            ("192.0.2.1", "", FrontendKind::LoadBalancer),
        ]
        .into_iter()
        .map(|(v4, v6, kind)| (if family == 4 { v4 } else { v6 }, kind))
        .filter(|(addr, kind)| !addr.is_empty() && (*kind == FrontendKind::ClusterIp || namespace == "shop"))
        .map(|(addr, kind)| (addr.parse().unwrap(), kind))
        .collect(),
        node_port: (namespace == "shop").then_some(30_080),
        external_local: namespace == "shop",
        source_ranges: (namespace == "shop" && family == 4).then(|| vec!["10.0.0.0/8".to_owned()]),
        affinity: if family == 4 { 0 } else { 10_800 },
        new_flow_rate: if family == 4 { 0 } else { 500 },
        cluster: count(|backend| backend.selected),
        local: count(|backend| backend.local),
        backends,
        stats: ServiceStats::default(),
    }
}

fn backend(id: u32, endpoint: &str, selected: bool) -> Backend {
    Backend {
        id,
        endpoint: endpoint.parse().unwrap(),
        word: BackendWord::new(3, backend_flags::SERVING),
        selected,
        local: selected && id == 1,
        stats: ServiceStats::default(),
    }
}

/// `shop/web` with an active and a draining backend, its IPv6 half with one, and `default/web` without any.
fn view() -> View {
    let mut web =
        port("shop", "web", 4, vec![backend(1, "10.0.0.1:8080", true), backend(2, "10.0.0.2:8080", false)]);
    web.stats =
        ServiceStats { connections: 4, packets_in: 10, bytes_in: 1000, packets_out: 8, bytes_out: 9000 };
    let web6 = port("shop", "web", 6, vec![backend(3, "[fd00::1]:8080", true)]);
    let empty = port("default", "web", 4, vec![]);
    View { services: [(0, web), (1, web6), (2, empty)].into() }
}

fn services(format: Format, line: &str) -> anyhow::Result<String> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Namespaced<ServiceName>,
    }
    let mut text = Vec::new();
    let args = Line::try_parse_from(line.split(' ')).unwrap().args;
    service::answer(&args, &view(), &mut Out::to(format, &mut text))?;
    Ok(String::from_utf8(text).unwrap())
}

fn backends(format: Format, line: &str) -> anyhow::Result<String> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Namespaced<Target>,
    }
    let mut text = Vec::new();
    let args = Line::try_parse_from(line.split(' ')).unwrap().args;
    backend::answer(&args, &view(), &mut Out::to(format, &mut text))?;
    Ok(String::from_utf8(text).unwrap())
}

fn parsed(text: anyhow::Result<String>) -> Value {
    serde_json::from_str(&text.unwrap()).unwrap()
}

#[test]
fn services_are_listed_by_name() {
    let expected = "\
NAMESPACE  NAME  PORT               FAMILY  TYPE          ADDRESSES            ENDPOINTS  LOCAL  CONNECTIONS  PKTS-IN  BYTES-IN  PKTS-OUT  BYTES-OUT
default    web   http:80/TCP        IPv4    ClusterIP     10.96.0.1            0          0      0            0        0         0         0
shop       web   http:80:30080/TCP  IPv4    LoadBalancer  10.96.0.1,192.0.2.1  1          1      4            10       1000      8         9000
shop       web   http:80:30080/TCP  IPv6    NodePort      fd00:96::1           1          0      0            0        0         0         0
";
    for line in ["service", "service list", "service show"] {
        assert_eq!(services(Format::Text, line).unwrap(), expected, "{line}");
    }
    assert_eq!(services(Format::Text, "service -n shop").unwrap().lines().count(), 3);
    assert_eq!(services(Format::Text, "service list -n none").unwrap().lines().count(), 1);
}

#[test]
fn a_service_is_an_object_with_numbers_and_texts() {
    let list = parsed(services(Format::Json, "service list --namespace shop"));
    assert_eq!(list, documented("service list"));
}

#[test]
fn a_service_is_shown_with_its_endpoints() {
    let shown = services(Format::Text, "service show shop/web").unwrap();
    assert!(shown.starts_with("Service:       shop/web\nPort:          http:80:30080/TCP\n"), "{shown}");
    let outside = "\nFrom outside:  endpoints of this node only; to load balancers from 10.0.0.0/8\n";
    assert!(shown.contains(outside), "{shown}");
    assert!(shown.contains("\nEndpoints:     1, 1 on this node\n"), "{shown}");
    let affinity = shown.lines().filter(|line| line.starts_with("Affinity:"));
    assert_eq!(affinity.collect::<Vec<_>>(), ["Affinity:      -", "Affinity:      ClientIP, 10800 s"]);
    let limits = shown.lines().filter(|line| line.starts_with("New flows:"));
    assert_eq!(limits.collect::<Vec<_>>(), ["New flows:     -", "New flows:     500 a second at most"]);
    let row = |endpoint: &str| shown.lines().find(|line| line.contains(endpoint)).unwrap().split_whitespace();
    assert!(row("10.0.0.1:8080").any(|cell| cell == "active"), "{shown}");
    assert!(row("10.0.0.2:8080").any(|cell| cell == "serving"), "{shown}");

    assert_eq!(parsed(services(Format::Json, "service show default/web")), documented("service show"));
    let json = parsed(services(Format::Pretty, "service show web"));
    let states: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["backends"].as_array().unwrap().len())
        .collect();
    assert_eq!(states, [0, 2, 1]);
    assert_eq!(json[1]["backends"][1]["address"], "10.0.0.2");
    assert_eq!(json[1]["backends"][1]["state"], "serving");
}

#[test]
fn an_unknown_name_is_an_error() {
    let error = |line: &str| services(Format::Json, line).unwrap_err().to_string();
    assert_eq!(error("service show api"), "no Service is named api: see `sluice service list`");
    assert_eq!(
        error("service show default/api"),
        "no Service is named default/api: see `sluice service list`"
    );
    assert!(error("service show web -n none").contains("web in namespace none"));
    let error = backends(Format::Json, "backend show 10.0.0.9").unwrap_err().to_string();
    assert_eq!(error, "no Service has an endpoint 10.0.0.9: see `sluice backend list`");
}

#[test]
fn backends_are_found_by_address() {
    assert_eq!(backends(Format::Text, "backend").unwrap().lines().count(), 4);
    assert_eq!(backends(Format::Text, "backend list -n default").unwrap().lines().count(), 1);
    let found = parsed(backends(Format::Json, "backend show 10.0.0.1:8080"));
    assert_eq!(found, documented("backend list"));
    assert_eq!(parsed(backends(Format::Json, "backend show fd00::1"))[0]["id"], 3);
}

#[test]
fn traffic_that_only_sockets_carried_is_absent_rather_than_zero() {
    let mut view = view();
    view.services.get_mut(&2).unwrap().stats.connections = 7;
    let counters = super::view::Counters::of(&view.services[&2].stats);
    assert_eq!(counters.cells(), ["7", "-", "-", "-", "-"]);
    assert_eq!(serde_json::to_value(&counters).unwrap(), json!({"connections": 7}));
}

#[test]
fn living_flows_count() {
    let entry = |kind: FlowKind, generation| FlowValue::<lb_common::Addr4> {
        packets: 5,
        bytes: 500,
        service: 0,
        backend: 1,
        generation,
        kind: kind as u8,
        ..FlowValue::default()
    };
    let mut living = Living::default();
    living.count(&entry(FlowKind::Forward, 3));
    living.count(&entry(FlowKind::Reverse, 3));
    // A flow of whoever had this backend id before.
    living.count(&entry(FlowKind::Forward, 2));
    let mut view = view();
    view.add_living(&living);
    let web = &view.services[&0];
    assert_eq!((web.stats.packets_in, web.stats.packets_out), (20, 13));
    let own = &web.backends[0].stats;
    assert_eq!((own.packets_in, own.bytes_in, own.packets_out, own.bytes_out), (5, 500, 5, 500));
}
