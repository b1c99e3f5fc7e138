//! Services as users make them: pods selected by labels, slices from the real controllers, asked from everywhere.

use crate::support::{Scene, serves};

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
