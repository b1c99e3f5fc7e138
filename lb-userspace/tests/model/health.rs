//! What load balancers are told: health checks of Services, and nodes that are to go.

use lb_userspace::model::{HealthCheck, Index};
use serde_json::{Value, json};

use super::support::*;

/// A Service of a load balancer, in both families, with `more` on top.
fn balanced(more: Value) -> lb_userspace::model::Object {
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100,
        "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]});
    service(json!({"spec": merge(spec, more)}))
}

fn check_of(index: &Index) -> Option<HealthCheck> {
    index.health_checks().get(&("d".into(), "s".into())).copied()
}

#[test]
fn b24_health_checks_belong_to_load_balancers_with_a_local_policy() {
    for (case, spec, expected) in [
        ("as it should be", json!({}), Some(30100)),
        ("another policy", json!({"externalTrafficPolicy": "Cluster"}), None),
        ("no policy", json!({"externalTrafficPolicy": null}), None),
        ("another type", json!({"type": "NodePort"}), None),
        ("no port", json!({"healthCheckNodePort": 0}), None),
    ] {
        let mut followed = Followed::new();
        followed.apply(&balanced(json!({})));
        assert!(check_of(&followed.index).is_some(), "{case}");
        followed.apply(&balanced(spec));
        assert_eq!(check_of(&followed.index).map(|check| check.port.get()), expected, "{case}");
        followed.delete(&balanced(json!({})));
        assert_eq!(check_of(&followed.index), None, "{case}");
    }
}

#[test]
fn b85_what_counts_are_distinct_ready_addresses_on_this_node() {
    let mut followed = Followed::new();
    followed.apply(&balanced(json!({})));
    let counts = |followed: &Followed| check_of(&followed.index).unwrap().local;
    assert_eq!(counts(&followed), [Some(0), Some(0)]);
    let here = |last: &str, conditions| endpoint(&format!("10.1.0.{last}"), NODE, conditions);
    let http = json!([here("1", "rs"), here("2", "st"), here("3", "s"), endpoint("10.1.0.4", "n2", "rs")]);
    followed.apply(&slice("a", http));
    assert_eq!(
        counts(&followed),
        [Some(1), Some(0)],
        "neither terminating nor unready nor remote ones count"
    );
    let dns = json!({"ports": [{"name": "dns", "protocol": "UDP", "port": 5353}],
        "endpoints": [here("1", "rs"), here("5", "rs")]});
    followed.apply(&slice_with("b", dns));
    assert_eq!(counts(&followed), [Some(2), Some(0)], "an address counts once for all ports");
    let other = json!({"ports": [{"name": "metrics", "port": 9000}], "endpoints": [here("6", "rs")]});
    followed.apply(&slice_with("c", other));
    assert_eq!(counts(&followed), [Some(2), Some(0)], "a port that the Service has not");
    let v6 = json!({"addressType": "IPv6", "endpoints": [endpoint("fd00::7", NODE, "rs")]});
    followed.apply(&slice_with("d", v6));
    assert_eq!(counts(&followed), [Some(2), Some(1)]);
    followed.apply(&balanced(json!({"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]})));
    assert_eq!(counts(&followed), [Some(2), None], "a family that the Service lacks");
    followed.delete(&slice("a", json!([])));
    followed.delete(&slice("b", json!([])));
    assert_eq!(counts(&followed), [Some(0), None]);
}

#[test]
fn b91_nodes_that_are_to_go() {
    for (case, node, leaving) in [
        ("as it should be", json!({}), false),
        ("being deleted", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), true),
        (
            "tainted",
            json!({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}}),
            true,
        ),
        (
            "cordoned",
            json!({"spec": {"unschedulable": true, "taints": [{"key": "node.kubernetes.io/unschedulable"}]}}),
            false,
        ),
        ("not ready", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}), false),
    ] {
        let mut index = Index::new(NODE);
        index.apply(object(merge(json!({"kind": "Node", "metadata": {"name": NODE}}), node)));
        assert_eq!(index.node().map(|node| node.is_leaving()), Some(leaving), "{case}");
    }
}
