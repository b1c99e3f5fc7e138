//! Names, while those who resolve them are replaced.

use std::process::Stdio;

use serde_json::json;
use xtask::kube::Kubelet;
use xtask::kube::dns::ADDRESSES as DNS;
use xtask::lab::Space;

use crate::dns;
use crate::support::{Scene, cluster, serves};

#[test]
fn b120_names_are_resolved_while_coredns_is_rolled_out() {
    let scene = Scene::new("b120");
    let pod = scene.pod(0, "a");
    let service = scene.service("web");
    serves(&service, &[&pod]);
    let address = service.at(0, 53).unwrap().ip().to_string();
    let mut resolvers = dns::start().lock().unwrap();
    let clients: [(&Space, &str, &str); 4] = [
        (cluster().client(0).unwrap(), DNS[0], "udp"),
        (cluster().nodes()[1].host(), DNS[1], "udp"),
        (cluster().client(2).unwrap(), DNS[1], "tcp"),
        (cluster().nodes()[2].host(), DNS[0], "tcp"),
    ];
    let script = xtask::sh::root().join("xtask/tests/kube/names.py");
    let resolving = clients.map(|(client, server, transport)| {
        let mut python = client.command("python3");
        python.arg(&script).args([server, transport, "web.b120.svc.cluster.local", &address]);
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let mut deployment =
        dns::documents("coredns.yaml").into_iter().find(|it| it["kind"] == "Deployment").unwrap();
    for round in 1..=2 {
        let before = names(&resolvers);
        deployment["spec"]["template"]["metadata"]["annotations"] = json!({"round": round.to_string()});
        dns::apply_object(deployment.clone(), "kube-system");
        resolvers
            .until("the rollout", |it| {
                let ready = names(it);
                it.pods().count() == 2 && ready.len() == 2 && ready.iter().all(|pod| !before.contains(pod))
            })
            .unwrap();
    }
    for mut child in resolving {
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let count: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
        assert!(count > 10, "{count}");
    }
}

fn names(kubelet: &Kubelet<'_>) -> Vec<String> {
    kubelet.ready().map(|pod| pod.name().to_owned()).collect()
}
