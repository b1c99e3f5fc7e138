//! SCTP from outside, by raw sockets.

use serde_json::json;
use xtask::lab::wait_for;

use super::scene::Scene;
use super::service::{Front, Svc};
use super::shared;
use crate::endpoints::READY;
use crate::packets::{as_sctp, run, server_at};
use crate::support::{SOON, TARGET, WAYS};

#[test]
fn b46_sctp_comes_in_from_outside() {
    shared().for_each(sctp);
}

fn sctp(scene: &Scene) {
    let [one, _] = scene.network.machines() else { panic!("two machines") };
    for (index, (name, pod)) in ["sctp-here", "sctp-there"].into_iter().zip(&scene.pods).enumerate() {
        let svc = Svc { name, number: 69 + u8::try_from(index).unwrap() };
        let mut objects = svc.objects(scene, (&[(pod, index)], READY), &json!({}));
        let items = objects["items"].as_array_mut().unwrap();
        for item in items.iter_mut() {
            for path in ["/spec/ports", "/ports"] {
                if let Some(ports) = item.pointer_mut(path) {
                    ports.as_array_mut().unwrap().truncate(1);
                }
            }
        }
        as_sctp(items);
        scene.write(name, &objects);
        wait_for(SOON, || {
            let shown = one.sluice_json(&["service", "show", &format!("default/{name}")]).unwrap_or_default();
            shown.as_array().is_some_and(|ports| {
                ports.len() == 2
                    && ports.iter().all(|port| port["proto"] == "SCTP" && port["endpoints"]["cluster"] == 1)
            })
        })
        .unwrap();
        for way in [WAYS[0], WAYS[2]] {
            let _server = server_at(pod, "sctp.py", (pod.ips()[way.family], TARGET));
            for front in [Front::NodePort(0), Front::LoadBalancer] {
                let at = svc.at(scene, front, way);
                run(
                    scene.network.outside(),
                    "sctp.py",
                    &["ask", &at.ip().to_string(), &at.port().to_string()],
                );
            }
        }
        let flows = one.sluice_json(&["flow", "list", "--proto", "sctp", "--service", name]).unwrap();
        let flows = flows.as_array().unwrap();
        let node = one.ips().map(|ip| ip.to_string());
        let as_node = |source: &serde_json::Value| node.iter().any(|ip| source == ip.as_str());
        assert!(
            flows.len() == 4 && flows.iter().all(|flow| as_node(&flow["source"]) == (index == 1)),
            "{flows:#?}"
        );
    }
}
