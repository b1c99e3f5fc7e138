//! Node ports, load balancers and external addresses: who answers whom, and whom they see.

mod errors;
mod flooded;
mod kept;
mod layout;
mod matrix;
mod older;
mod past;
mod ports;
mod ranges;
mod refusals;
mod rules;
mod scene;
mod sctp;
mod service;
mod survival;
mod uplinks;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;
use std::thread;

use serde_json::json;
use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::{Node, Space, manifest, wait_for};

use crate::endpoints::READY;
use crate::support::{Mode, SOON, WAYS, Way, World};
use scene::{DETECTOR, Scene};
use service::{Front, Svc};

/// The scenes that those share which only need some Services of their own: without XDP, and with it. The reaper removes
/// them.
fn shared() -> impl Iterator<Item = &'static Scene> {
    static SHARED: [OnceLock<Scene>; 2] = [OnceLock::new(), OnceLock::new()];
    let made = |(scene, xdp): (&'static OnceLock<Scene>, bool)| {
        scene.get_or_init(|| Scene::with_xdp("shared", Mode::Host, xdp, &[]))
    };
    SHARED.iter().zip([false, true]).map(made)
}

const FRONTS: [Front; 3] = [Front::NodePort(0), Front::ExternalIp, Front::LoadBalancer];

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
            scene.answered(pod, first, &seen(pod.ips[way.family])).unwrap();
            // Towards a pod of its own node nobody is masqueraded.
            scene.answered(outside, (svc, Front::NodePort(1), way), &seen(outside.ips[way.family])).unwrap();
            if !local {
                scene.answered(outside, first, &seen(node(way, 0))).unwrap();
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

#[test]
fn b41_external_ips_are_not_served_where_they_are_switched_off() {
    // What is to be silent takes its time.
    thread::scope(|scope| {
        for mode in [Mode::All, Mode::Host] {
            scope.spawn(move || switched_off(mode));
        }
    });
}

fn switched_off(mode: Mode) {
    let world = World::new(&format!("off-{mode:?}").to_lowercase(), mode, &["--external-ips=false"]);
    let svc = world.service("off", &[&world.a]);
    let [external, balancer] = ["192.0.2.90", "192.0.2.91"];
    let mut object = manifest::service(&svc.name, &svc.addresses, &svc.ports);
    object["spec"]["externalIPs"] = json!([external]);
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": balancer}]}});
    let [v4, v6] = svc.slices(&[&world.a]);
    world.node.write(&svc.file(), &manifest::list(&[object, v4, v6])).unwrap();
    let [external, balancer] = [external, balancer].map(|ip| SocketAddr::new(ip.parse().unwrap(), 80));
    let clients: [&Space; 3] = [&world.client, world.node.host(), world.node.router()];
    world.node.router().ip(&format!("route add 192.0.2.0/24 via {}\n", Node::addresses()[0])).unwrap();
    let problems = || world.node.sluice_json(&["status"]).unwrap()["problems"].to_string();
    wait_for(SOON, || problems().contains("--external-ips=false")).unwrap();
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || {
                wait_for(SOON, || client.ask(Socket::Tcp, balancer).is_ok()).unwrap();
                assert!(client.ask(Socket::Udp, external).is_err());
            });
        }
    });
}

#[test]
fn b20_b22_b26_what_makes_an_address_one_of_a_load_balancer_and_whose_it_is() {
    thread::scope(|scope| shared().for_each(|scene| drop(scope.spawn(move || whose(scene)))));
}

fn whose(scene: &Scene) {
    let outside = scene.network.outside();
    let met = |svc: Svc, front: Front, pod: &str| {
        for way in WAYS {
            let mut last = None;
            wait_for(SOON, || {
                last = Some(scene.ask(outside, (svc, front, way)));
                last.as_ref().is_some_and(|answer| answer.as_ref().is_ok_and(|answer| answer.pod == pod))
            })
            .unwrap_or_else(|error| {
                panic!("{} {front:?} {way:?} {error}: {last:?}\n{}", svc.name, scene.log())
            });
        }
    };
    let (here, there) = ([(&scene.here, 0)], [(&scene.there, 1)]);
    let written = |svc: Svc, endpoints: &[_], more| {
        scene.write(svc.name, &svc.objects(scene, (endpoints, READY), &more));
        let path = format!("default/{}", svc.name);
        let shown = || scene.first().sluice_json(&["service", "show", &path]).unwrap_or_default();
        wait_for(SOON, || shown().as_array().is_some_and(|ports| ports.len() == 4)).unwrap();
    };

    // B20: only the status tells which addresses there are.
    let first = Svc { name: "owned-1", number: 71 };
    let wish = SocketAddr::new("192.0.2.200".parse().unwrap(), 80);
    let class = json!({"loadBalancerClass": "example.com/any", "loadBalancerIP": wish.ip()});
    written(first, &here, class.clone());
    met(first, Front::LoadBalancer, "here");
    assert!(outside.ask(Socket::Udp, wish).is_err(), "what the Service wishes for is not its own");

    // B22: of a Service that is not reached from outside by its type no policy counts.
    let inside = Svc { name: "inside", number: 72 };
    written(
        inside,
        &there,
        json!({"type": "ClusterIP", "externalIPs": [], "externalTrafficPolicy": "Local"}),
    );
    met(inside, Front::LoadBalancer, "there");

    // B26: of two that want an address the first has it, and the other one takes over.
    let second = Svc { name: "owned-2", number: 73 };
    let both = [WAYS[0], WAYS[2]].map(|way| first.at(scene, Front::ExternalIp, way).ip());
    written(second, &there, json!({"externalIPs": both}));
    met(second, Front::LoadBalancer, "there");
    met(first, Front::ExternalIp, "here");
    scene.write(first.name, &manifest::list(&[]));
    met(first, Front::ExternalIp, "there");
    written(first, &here, class);
    met(first, Front::ExternalIp, "here");
    met(second, Front::LoadBalancer, "there");
}
