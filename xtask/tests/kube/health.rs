//! What probes and Prometheus are told where the source is an API server.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::Machine;
use xtask::lab::http::sample;

use crate::support::{Scene, cluster, eventually, serves};

/// What the machine says at `path` of `port`.
fn said(machine: &Machine, port: u16, path: &str) -> Result<(u16, String), String> {
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    machine.host().get(to, path).map_err(|error| format!("{path}: {error:#}"))
}

#[test]
fn b91_a_node_that_the_autoscaler_will_delete_is_not_eligible() {
    let machine = &cluster().nodes()[1];
    let node = format!("/api/v1/nodes/{}", machine.name());
    let expect = |healthz: u16| {
        eventually("/healthz", || {
            let (code, body) = said(machine, 10256, "/healthz")?;
            let body: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
            let eligible = body["nodeEligible"] == (code == 200);
            if code == healthz && eligible { Ok(()) } else { Err(format!("{code} {body}")) }
        });
    };
    expect(200);
    let former = cluster().api().get(&node).unwrap()["spec"]["taints"].clone();
    let taint =
        json!([{"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "PreferNoSchedule"}]);
    cluster().api().merge(&node, &json!({"spec": {"taints": taint}})).unwrap();
    expect(503);
    assert_eq!(said(machine, 10256, "/livez").unwrap().0, 200, "the agent is well");
    cluster().api().merge(&node, &json!({"spec": {"taints": former}})).unwrap();
    expect(200);
}

#[test]
fn the_way_from_a_real_slice_to_its_effect_is_timed() {
    const COUNT: &str = r#"kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"}"#;
    let machine = &cluster().nodes()[0];
    let metrics = || said(machine, 10249, "/metrics").map(|(_, text)| text);
    let before = sample(&metrics().unwrap(), COUNT).unwrap();
    let scene = Scene::new("timed");
    let (pod, service) = (scene.pod(0, "timed-a"), scene.service("timed"));
    serves(&service, &[&pod]);
    eventually("the network programming latency", || {
        let now = sample(&metrics()?, COUNT);
        if now > Some(before) { Ok(()) } else { Err(format!("{now:?}, before {before}")) }
    });
    let text = metrics().unwrap();
    for (line, least) in [
        ("sluice_source_connected", 1.0),
        ("sluice_synced", 1.0),
        (r#"sluice_source_objects{kind="Service"}"#, 1.0),
        (r#"sluice_source_objects{kind="EndpointSlice"}"#, 1.0),
        ("kubeproxy_sync_proxy_rules_endpoint_changes_total", 1.0),
        (r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"}"#, 1_700_000_000.0),
    ] {
        assert!(sample(&text, line) >= Some(least), "{line}\n{text}");
    }
}
