//! What goes wrong on the way of those who ask from outside, and how they hear of it: by the name of the Service.

use std::net::IpAddr;

use serde_json::json;
use xtask::lab::{Owned, Pod};

use super::layout::Layout;
use super::scene::{Scene, Setting};
use super::service::{Front, Svc};
use super::shared;
use crate::icmp::command;
use crate::support::{Mode, TARGET, WAYS};

const NARROW: &str = "1300";
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/bulk/peer.py");

/// Runs a verb of the script about ICMP as the client outside.
fn outside(scene: &Scene, args: &[&str]) {
    let output = command(scene.network.outside(), args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let counted = || scene.first().sluice_json(&["stats"]).unwrap()["reasons"].to_string();
    assert!(output.status.success(), "{args:?}: {error}\n{}", counted());
}

fn at(scene: &Scene, svc: Svc, front: Front, family: usize) -> [String; 2] {
    let at = svc.at(scene, front, WAYS[2 * family]);
    [at.ip().to_string(), at.port().to_string()]
}

#[test]
fn b104_who_asks_from_outside_is_refused_where_nobody_listens() {
    shared().for_each(refused);
}

#[test]
fn b104_b107_all_of_it_holds_through_tunnels_without_ethernet_headers() {
    for (layout, mode, xdp) in [(Layout::Bare, Mode::All, true), (Layout::Both, Mode::Host, false)] {
        let scene = Scene::laid("errors", Setting { mode, layout, detector: true, xdp });
        refused(&scene);
        told_by_routers(&scene);
        measured(&scene);
    }
}

fn refused(scene: &Scene) {
    let svc = Svc { name: "deaf", number: 60 };
    let clients = scene.clients();
    for (index, pod) in scene.pods.iter().enumerate() {
        scene.serve(svc, &[(pod, index)], &json!({}));
        for client in clients.iter().filter(|client| client.machine != Some(0)) {
            for front in [Front::NodePort(0), Front::LoadBalancer] {
                for way in WAYS {
                    let failure = scene.ask(client.space, (svc, front, way)).unwrap_err();
                    let case = format!("{} to {front:?}, backend on {index}, {way:?}", client.name);
                    assert!(failure.refused_at_once(), "{case}: {failure}");
                }
            }
        }
    }
}

#[test]
fn b104_routers_on_the_way_from_outside_are_told_from_the_service() {
    shared().for_each(told_by_routers);
}

fn told_by_routers(scene: &Scene) {
    let svc = Svc { name: "hops", number: 61 };
    let [one, two] = scene.network.machines() else { panic!("two machines") };
    let told = |addr: IpAddr, hops: &str, family: usize| {
        let [to, port] = at(scene, svc, Front::LoadBalancer, family);
        outside(scene, &["hops", &to, &port, &addr.to_string(), hops]);
    };
    for family in [0, 1] {
        scene.serve(svc, &[(&scene.here, 0)], &json!({}));
        told(one.ips()[family], "1", family);
        scene.serve(svc, &[(&scene.there, 1)], &json!({}));
        // Masqueraded, so it is the datapath that counts the first hop, in the name of the Service, and that brings back
        // what the second node says.
        told(svc.at(scene, Front::LoadBalancer, WAYS[2 * family]).ip(), "1", family);
        told(scene.setting.layout.towards_pods(two)[family], "2", family);
    }
}

/// Has the client outside send a stream through `svc` to `pod`, its only endpoint, and take it back.
fn stream(scene: &Scene, (svc, pod): (Svc, &Pod), front: Front, family: usize) {
    let addr = pod.ips()[family].to_string();
    let mut peer = pod.command("python3");
    let _peer = Owned::start(peer.args([PEER, "serve", &addr, &TARGET.to_string()])).unwrap();
    let [to, port] = at(scene, svc, front, family);
    let mut ask = scene.network.outside().command("python3");
    let output = ask.args([PEER, "ask", &to, &port, "2"]).output().unwrap();
    assert!(output.status.success(), "{}, {to}: {}", scene.setting, String::from_utf8_lossy(&output.stderr));
}

/// Holds that streams from outside arrive at a pod of the other machine, whatever the way there takes.
pub(super) fn streams_arrive(scene: &Scene) {
    let (svc, pod) = (Svc { name: "stream", number: 64 }, &scene.pods[1]);
    scene.serve(svc, &[(pod, 1)], &json!({}));
    for family in [0, 1] {
        stream(scene, (svc, pod), Front::NodePort(0), family);
    }
    if scene.setting.layout == Layout::Vxlan || scene.setting.layout.is_bare() {
        let counted = scene.first().sluice_json(&["stats"]).unwrap()["reasons"].to_string();
        assert!(counted.contains("packet_too_big"), "nothing was too big for the tunnel: {counted}");
    }
}

/// Makes the way from the machine with this index to `pod`, which is on another one or not, narrow or wide again.
fn set_way(scene: &Scene, machine: usize, (pod, index): (&Pod, usize), is_narrow: bool) {
    let machines = scene.network.machines();
    let ways = if machine == index {
        pod.ips().map(|addr| format!("{addr} dev {}", pod.interface()))
    } else {
        let way = |family| scene.setting.layout.way(&machines[index], family);
        [0, 1].map(|family| format!("{} {}", pod.ips()[family], way(family)))
    };
    let mtu = if is_narrow { NARROW } else { "1500" };
    let batch = ways.map(|way| format!("route replace {way} mtu lock {mtu}\n")).concat();
    machines[machine].host().ip(&batch).unwrap();
}

#[test]
fn b104_b107_the_way_from_outside_is_measured_through_the_service() {
    shared().for_each(measured);
}

fn measured(scene: &Scene) {
    let (datagrams, streams) = (Svc { name: "datagrams", number: 62 }, Svc { name: "streams", number: 63 });
    let [near, far] = &scene.pods;
    // Which machine finds its way on to be narrow. Each front is asked once, for who asks remembers.
    let narrow = [
        (0, (&scene.here, 0), (near, 0), Front::LoadBalancer),
        (0, (&scene.there, 1), (far, 1), Front::ExternalIp),
        (1, (&scene.there, 1), (far, 1), Front::ClusterIp),
    ];
    for (machine, answers, listens, front) in narrow {
        for pod in [answers, listens] {
            set_way(scene, machine, pod, true);
        }
        scene.serve(datagrams, &[answers], &json!({}));
        scene.serve(streams, &[listens], &json!({}));
        for family in [0, 1] {
            let [to, port] = at(scene, datagrams, front, family);
            outside(scene, &["narrow", &to, &port, NARROW]);
            stream(scene, (streams, listens.0), front, family);
        }
        for pod in [answers, listens] {
            set_way(scene, machine, pod, false);
        }
    }
    let counted = scene.first().sluice_json(&["stats"]).unwrap()["reasons"].to_string();
    assert!(counted.contains("packet_too_big") && counted.contains("error_translated"), "{counted}");
}
