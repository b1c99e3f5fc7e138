//! What holds for every sequence of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_userspace::model::{Index, Object, ObjectKey};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::support::*;

/// Few names and addresses, so that objects meet each other.
fn service_object() -> impl Strategy<Value = Object> {
    let fields = (
        select(vec!["a", "b", "c"]),
        select(vec!["10.0.0.1", "10.0.0.2", "None", "", "nonsense"]),
        any::<bool>(),
        select(vec![json!({}), json!({"app": "x"}), json!({"app": "y"})]),
        select(vec![
            json!([]),
            json!([{"name": "p", "port": 80}]),
            json!([{"name": "q", "port": 80}, {"name": "p", "port": 81}]),
        ]),
        select(vec!["", "Local"]),
        select(vec![
            json!({}),
            json!({"externalIPs": ["10.0.0.2"]}),
            json!({"externalIPs": ["192.0.2.1", "2001:db8::1"], "externalTrafficPolicy": "Local"}),
            json!({"type": "NodePort", "ports": [{"name": "q", "port": 80, "nodePort": 30080}]}),
        ]),
    );
    fields.prop_map(|(name, ip, dual, selector, ports, policy, outside)| {
        let ips = if dual { json!([ip, "fd00::1"]) } else { json!([ip]) };
        let spec =
            json!({"clusterIPs": ips, "selector": selector, "ports": ports, "internalTrafficPolicy": policy});
        let metadata = json!({"namespace": "d", "name": name});
        object(json!({"kind": "Service", "metadata": metadata, "spec": merge(spec, outside)}))
    })
}

fn endpoint_value() -> impl Strategy<Value = Value> {
    let fields = (
        1..4_u8,
        select(vec!["n1", "n2"]),
        select(vec!["rs", "st", "t", "", "rst"]),
        select(vec!["z1", "z2", ""]),
    );
    fields.prop_map(|(last, node, conditions, zone)| {
        let hints = if zone.is_empty() { json!([]) } else { json!([{"name": zone}]) };
        merge(endpoint(&format!("10.1.0.{last}"), node, conditions), json!({"hints": {"forZones": hints}}))
    })
}

fn slice_object() -> impl Strategy<Value = Object> {
    let fields = (
        select(vec!["1", "2", "3"]),
        select(vec!["a", "b", ""]),
        vec(endpoint_value(), 0..4),
        select(vec!["p", "q"]),
    );
    fields.prop_map(|(name, service, endpoints, port)| {
        slice_with(
            name,
            json!({"metadata": {"labels": {"kubernetes.io/service-name": service}},
            "endpoints": endpoints, "ports": [{"name": port, "port": 8080}]}),
        )
    })
}

fn other_object() -> impl Strategy<Value = Object> {
    let pod = (select(vec!["1", "2"]), select(vec!["x", "y"]), 1..4_u8, any::<bool>()).prop_map(|(name, app, last, ready)| {
        let status = if ready { "True" } else { "False" };
        let more = json!({"metadata": {"labels": {"app": app}}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
        pod(name, &format!("10.1.0.{last}"), more)
    });
    let endpoints = (select(vec!["a", "b"]), 1..4_u8).prop_map(|(name, last)| {
        object(json!({"kind": "Endpoints", "metadata": {"namespace": "d", "name": name},
            "subsets": [{"addresses": [{"ip": format!("10.1.0.{last}")}], "ports": [{"name": "p", "port": 8080}]}]}))
    });
    let node = select(vec!["z1", "z2"]).prop_map(|zone| {
        object(json!({"kind": "Node", "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": zone}}}))
    });
    prop_oneof![pod, endpoints, node]
}

/// An object and whether it is applied; otherwise the one with its key is deleted. Then, whether changes are taken.
fn events() -> impl Strategy<Value = Vec<(Object, bool, bool)>> {
    let object = prop_oneof![service_object(), slice_object(), other_object()];
    vec((object, prop::bool::weighted(0.7), any::<bool>()), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn b9_the_end_depends_on_the_final_objects_alone(events in events()) {
        let mut followed = Followed::new();
        let mut left: BTreeMap<ObjectKey, Object> = BTreeMap::new();
        for (object, applied, taken) in events {
            if applied {
                followed.index.apply(&object);
                left.insert(object.key(), object);
            } else {
                followed.index.delete(&object.key());
                left.remove(&object.key());
            }
            if taken {
                followed.take();
                let family = |key: &str| key.rsplit('/').next().map(str::to_owned);
                let places = followed.ports.iter().map(|(key, port)| port.places().map(move |it| (family(key), it)));
                let places: Vec<_> = places.flatten().collect();
                let distinct: BTreeSet<_> = places.iter().collect();
                prop_assert_eq!(places.len(), distinct.len(), "a frontend has one owner (B26)");
            }
        }
        followed.take();
        let mut fresh = Followed::new();
        fresh.index.replace(left.values());
        fresh.take();
        prop_assert_eq!(&followed.ports, &fresh.ports);
        prop_assert_eq!(followed.problems(), fresh.problems());
        for port in followed.ports.values() {
            for set in [&port.cluster, &port.local] {
                prop_assert!(set.is_sorted_by(|a, b| a < b));
                prop_assert!(set.iter().all(|endpoint| port.serving.contains(endpoint)));
            }
        }
        followed.index.replace(Vec::<Object>::new());
        followed.take();
        prop_assert!(followed.ports.is_empty() && followed.problems().is_empty());
    }

    #[test]
    fn b26_a_frontend_is_given_up_before_it_is_taken(first in btree_map("[abc]", 1..4_u8, 0..4), second in btree_map("[abc]", 1..4_u8, 0..4)) {
        let objects = |all: &BTreeMap<String, u8>| all.iter().map(|(name, last)| {
            service(json!({"metadata": {"name": name}, "spec": {"clusterIP": format!("10.0.0.{last}")}}))
        }).collect::<Vec<_>>();
        let mut index = Index::new(NODE);
        let mut held = BTreeMap::new();
        for objects in [objects(&first), objects(&second)] {
            index.replace(objects);
            let changes = index.take_changes();
            let places = |port: &Option<Arc<lb_userspace::model::ServicePort>>| port.iter().flat_map(|port| port.frontends.clone()).collect::<Vec<_>>();
            let rank = |change: &(_, Option<_>)| match &change.1 {
                None => 0,
                Some(_) if held.contains_key(&change.0) => 1,
                Some(_) => 2,
            };
            prop_assert!(changes.iter().map(rank).is_sorted());
            for (key, port) in changes {
                held.insert(key, places(&port));
            }
        }
    }
}
