//! kube-proxy in the place of Sluice, and Sluice after it: what README.md has a user do.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use xtask::kube::{Binaries, Tool, incumbent, objects};
use xtask::lab::wait_for;
use xtask::sh;

use crate::install::chart::deploy;
use crate::install::container::Running;
use crate::install::daemonset::{bound, kubeadm};
use crate::own::own;
use crate::readme;
use crate::support::{SOON, TARGET, WAYS, answers, eventually_in};

#[test]
fn a_node_changes_over_from_kube_proxy_as_the_readme_says() {
    let cluster = own();
    let (api, machine) = (cluster.api(), cluster.spare("change").unwrap());
    let (namespace, labels) = (cluster.namespace("change").unwrap(), json!({"app": "change"}));
    let _pods = [(0, "a"), (1, "b")].map(|(node, pod)| namespace.pod(node, pod, &labels, TARGET).unwrap());
    let service = namespace.service(&objects::service("change", "web", &labels, TARGET)).unwrap();
    let client = machine.pod("client").unwrap();
    let answered = || {
        let wanted = BTreeSet::from(["a", "b"].map(str::to_owned));
        for space in [&*client, machine.host()] {
            for way in WAYS {
                let to = service.at(way.family, 80).unwrap();
                eventually_in(&cluster, &format!("{wanted:?} answer {to} by {way:?}"), || {
                    // kube-proxy chooses at random: of 30 not one goes to the other in one case of a billion.
                    match answers(space, way.socket, to, 30) {
                        Ok(found) if found == wanted => Ok(()),
                        other => Err(format!("{other:?}")),
                    }
                });
            }
        }
    };

    let chart = deploy("helm/sluice");
    let values = "--namespace kube-system --set k8sServiceHost=kubernetes --set \
                  'extraArgs={--cgroup-root=/host/cgroup,--max-flows=65536}'";
    let block = readme::block("Instead of kube-proxy", "drain");
    let block = block.replace('…', &format!("{} {values}", chart.display())).replace("NODE", machine.name());
    let (leave, rest) = block.split_once("kube-proxy --cleanup").unwrap();
    let (arrive, last) = rest.split_once("# when all").unwrap();
    let run = |lines: &str| readme::run(&cluster, cluster.plane().dir(), lines);
    let is_of = |name: &'static str| {
        move |pod: &Value| pod["metadata"]["name"].as_str().is_some_and(|it| it.starts_with(name))
    };

    for object in kubeadm() {
        api.apply(&object).unwrap();
    }
    bound(api, "kube-system", machine, is_of("kube-proxy"));
    let binaries = Binaries::get(&[Tool::KubeProxy]).unwrap();
    let cleaned = || {
        sh::read(machine.host().command(binaries.path(Tool::KubeProxy).unwrap()).arg("--cleanup")).unwrap();
        let rules = sh::read(machine.host().command("nft").args(["list", "ruleset"])).unwrap();
        // The chain KUBE-FIREWALL stays, which kubelets have too: it drops what nobody sends.
        let left = ["kube-proxy", "KUBE-SERVICES", "KUBE-SVC", "KUBE-SEP", "KUBE-POSTROUTING"];
        assert!(left.iter().all(|name| !rules.contains(name)), "{rules}");
    };
    // In the mode that kubeadm leaves it in, and in that of the figures.
    // In the former it was seen to hang for good when asked for its metrics, nfacct counters among them, while it began.
    let incumbent = incumbent::spawn(machine, &binaries, &["--proxy-mode=iptables"]).unwrap();
    answered();
    incumbent.stop().unwrap();
    answered();
    cleaned();
    let incumbent = incumbent::start(machine, &binaries, &[]).unwrap();
    answered();
    run(leave);
    // Its pod shall end, and no other one is to come.
    let there = || {
        let list = api.get("/api/v1/namespaces/kube-system/pods").unwrap();
        let of_node =
            list["items"].as_array().unwrap().iter().filter(|pod| pod["spec"]["nodeName"] == machine.name());
        of_node.cloned().collect::<Vec<_>>()
    };
    wait_for(SOON, || there().iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_string())).unwrap();
    incumbent.stop().unwrap();
    for pod in there() {
        api.delete(&api.path(&with_kind(pod)).unwrap()).unwrap();
    }
    answered();
    cleaned();
    run(arrive);
    let pod = bound(api, "kube-system", machine, is_of("sluice"));
    let sluice = Running::start(machine, api, &pod);
    answered();
    run(&format!("#{last}"));
    sluice.stop();
}

/// In a list objects do not say what they are.
fn with_kind(mut pod: Value) -> Value {
    (pod["apiVersion"], pod["kind"]) = ("v1".into(), "Pod".into());
    pod
}
