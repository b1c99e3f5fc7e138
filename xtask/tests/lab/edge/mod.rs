//! Node ports, load balancers and external addresses: who answers whom, and whom they see.

mod ranges;
mod scene;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::json;
use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::wait_for;

use crate::support::{Mode, SOON, WAYS, Way};
use scene::{Client, Front, HEALTH, Scene, Svc};

const MODES: [Mode; 2] = [Mode::All, Mode::Host];
/// Pods are told by their addresses.
const DETECTOR: [&str; 2] = ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"];
const FRONTS: [Front; 3] = [Front::NodePort(0), Front::ExternalIp, Front::LoadBalancer];

/// Who answers `client` at `front`, and the addresses under which each may see it. `local`: the external policy.
/// `detector`: whether pods are told.
fn expected(
    scene: &Scene,
    client: &Client<'_>,
    front: Front,
    way: Way,
    (local, detector): (bool, bool),
) -> BTreeMap<&'static str, Vec<IpAddr>> {
    let node = |index: usize| scene.network.machines()[index].ips()[way.family];
    // Where the choice is made: by the client's own node, but for node ports of others, and for who has no node.
    let at = match (front, client.machine) {
        (Front::NodePort(machine), _) => machine,
        (_, machine) => machine.unwrap_or(0),
    };
    let from_outside = client.machine != Some(at);
    let short = if client.pod { detector } else { !from_outside };
    let own = client.ips[way.family];
    let mut all = BTreeMap::new();
    for (machine, pod) in [(0, "here"), (1, "there")] {
        let is_here = machine == at;
        if local && !short && !is_here {
            continue;
        }
        let seen = if client.pod && machine == 0 && client.space.netns() == scene.here.netns() {
            // A hairpin is masqueraded, but for one that its own socket makes.
            let by_socket = scene.mode == Mode::All && way.socket == Socket::Tcp;
            if by_socket { vec![own, node(at)] } else { vec![node(at)] }
        } else if from_outside && !is_here {
            vec![node(at)]
        } else {
            vec![own]
        };
        all.insert(pod, seen);
    }
    all
}

/// Holds every cell of the matrix for a Service with these words in its `spec`.
fn matrix(scene: &Scene, svc: Svc, (local, detector): (bool, bool)) {
    for client in scene.clients() {
        for front in FRONTS {
            for way in WAYS {
                let expected = expected(scene, &client, front, way, (local, detector));
                scene.answered(&client, (svc, front, way), &expected);
            }
        }
    }
}

#[test]
fn b36_b40_b41_b42_b54_b55_everybody_reaches_every_frontend() {
    let (cluster, local) = (Svc { name: "cluster", number: 11 }, Svc { name: "local", number: 12 });
    for mode in MODES {
        let scene = Scene::new("edge", mode, &DETECTOR);
        let both = [(&scene.here, 0), (&scene.there, 1)];
        scene.serve(cluster, &both, &json!({}));
        let spec = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": HEALTH});
        scene.serve(local, &both, &spec);
        matrix(&scene, cluster, (false, true));
        matrix(&scene, local, (true, true));
        // B76: a ClusterIP by a static route. B57: the external policy is not for it.
        let outside = &scene.clients()[0];
        for way in WAYS {
            for svc in [cluster, local] {
                let all = expected(&scene, outside, Front::ClusterIp, way, (false, true));
                scene.answered(outside, (svc, Front::ClusterIp, way), &all);
            }
            // B89: what is no Service's port is the host's.
            let at = SocketAddr::new(scene.first().ips()[way.family], HEALTH);
            wait_for(SOON, || outside.space.get(at, "/").is_ok_and(|(code, _)| code == 200)).unwrap();
        }
    }
}

#[test]
fn b55_b56_b80_without_a_detector_nobody_is_known_to_be_a_pod() {
    let local = Svc { name: "local", number: 12 };
    for mode in MODES {
        let scene = Scene::new("blind", mode, &[]);
        let both = [(&scene.here, 0), (&scene.there, 1)];
        scene.serve(local, &both, &json!({"externalTrafficPolicy": "Local"}));
        matrix(&scene, local, (true, false));
    }
}

#[test]
fn b52_b54_b58_a_policy_is_flipped_and_what_is_not_here_is_silence_from_outside() {
    let svc = Svc { name: "far", number: 13 };
    let scene = Scene::new("far", Mode::All, &DETECTOR);
    let clients = scene.clients();
    let (outside, pod) = (&clients[0], &clients[1]);
    let node = |way: Way, index: usize| scene.network.machines()[index].ips()[way.family];
    for local in [false, true, false] {
        let policy = if local { "Local" } else { "Cluster" };
        scene.serve(svc, &[(&scene.there, 1)], &json!({"externalTrafficPolicy": policy}));
        for way in WAYS {
            let seen = |addr: IpAddr| BTreeMap::from([("there", vec![addr])]);
            let first = (svc, Front::NodePort(0), way);
            scene.answered(pod, first, &seen(pod.ips[way.family]));
            // Towards a pod of its own node nobody is masqueraded.
            scene.answered(outside, (svc, Front::NodePort(1), way), &seen(outside.ips[way.family]));
            if !local {
                scene.answered(outside, first, &seen(node(way, 0)));
            }
        }
        if local {
            // One of each family and protocol: silence takes as long as patience.
            for way in [WAYS[0], WAYS[3]] {
                let failure = scene.ask(outside.space, (svc, Front::NodePort(0), way)).unwrap_err();
                assert!(failure.is_silence(), "{way:?}: {failure}");
            }
        }
    }
    // B67: no endpoint at all is a refusal.
    scene.serve(svc, &[], &json!({"externalTrafficPolicy": "Local"}));
    for client in [outside, pod] {
        for front in FRONTS {
            for way in WAYS {
                let failure = scene.ask(client.space, (svc, front, way)).unwrap_err();
                assert!(failure.refused_at_once(), "{} {front:?} {way:?}: {failure}", client.name);
            }
        }
    }
}

#[test]
fn b38_b39_node_ports_are_served_where_they_should_be() {
    let svc = Svc { name: "where", number: 14 };
    let scene =
        Scene::new("where", Mode::All, &["--nodeport-addresses", "172.18.0.0/16,fd00:172:18::/64,localhost"]);
    scene.serve(svc, &[(&scene.there, 1)], &json!({}));
    let first = scene.first();
    let outside = scene.network.outside();
    for way in WAYS {
        // B39: sockets of the node alone.
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)][way.family];
        let at = SocketAddr::new(loopback, svc.node_port());
        let answer = first.host().ask(way.socket, at).unwrap();
        assert_eq!((answer.pod.as_str(), answer.client.ip()), ("there", first.ips()[way.family]), "{way:?}");
        assert!(scene.pods[0].ask(way.socket, at).is_err_and(|failure| failure.refused_at_once()), "{way:?}");
    }
    // A process of the host that listens there is shadowed, and whoever looks is told so.
    first.host().serve(Transport::Tcp, svc.node_port(), "shadowed").unwrap();
    let at = SocketAddr::new(first.ips()[0], svc.node_port());
    assert_eq!(outside.ask(Socket::Tcp, at).unwrap().pod, "there");
    for (command, key) in [("doctor", "findings"), ("status", "shadowed")] {
        let said = first.sluice_json(&[command]).unwrap()[key].to_string();
        assert!(said.contains(&format!(":{}/TCP of default/where", svc.node_port())), "{said}");
    }
    // B38: addresses that come and go, one that is meant and one that is not.
    for (addr, served) in [("172.18.200.1", true), ("198.51.100.1", false)] {
        let at = SocketAddr::new(addr.parse().unwrap(), svc.node_port());
        let via = first.ips()[0];
        outside.ip(&format!("route add {addr}/32 via {via}\n")).unwrap();
        first.host().ip(&format!("addr add {addr}/32 dev lo\n")).unwrap();
        if served {
            wait_for(SOON, || outside.ask(Socket::Udp, at).is_ok())
                .unwrap_or_else(|_| panic!("{}", scene.log()));
            assert_eq!(outside.ask(Socket::Tcp, at).unwrap().pod, "there");
        } else {
            // What is no Service's there is the host's.
            wait_for(SOON, || outside.ask(Socket::Tcp, at).is_ok_and(|answer| answer.pod == "shadowed"))
                .unwrap();
        }
        first.host().ip(&format!("addr del {addr}/32 dev lo\n")).unwrap();
    }
    let at = SocketAddr::new("172.18.200.1".parse().unwrap(), svc.node_port());
    wait_for(SOON, || outside.ask(Socket::Tcp, at).is_err()).unwrap();
}
