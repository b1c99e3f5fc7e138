//! Which endpoints a Service port uses.

use serde_json::json;

use super::support::*;

#[test]
fn b50_b51_truth_table_of_conditions() {
    let n1 = |last: &str, conditions| endpoint(&format!("10.1.0.{last}"), "n1", conditions);
    let n2 = |last: &str, conditions| endpoint(&format!("10.1.0.{last}"), "n2", conditions);
    for (case, endpoints, expected) in [
        ("ready", json!([n1("1", "rs"), n2("2", "rs")]), ["1 2", "1", "1 2"]),
        ("terminating beside ready", json!([n1("1", "st"), n2("2", "rs")]), ["2", "1", "1 2"]),
        ("terminating beside ready here", json!([n1("1", "st"), n1("2", "rs")]), ["2", "2", "1 2"]),
        ("all terminating", json!([n1("1", "st"), n2("2", "st")]), ["1 2", "1", "1 2"]),
        ("terminating, some not serving", json!([n1("1", "t"), n2("2", "st")]), ["2", "", "2"]),
        ("terminating, none serving", json!([n1("1", "t"), n2("2", "t")]), ["", "", ""]),
        ("not ready", json!([n1("1", ""), n2("2", "")]), ["", "", ""]),
        ("serving but not ready", json!([n1("1", "s"), n2("2", "rs")]), ["2", "", "1 2"]),
        ("b34: terminating and ready", json!([n1("1", "rt"), n2("2", "rst")]), ["1 2", "1", "1 2"]),
        ("only remote terminating", json!([n2("2", "st")]), ["2", "", "2"]),
        ("none", json!([]), ["", "", ""]),
    ] {
        let port = only(&[service(json!({})), slice("a", endpoints)]);
        assert_sets(&port, expected, case);
        assert!(!port.internal_local);
    }
}

#[test]
fn b53_internal_policy_local() {
    let local = json!({"spec": {"internalTrafficPolicy": "Local"}});
    for (case, endpoints, expected) in [
        ("none here", json!([endpoint("10.1.0.2", "n2", "rs")]), ""),
        ("one here", json!([endpoint("10.1.0.1", "n1", "rs"), endpoint("10.1.0.2", "n2", "rs")]), "1"),
        ("two here", json!([endpoint("10.1.0.1", "n1", "rs"), endpoint("10.1.0.2", "n1", "rs")]), "1 2"),
        (
            "b51: only terminating here",
            json!([endpoint("10.1.0.1", "n1", "st"), endpoint("10.1.0.2", "n2", "rs")]),
            "1",
        ),
    ] {
        let port = only(&[service(local.clone()), slice("a", endpoints)]);
        assert!(port.internal_local, "{case}");
        assert_eq!(text(&port.local), expected, "{case}");
    }
    let (ports, problems) = outcome(&[service(json!({"spec": {"internalTrafficPolicy": "Near"}}))]);
    assert!(!ports["d/s:http/TCP/v4"].internal_local);
    assert_eq!(problems, ["Service d/s: there is no internalTrafficPolicy `Near`: Cluster is used"]);
}

#[test]
fn b32_b33_absent_conditions_and_node() {
    let port = only(&[
        service(json!({})),
        slice(
            "a",
            json!([{"addresses": ["10.1.0.1"]}, {"addresses": ["10.1.0.2"], "conditions": null, "nodeName": "n1"}]),
        ),
    ]);
    assert_sets(&port, ["1 2", "2", "1 2"], "absent means ready, serving, not terminating, elsewhere");
}

#[test]
fn b59_topology_hints() {
    let node = |labels| object(json!({"kind": "Node", "metadata": {"name": NODE, "labels": labels}}));
    let here = node(json!({"topology.kubernetes.io/zone": "z1"}));
    let hinted = |last: &str, conditions, zones: &[&str], nodes: &[&str]| {
        let names = |all: &[&str]| all.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let hints = json!({"hints": {"forZones": names(zones), "forNodes": names(nodes)}});
        merge(endpoint(&format!("10.1.0.{last}"), "n2", conditions), hints)
    };
    for (case, node, endpoints, expected) in [
        ("zone", &here, json!([hinted("1", "rs", &["z1", "z3"], &[]), hinted("2", "rs", &["z2"], &[])]), "1"),
        (
            "zone of nobody",
            &here,
            json!([hinted("1", "rs", &["z2"], &[]), hinted("2", "rs", &["z3"], &[])]),
            "1 2",
        ),
        ("one without", &here, json!([hinted("1", "rs", &["z1"], &[]), hinted("2", "rs", &[], &[])]), "1 2"),
        (
            "unready without",
            &here,
            json!([
                hinted("1", "rs", &["z1"], &[]),
                hinted("2", "", &[], &[]),
                hinted("3", "rs", &["z2"], &[])
            ]),
            "1",
        ),
        (
            "node first",
            &here,
            json!([hinted("1", "rs", &["z1"], &["n1"]), hinted("2", "rs", &["z1"], &["n2"])]),
            "1",
        ),
        (
            "b61: node gone, zone",
            &here,
            json!([
                hinted("1", "", &["z1"], &["n1"]),
                hinted("2", "rs", &["z1"], &["n2"]),
                hinted("3", "rs", &["z2"], &["n3"])
            ]),
            "2",
        ),
        (
            "b50: not for the fallback",
            &here,
            json!([hinted("1", "st", &["z1"], &[]), hinted("2", "st", &["z2"], &[])]),
            "1 2",
        ),
        (
            "b60: zone unknown",
            &node(json!({})),
            json!([hinted("1", "rs", &["z1"], &[]), hinted("2", "rs", &["z2"], &[])]),
            "1 2",
        ),
    ] {
        let port = only(&[service(json!({})), slice("a", endpoints), node.clone()]);
        assert_eq!(text(&port.cluster), expected, "{case}");
    }
}

#[test]
fn b60_a_new_zone_label_is_taken_up() {
    let mut followed = Followed::new();
    let endpoints = ["z1", "z2"].map(|zone| {
        let last = &zone[1..];
        merge(
            endpoint(&format!("10.1.0.{last}"), "n2", "rs"),
            json!({"hints": {"forZones": [{"name": zone}]}}),
        )
    });
    followed.apply(&service(json!({})));
    followed.apply(&slice("a", json!(endpoints)));
    for (zone, expected) in [("z1", "1"), ("z2", "2"), ("z9", "1 2")] {
        let node = json!({"kind": "Node", "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"addresses": [{"type": "Hostname", "address": "x"}, {"type": "ExternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "172.16.0.1"}]}});
        followed.apply(&object(node));
        assert_eq!(text(&followed.ports["d/s:http/TCP/v4"].cluster), expected);
    }
    let node = followed.index.node().unwrap();
    assert_eq!(
        node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["172.16.0.1", "192.0.2.1"]
    );
    let other =
        json!({"kind": "Node", "metadata": {"name": "n2", "labels": {"topology.kubernetes.io/zone": "z1"}}});
    assert_eq!(followed.apply(&object(other)), 0, "only the own node counts");
}

#[test]
fn b91_taints_and_deletion_of_the_node_are_told() {
    let mut followed = Followed::new();
    let taints = json!([{"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule"}]);
    for (metadata, deleting) in [
        (json!({"name": NODE}), false),
        (json!({"name": NODE, "deletionTimestamp": "2026-01-01T00:00:00Z"}), true),
    ] {
        let node = json!({"kind": "Node", "metadata": metadata, "spec": {"taints": taints}});
        followed.apply(&object(node));
        let node = followed.index.node().unwrap();
        assert_eq!(
            (node.deleting, node.taints.as_slice()),
            (deleting, &["ToBeDeletedByClusterAutoscaler".to_owned()][..])
        );
    }
}

#[test]
fn b30_duplicates_prefer_the_live_copy() {
    for (first, second, expected) in [
        ("rs", "st", ["1", "1", "1"]),
        ("t", "rs", ["1", "1", "1"]),
        ("st", "", ["", "", "1"]),
        ("", "t", ["", "", ""]),
    ] {
        for (a, b) in [(first, second), (second, first)] {
            let port = only(&[
                service(json!({})),
                slice("a", json!([endpoint("10.1.0.1", "n1", a)])),
                slice("b", json!([endpoint("10.1.0.1", "n1", b)])),
            ]);
            assert_sets(&port, expected, &format!("{a} and {b}"));
        }
    }
}
