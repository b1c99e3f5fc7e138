//! The control plane itself: it starts, serves, can be stopped and started, and leaves nothing.

use std::path::Path;

use serde_json::json;
use xtask::kube::Part;

use crate::support::start;

#[test]
fn a_control_plane_serves_survives_its_parts_and_leaves_nothing() {
    let plane = start("plane");
    assert_eq!(plane.kubectl(&["get", "--raw", "/readyz"]).unwrap(), "ok");
    plane.namespace("mine").unwrap();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kept", "namespace": "mine" }, "data": { "a": "1" },
    });
    plane.apply(&map).unwrap();
    plane.kill(Part::ApiServer).unwrap();
    assert!(plane.api().get("/version").is_err());
    plane.stop(Part::Etcd).unwrap();
    plane.launch(Part::Etcd).unwrap();
    plane.launch(Part::ApiServer).unwrap();
    plane.wait_ready().unwrap();
    assert_eq!(plane.api().get(&plane.api().path(&map).unwrap()).unwrap()["data"]["a"], "1");
    let (netns, dir) = (Path::new("/run/netns").join(plane.space().netns()), plane.dir().to_owned());
    assert!(netns.exists() && dir.exists());
    drop(plane);
    assert!(!netns.exists() && !dir.exists());
}
