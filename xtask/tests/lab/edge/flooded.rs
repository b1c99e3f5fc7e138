//! Frames that reach a machine and are for another.

use serde_json::json;

use super::kept::Kept;
use super::layout::Layout;
use super::scene::{Scene, Setting};
use super::service::{Front, Svc};
use crate::support::Mode;

const SVC: Svc = Svc { name: "flooded", number: 86 };

/// Both machines serve the load balancer's addresses. One that took what is for the other would reset its connections
/// and answer its datagrams once more.
fn only_whom_a_frame_is_for_translates_it(xdp: bool) {
    let setting = Setting { mode: Mode::Host, layout: Layout::Routed, detector: true, xdp };
    let scene = Scene::laid("flooded", setting);
    scene.serve(SVC, &[(&scene.here, 0), (&scene.there, 1)], &json!({}));
    scene.network.flood().unwrap();
    let [outside, pod, ..] = &scene.clients();
    let edge = [Front::NodePort(0), Front::LoadBalancer, Front::ExternalIp];
    let kept = Kept::open(&scene, outside, None, (SVC, &edge)).and(Kept::open(
        &scene,
        pod,
        None,
        (SVC, &[Front::NodePort(1)]),
    ));
    for round in 0..4 {
        kept.notice_nothing(&format!("round {round}"), || ());
    }
    let counted = scene.network.machines()[1].sluice_json(&["stats"]).unwrap();
    let mut reasons = counted["reasons"].as_array().unwrap().iter();
    assert!(
        reasons.any(|row| row["reason"] == "other_host" && row["count"].as_u64() > Some(0)),
        "{counted:#}"
    );
}

#[test]
fn a_frame_for_another_machine_is_left_to_it() {
    only_whom_a_frame_is_for_translates_it(false);
}

#[test]
fn a_frame_for_another_machine_is_left_to_it_with_xdp() {
    only_whom_a_frame_is_for_translates_it(true);
}
