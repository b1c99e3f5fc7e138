//! Several uplinks: what comes in by one and goes out by another, ways that change under a conversation, addresses too.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::{wait_for, wire};

use super::kept::Kept;
use super::scene::Scene;
use super::service::{Front, Svc};
use crate::support::{Mode, SOON, WAYS};

const SVC: Svc = Svc { name: "uplinks", number: 85 };

/// What the client outside asks from: it is reached by either uplink.
const ASKS: [&str; 2] = ["198.51.100.9", "2001:db8:51::9"];
/// Where the second wire ends: at the client, at the machine.
const WIRE: [[&str; 2]; 2] = [["172.19.0.1", "fd00:172:19::1"], ["172.19.0.2", "fd00:172:19::2"]];
/// An address that the machine gets instead of its first.
const NEW: [&str; 2] = ["172.18.0.77", "fd00:172:18::77"];
/// New addresses of IPv6 are good at once.
const DAD: [&str; 2] = ["", " nodad"];

fn ips(texts: [&str; 2]) -> [IpAddr; 2] {
    texts.map(|text| text.parse().unwrap())
}

/// The lines for each family.
fn both(line: impl Fn(usize) -> String) -> String {
    [0, 1].map(|family| line(family) + "\n").concat()
}

/// Sends what is for the load balancer's addresses to the machine by this address of it.
fn send_by(scene: &Scene, ways: [IpAddr; 2]) {
    let to = [0, 1].map(|family| SVC.at(scene, Front::LoadBalancer, WAYS[2 * family]).ip().to_string());
    scene.network.route_outside([&to[0], &to[1]], ways).unwrap();
}

/// The second wire's end at the machine, as it is to be.
fn second_uplink(scene: &Scene) {
    let bits = [24, 64];
    let lines = "link set up1 up\n".to_owned()
        + &both(|family| format!("addr replace {}/{} dev up1{}", WIRE[1][family], bits[family], DAD[family]))
        + &both(|family| format!("route replace default via {} dev up1 metric 2000", WIRE[0][family]));
    scene.first().host().ip(&lines).unwrap();
    served(scene, &["up0", "up1"]);
}

/// Waits until these uplinks are served.
fn served(scene: &Scene, expected: &[&str]) {
    let mut last = Value::Null;
    wait_for(SOON * 4, || {
        last = scene.first().sluice_json(&["status"]).unwrap_or_default();
        let native = |way: &Value| way["native"] == scene.setting.xdp;
        last["uplinks"] == json!(expected)
            && last["xdp"].as_array().is_some_and(|all| all.len() == expected.len() && all.iter().all(native))
    })
    .unwrap_or_else(|error| panic!("{error}: {last}, should be {expected:?}\n{}", scene.log()));
}

#[test]
fn b79_b115_ways_and_addresses_change_under_conversations() {
    ways_change(false);
}

#[test]
fn b79_b115_ways_and_addresses_change_under_conversations_before_the_host_stack() {
    ways_change(true);
}

fn ways_change(xdp: bool) {
    let scene = Scene::with_xdp("uplinks", Mode::Host, xdp, &["--nodeport-addresses", "all"]);
    let [here, there] = [(&scene.here, 0), (&scene.there, 1)];
    let (outside, host) = (scene.network.outside(), scene.first().host());
    let node = scene.first().ips();
    let ends =
        both(|family| format!("addr add {}/{} dev out1{}", WIRE[0][family], [24, 64][family], DAD[family]))
            + &both(|family| format!("addr add {}/{} dev lo", ASKS[family], [32, 128][family]));
    outside
        .ip(&format!(
            "link add out1 type veth peer name up1 netns {}\nlink set out1 up\n{ends}",
            host.netns()
        ))
        .unwrap();
    if xdp {
        wire((host, "up1"), (outside, "out1")).unwrap();
    }
    second_uplink(&scene);
    scene.serve(SVC, &[here, there], &json!({}));
    let client = &scene.clients()[0];
    let open = || Kept::open(&scene, client, Some(ips(ASKS)), (SVC, &[Front::LoadBalancer]));
    let seen = |kept: &Kept<'_>, node: [IpAddr; 2]| {
        assert!(kept.with("here").iter().all(|ip| ips(ASKS).contains(ip)), "{:?}", kept.with("here"));
        assert!(kept.with("there").iter().all(|ip| node.contains(ip)), "{:?}", kept.with("there"));
    };

    // In by the second, out by the first.
    send_by(&scene, ips(WIRE[1]));
    let mut kept = open();
    seen(&kept, node);
    // Out by the second as well, then in by the first.
    let default = |verb: &str| both(|family| format!("route {verb} default via {}", client.ips[family]));
    host.ip(&default("del")).unwrap();
    kept.recover("answers leave by the second uplink");
    kept = kept.and(open());
    send_by(&scene, node);
    kept.recover("questions come by the first uplink, answers leave by the second");
    kept = kept.and(open());
    host.ip(&default("replace")).unwrap();
    kept.recover("all by the first uplink");
    // The second goes and comes back. It stays an uplink meanwhile.
    host.ip("link set up1 down\n").unwrap();
    served(&scene, &["up0", "up1"]);
    kept.notice_nothing("one uplink", || asked_anew(&scene));
    second_uplink(&scene);
    send_by(&scene, ips(WIRE[1]));
    kept.recover("in by the uplink that came back");
    kept = kept.and(open());
    seen(&kept, node);
    // Node ports are there at the address of either.
    for way in WAYS {
        for at in [node, ips(WIRE[1])] {
            let at = SocketAddr::new(at[way.family], SVC.node_port());
            wait_for(SOON, || outside.ask(way.socket, at).is_ok())
                .unwrap_or_else(|error| panic!("{at}: {error}"));
        }
    }

    // The machine gets another address, by which it goes to the other's pods.
    let [_, other] = scene.network.machines() else { panic!("two machines") };
    let to_pods = both(|family| {
        let (range, via) = (&other.pod_cidrs()[family], other.ips()[family]);
        format!("route replace {range} via {via} src {}", NEW[family])
    });
    // Of another length, so that it is no second one which would go with the first.
    let add = both(|family| format!("addr add {}/{} dev up0{}", NEW[family], [25, 64][family], DAD[family]));
    host.ip(&(add + &to_pods)).unwrap();
    let new = open();
    seen(&new, ips(NEW));
    kept.recover("another address");
    host.ip(&both(|family| format!("addr del {}/{} dev up0", node[family], [24, 64][family]))).unwrap();
    // What was masqueraded as the old address is over.
    kept.retain("here");
    kept.and(new).recover("the old address is gone");
    let at = |addr: IpAddr| SocketAddr::new(addr, SVC.node_port());
    for way in WAYS {
        let new = at(ips(NEW)[way.family]);
        wait_for(SOON, || outside.ask(way.socket, new).is_ok())
            .unwrap_or_else(|error| panic!("{new}: {error}\n{}", scene.log()));
    }
    assert_eq!(scene.first().xdp_frames().unwrap() > 0, xdp);
}

/// Somebody asks anew.
fn asked_anew(scene: &Scene) {
    for way in WAYS {
        let answer = scene.ask(scene.network.outside(), (SVC, Front::LoadBalancer, way));
        assert!(answer.is_ok(), "{way:?}: {answer:?}");
    }
}
