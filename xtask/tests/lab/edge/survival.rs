//! Conversations that are older than what happens to their Service, to the agent and to the network.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use xtask::lab::{binary, wait_for};

use super::kept::Kept;
use super::scene::{DETECTOR, Scene};
use super::service::{Front, Svc};
use crate::floods::Flood;
use crate::support::{Mode, SOON, WAYS, lab, serve};

const SVC: Svc = Svc { name: "kept", number: 80 };
const OTHER: Svc = Svc { name: "others", number: 81 };

/// A binary with other programs of the same meaning. Removed on drop.
struct Rebuilt(PathBuf);

impl Rebuilt {
    fn new(name: &str) -> Self {
        let path = lab().dir().join(name);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/edge/rebuilt.py");
        let output = Command::new("python3").args(["-B", script]).arg(binary()).arg(&path).output().unwrap();
        let changed = String::from_utf8_lossy(&output.stdout).trim().parse::<u32>();
        assert!(changed.is_ok_and(|changed| changed > 5), "{}", String::from_utf8_lossy(&output.stderr));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }
}

impl Drop for Rebuilt {
    fn drop(&mut self) {
        // The run's folder goes in any case.
        let _ = fs::remove_file(&self.0);
    }
}

/// Tags of the programs on a machine, by name.
fn tags(scene: &Scene, machine: usize) -> BTreeSet<(String, String)> {
    let programs = scene.network.machines()[machine].sluice_json(&["prog"]).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    programs
        .as_array()
        .unwrap()
        .iter()
        .map(|program| (text(&program["name"]), text(&program["tag"])))
        .collect()
}

/// Everybody's conversations with both endpoints.
fn everybodys(scene: &Scene) -> Kept<'_> {
    let clients = scene.clients();
    let [outside, pod, _, other_pod, node, _, other_node] = &clients;
    let inside = [Front::ClusterIp, Front::LoadBalancer];
    let edge = [Front::NodePort(0)];
    let [a, b, c, d, e] = [
        (outside, &[Front::NodePort(0), Front::LoadBalancer][..]),
        (pod, &inside[..]),
        (other_pod, &edge[..]),
        (node, &inside[..]),
        (other_node, &edge[..]),
    ]
    .map(|(client, fronts)| Kept::open(scene, client, None, (SVC, fronts)));
    a.and(b).and(c).and(d).and(e)
}

/// A cable that is pulled, then an uplink that is taken down.
fn flap(scene: &Scene, kept: &Kept<'_>) {
    scene.network.plug(0, false).unwrap();
    scene.wait_link(0, false);
    scene.network.plug(0, true).unwrap();
    scene.wait_link(0, true);
    kept.recover("a pulled cable");
    scene.network.set_uplink(0, false).unwrap();
    scene.wait_link(0, false);
    scene.network.set_uplink(0, true).unwrap();
    kept.recover("an uplink that was down");
}

#[test]
fn b7_b58_b70_b71_b97_conversations_outlive_all_that_happens_around_them() {
    outlive(false);
}

#[test]
fn b7_b58_b70_b71_b97_conversations_do_so_before_the_host_stack() {
    outlive(true);
}

fn outlive(xdp: bool) {
    let scene = Scene::with_xdp("kept", Mode::Host, xdp, &DETECTOR);
    let [here, there] = [(&scene.here, 0), (&scene.there, 1)];
    let third = (&scene.pods[0], 0);
    serve(&scene.pods[0]);
    scene.serve(SVC, &[here, there], &json!({}));
    scene.serve(OTHER, &[third], &json!({}));
    let kept = everybodys(&scene);
    assert!(!kept.with("here").is_empty() && !kept.with("there").is_empty());

    for policy in [
        json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}),
        json!({"sessionAffinity": "ClientIP"}),
        json!({"loadBalancerSourceRanges": ["198.51.100.0/24", "2001:db8:9::/48"]}),
        json!({}),
    ] {
        kept.notice_nothing(&format!("policies {policy}"), || scene.serve(SVC, &[here, there], &policy));
    }
    kept.notice_nothing("a backend more", || scene.serve(SVC, &[here, there, third], &json!({})));
    kept.notice_nothing("a backend less", || scene.serve(SVC, &[here, there], &json!({})));

    kept.notice_nothing("killed agents", || {
        for machine in [0, 1] {
            scene.take_agent(machine).kill().unwrap();
        }
        for machine in [0, 1] {
            scene.start_agent(machine, &binary());
        }
    });
    let rebuilt = Rebuilt::new(if xdp { "rebuilt-xdp" } else { "rebuilt" });
    let before = tags(&scene, 0);
    kept.notice_nothing("agents of another build", || {
        for machine in [0, 1] {
            assert!(scene.take_agent(machine).stop().unwrap().success());
            scene.start_agent(machine, &rebuilt.0);
        }
    });
    let same: Vec<_> = before.intersection(&tags(&scene, 0)).cloned().collect();
    assert!(same.len() < before.len() / 2, "these programs are the same: {same:?}");

    flap(&scene, &kept);

    let to = [WAYS[1], WAYS[3]].map(|way| OTHER.at(&scene, Front::ClusterIp, way));
    let sent = kept
        .notice_nothing("100 000 other flows", || Flood::of(&scene.pods[0], "syn", to, (50_000, 1)).sent());
    assert!(sent >= 100_000, "only {sent}");
    // And whoever comes now is served.
    for client in scene.clients() {
        for way in WAYS {
            let asked = || scene.ask(client.space, (SVC, Front::NodePort(0), way)).is_ok();
            wait_for(SOON, asked).unwrap_or_else(|error| panic!("{} {way:?}: {error}", client.name));
        }
    }
    assert_eq!(scene.first().xdp_frames().unwrap() > 0, xdp);
}
