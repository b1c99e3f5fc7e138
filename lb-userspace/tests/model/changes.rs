//! Changes over time, and what they cost.

use std::time::{Duration, Instant};

use lb_userspace::model::Index;
use serde_json::json;

use super::support::*;

#[test]
fn b9_what_ends_where_it_began_is_no_change() {
    let mut followed = Followed::new();
    followed.index.apply(service(json!({})));
    followed.index.delete(&service(json!({})).key());
    assert_eq!(followed.take(), 0);
    followed.apply(&service(json!({})));
    followed.index.apply(service(json!({"spec": {"internalTrafficPolicy": "Local"}})));
    followed.index.apply(service(json!({})));
    assert_eq!(followed.take(), 0);
}

#[test]
fn b25_status_annotations_and_finalizers_change_nothing() {
    let mut followed = Followed::new();
    followed.apply(&service(json!({})));
    let more = json!({"metadata": {"annotations": {"a": "b"}, "finalizers": ["f"], "labels": {"x": "y"}},
        "status": {"conditions": [{"type": "x"}]}});
    assert_eq!(followed.apply(&service(more)), 0);
}

#[test]
fn b13_a_service_may_be_recreated_with_another_address() {
    let mut followed = Followed::new();
    followed.apply(&slice("a", json!([endpoint("10.1.0.1", "n1", "rs")])));
    followed.apply(&service(json!({})));
    followed.index.delete(&service(json!({})).key());
    followed.apply(&service(json!({"spec": {"clusterIP": "10.0.0.2"}})));
    assert_eq!(followed.ports["d/s:http/TCP/v4"].frontends[0].addr.to_string(), "10.0.0.2");
    assert_eq!(text(&followed.ports["d/s:http/TCP/v4"].cluster), "1");
}

#[test]
fn scale_1_3_0_1_leaves_nothing_behind() {
    let mut followed = Followed::new();
    followed.apply(&service(json!({})));
    for (count, expected) in [(1, "1"), (3, "1 2 3"), (0, ""), (1, "1")] {
        let endpoints: Vec<_> =
            (1..=count).map(|last| endpoint(&format!("10.1.0.{last}"), "n1", "rs")).collect();
        assert_eq!(followed.apply(&slice("a", json!(endpoints))), 1);
        assert_sets(&followed.ports["d/s:http/TCP/v4"], [expected; 3], "scaled");
    }
    followed.delete(&slice("a", json!([])));
    followed.delete(&service(json!({})));
    assert!(followed.ports.is_empty());
    assert_eq!(followed.take(), 0);
}

#[test]
fn one_changed_slice_among_10_000_services_costs_what_it_touches() {
    let mut index = Index::new(NODE);
    for n in 0..10_000_u32 {
        let [_, _, high, low] = n.to_be_bytes();
        let name = format!("s{n}");
        index.apply(service(
            json!({"metadata": {"name": name}, "spec": {"clusterIP": format!("10.96.{high}.{low}")}}),
        ));
        let endpoints: Vec<_> =
            (1..=10).map(|last| endpoint(&format!("10.1.{high}.{last}"), "n2", "rs")).collect();
        let label =
            json!({"metadata": {"labels": {"kubernetes.io/service-name": name}}, "endpoints": endpoints});
        index.apply(slice_with(&format!("slice{n}"), label));
    }
    assert_eq!(index.take_changes().len(), 10_000);
    // The best of several: the machine may have other things to do.
    let took = (1..30).map(|last| {
        let label = json!({"metadata": {"labels": {"kubernetes.io/service-name": "s5000"}},
            "endpoints": [endpoint(&format!("10.2.0.{last}"), "n1", "rs")]});
        let changed = slice_with("slice5000", label);
        let begin = Instant::now();
        index.apply(&changed);
        assert_eq!(index.take_changes().len(), 1);
        begin.elapsed()
    });
    let took = took.min().unwrap();
    assert!(took < Duration::from_millis(1), "{took:?}");
}
