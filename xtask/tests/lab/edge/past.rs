//! `--redirect-peer`, and who asks from outside: what is for a pod of this node goes past the host stack, and all is as ever.

use std::net::SocketAddr;
use std::thread;

use serde_json::json;
use xtask::lab::{Network, wait_for};

use super::matrix::{Policy, expected};
use super::ranges::ranges;
use super::scene::{DETECTOR, Scene};
use super::service::{Front, Svc};
use crate::peer::{interfaces, past};
use crate::support::{Mode, SOON, TARGET, WAYS, Way};

const SVC: Svc = Svc { name: "past", number: 87 };

const FRONTS: [Front; 4] = [Front::ClusterIp, Front::NodePort(0), Front::ExternalIp, Front::LoadBalancer];

#[test]
fn b36_b42_b43_b54_b79_all_of_it_holds_past_the_host_stack() {
    let flags = [&DETECTOR[..], &["--redirect-peer"]].concat();
    thread::scope(|scope| {
        // Silence takes as long as patience, so it is asked for in one way each.
        for (mode, xdp, silent) in [(Mode::All, true, WAYS[0]), (Mode::Host, false, WAYS[3])] {
            let flags = &flags;
            scope.spawn(move || held(&Scene::with_xdp("past", mode, xdp, flags), silent));
        }
    });
}

fn held(scene: &Scene, silent: Way) {
    let (first, outside) = (scene.first(), scene.network.outside());
    // Those of its two pods, and the uplink.
    wait_for(SOON * 2, || interfaces(first) == 3).unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    // What waits for a neighbour to be resolved goes through the stack.
    for way in WAYS {
        outside.ask(way.socket, SocketAddr::new(scene.here.ips()[way.family], TARGET)).unwrap();
    }
    let clients = scene.clients();
    let both = [(&scene.here, 0), (&scene.there, 1)];
    for policy in [Policy::Cluster, Policy::External] {
        scene.serve(SVC, &both, &policy.spec());
        for way in WAYS {
            // From outside, from another pod of the node, and by the endpoint itself.
            for (number, client) in clients[..3].iter().enumerate() {
                let before = past(first);
                for front in FRONTS {
                    let expected = expected(scene, client, front, way, policy);
                    scene
                        .answered(client, (SVC, front, way), &expected)
                        .unwrap_or_else(|failed| panic!("{policy:?}: {failed}\n{}", scene.log()));
                }
                // `here` is among those that have answered, at each front.
                let went = past(first) - before;
                assert!(
                    number != 0 || went >= FRONTS.len() as u64,
                    "{}, {way:?}: {went} past",
                    scene.setting
                );
            }
        }
    }
    // Nobody outside may use the load balancer's address, everybody the others.
    scene.serve(SVC, &[(&scene.here, 0)], &json!({"loadBalancerSourceRanges": ranges(&[clients[1].ips])}));
    for way in WAYS {
        let from = |client: usize, front| scene.ask(clients[client].space, (SVC, front, way));
        let seen = from(0, Front::NodePort(0)).unwrap().client.ip();
        assert_eq!(seen, Network::outside_ips()[way.family], "{}, {way:?}", scene.setting);
        assert_eq!(from(1, Front::LoadBalancer).unwrap().pod, "here", "{}, {way:?}", scene.setting);
    }
    let failure = scene.ask(outside, (SVC, Front::LoadBalancer, silent)).unwrap_err();
    assert!(failure.is_silence(), "{}, {silent:?}: {failure}", scene.setting);
}
