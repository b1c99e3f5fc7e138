//! The host's own rules: what goes to a pod of this node is forwarded by the host, which sees client and pod.

use std::io::Write as _;
use std::process::Stdio;
use std::thread;

use serde_json::json;
use xtask::lab::Machine;

use super::scene::Scene;
use super::service::{Front, Svc};
use crate::support::{Mode, WAYS};

/// Runs `nft` with these lines on `machine`.
fn nft(machine: &Machine, rules: &str) {
    let mut command = machine.host().command("nft");
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft: {rules}");
}

#[test]
fn b82_a_rule_of_the_host_that_denies_a_client_denies_it() {
    let all = [(Mode::All, true), (Mode::Host, false), (Mode::All, false), (Mode::Host, true)];
    // Who is denied while it connects waits a second, again and again.
    thread::scope(|scope| {
        for (mode, xdp) in all {
            scope.spawn(move || denied(&Scene::with_xdp("rules", mode, xdp, &[])));
        }
    });
}

fn denied(scene: &Scene) {
    const FRONTS: [Front; 4] = [Front::ClusterIp, Front::NodePort(0), Front::ExternalIp, Front::LoadBalancer];
    let svc = Svc { name: "denied", number: 68 };
    scene.serve(svc, &[(&scene.here, 0)], &json!({}));
    let clients = scene.clients();
    let [outside, pod, _, other, ..] = &clients;
    let ask = |allowed: bool| {
        for client in [outside, pod] {
            for front in FRONTS {
                for way in WAYS {
                    let answer = scene.ask(client.space, (svc, front, way));
                    let case = format!("{}: {} to {front:?}, {way:?}", scene.setting, client.name);
                    match answer {
                        Ok(answer) if allowed => {
                            assert_eq!(answer.client.ip(), client.ips[way.family], "{case}");
                        }
                        // An error that comes while connect() still sends its SYN counts when that is sent again.
                        Err(failure) if !allowed && failure.kind == "ConnectionRefused" => {}
                        answer => panic!("{case}: {answer:?}, allowed is {allowed}\n{}", scene.log()),
                    }
                }
            }
        }
        for way in WAYS {
            let answer = scene.ask(other.space, (svc, Front::NodePort(0), way));
            assert_eq!(answer.unwrap().client.ip(), other.ips[way.family], "nobody denies {}", other.name);
        }
    };
    ask(true);
    let [here4, here6] = scene.here.ips();
    let deny = |[v4, v6]: [std::net::IpAddr; 2]| {
        format!("ip saddr {v4} ip daddr {here4} reject\nip6 saddr {v6} ip6 daddr {here6} reject\n")
    };
    let rules = [outside.ips, pod.ips].map(deny).concat();
    let hook = "type filter hook forward priority filter; policy accept;";
    nft(scene.first(), &format!("table inet lab {{ chain forward {{ {hook}\n{rules}}}\n}}\n"));
    ask(false);
    nft(scene.first(), "delete table inet lab\n");
    ask(true);
}
