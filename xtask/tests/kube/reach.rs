//! Services as users make them: pods selected by labels, slices from the real controllers, asked from everywhere.

use std::net::IpAddr;

use crate::support::{Scene, cluster, serves};

#[test]
fn b36_b49_pods_and_hosts_of_all_nodes_reach_pods_that_come_and_go() {
    let scene = Scene::new("b49");
    let service = scene.service("web");
    serves(&service, &[]);
    let a = scene.pod(0, "a");
    serves(&service, &[&a]);
    let b = scene.pod(2, "b");
    serves(&service, &[&a, &b]);
    a.ready(false).unwrap();
    serves(&service, &[&b]);
    a.ready(true).unwrap();
    serves(&service, &[&a, &b]);
    b.delete().unwrap();
    serves(&service, &[&a]);
    a.delete().unwrap();
    serves(&service, &[]);
}

#[test]
fn b50_a_terminating_pod_is_shown_as_one_that_only_serves() {
    let scene = Scene::new("b50");
    let (a, b) = (scene.pod(0, "a"), scene.pod(1, "b"));
    let service = scene.service("web");
    serves(&service, &[&a, &b]);
    b.terminate().unwrap();
    serves(&service, &[&a]);
    // On its own node too, where it would be the last resort of a local policy.
    for node in 0..cluster().nodes().len() {
        for port in scene.shown(node, "web").unwrap() {
            for backend in port["backends"].as_array().unwrap() {
                let address: IpAddr = backend["address"].as_str().unwrap().parse().unwrap();
                let state = if a.ips().contains(&address) { "active" } else { "serving" };
                assert_eq!(backend["state"], state, "{backend}");
            }
        }
    }
}
