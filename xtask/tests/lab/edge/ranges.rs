//! Source ranges.

use std::net::{IpAddr, SocketAddr};
use std::thread;

use serde_json::json;
use xtask::lab::helper::wire::Socket;
use xtask::lab::wait_for;

use super::matrix::Policy;
use super::scene::{DETECTOR, Scene};
use super::service::{Front, HEALTH, Svc};
use crate::support::{Mode, SOON, WAYS, Way};

const OPEN: [Front; 3] = [Front::ClusterIp, Front::NodePort(0), Front::ExternalIp];

pub(super) fn ranges(addresses: &[[IpAddr; 2]]) -> Vec<String> {
    let text = |addr: &IpAddr| format!("{addr}/{}", if addr.is_ipv4() { 32 } else { 128 });
    addresses.iter().flatten().map(text).collect()
}

/// One way of each protocol and family: silence takes as long as patience.
const SOME: [Way; 2] = [WAYS[0], WAYS[3]];

#[test]
fn b43_b44_b45_ranges_guard_load_balancers_and_nothing_else() {
    // What is to be silent takes its time.
    thread::scope(|scope| {
        for (mode, xdp) in [(Mode::All, true), (Mode::Host, false)] {
            scope.spawn(move || guarded(&Scene::with_xdp("ranges", mode, xdp, &DETECTOR)));
        }
    });
}

fn guarded(scene: &Scene) {
    let svc = Svc { name: "guarded", number: 21 };
    let clients = scene.clients();
    let (outside, pod, node) = (&clients[0], &clients[1], &clients[4]);
    let both = [(&scene.here, 0), (&scene.there, 1)];
    let vip = |way| (svc, Front::LoadBalancer, way);

    // Only the node and a pod of it.
    let mut spec = Policy::External.spec();
    spec["loadBalancerSourceRanges"] = json!(ranges(&[pod.ips, node.ips]));
    scene.serve(svc, &both, &spec);
    for addr in scene.first().ips() {
        let checked =
            || outside.space.get(SocketAddr::new(addr, HEALTH), "/").is_ok_and(|(code, _)| code == 200);
        wait_for(SOON, checked).unwrap_or_else(|error| panic!("health check: {error}\n{}", scene.log()));
    }
    for way in WAYS {
        for client in [pod, node] {
            scene
                .ask(client.space, vip(way))
                .unwrap_or_else(|failure| panic!("{} {way:?}: {failure}", client.name));
        }
        for front in OPEN {
            scene
                .ask(outside.space, (svc, front, way))
                .unwrap_or_else(|failure| panic!("{front:?} {way:?}: {failure}"));
        }
    }
    for way in SOME {
        let failure = scene.ask(outside.space, vip(way)).unwrap_err();
        assert!(failure.is_silence(), "{way:?}: {failure}");
    }

    // Only who is outside, and no endpoint: a refusal for him, silence for the others.
    scene.serve(svc, &[], &json!({"loadBalancerSourceRanges": ranges(&[outside.ips])}));
    for way in WAYS {
        let failure = scene.ask(outside.space, vip(way)).unwrap_err();
        assert!(failure.refused_at_once(), "{way:?}: {failure}");
    }
    for way in SOME {
        let failure = scene.ask(pod.space, vip(way)).unwrap_err();
        assert!(failure.is_silence(), "{way:?}: {failure}");
        let failure = scene.ask(node.space, vip(way)).unwrap_err();
        let refused = way.socket == Socket::Udp && failure.refused_at_once();
        assert!(refused || failure.is_silence(), "{way:?}: {failure}");
    }
    let counted = scene.first().sluice_json(&["stats"]).unwrap()["reasons"].to_string();
    assert!(counted.contains("source_not_in_range"), "{counted}");

    // No ranges: everybody.
    scene.serve(svc, &both, &json!({}));
    for client in &clients {
        for way in WAYS {
            scene
                .ask(client.space, vip(way))
                .unwrap_or_else(|failure| panic!("{} {way:?}: {failure}", client.name));
        }
    }
}
