//! The folder of manifests: edits take effect at once, and a broken file disturbs nothing.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::lab::helper::wire::Load;
use xtask::lab::manifest::{Endpoint, Port, slice};
use xtask::lab::wait_for;

use crate::support::{SOON, WAYS, worlds};

#[test]
fn b17_a_broken_file_is_named_and_disturbs_nothing() {
    let [world, _] = worlds();
    let (broken, other) = (world.service("b17-broken", &[&world.a]), world.service("b17-other", &[&world.b]));
    let [ipv4, ipv6] = broken.addresses;
    let text = |port: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: b17-yaml}}\nspec:\n  clusterIPs: [{ipv4}, '{ipv6}']\n  \
             ipFamilies: [IPv4, IPv6]\n  ports:\n    - port: {port}\n---\n{}\n",
            slice(
                "b17-yaml",
                "b17-yaml",
                &[Port { name: String::new(), ..broken.ports[0].clone() }],
                &[Endpoint::ready(world.a.ipv4().into())]
            ),
        )
    };
    broken.delete();
    world.node.write_text("b17.yaml", &text("80")).unwrap();
    wait_for(SOON, || broken.ask(&world.client, WAYS[0]).is_ok()).unwrap();
    world.node.write_text("b17.yaml", &text("eighty")).unwrap();
    wait_for(SOON, || world.log().contains("b17.yaml:8")).unwrap_or_else(|error| {
        panic!("{error}: no line of the log names file and line:\n{}", world.log());
    });
    let problems = || world.node.sluice_json(&["status"]).unwrap()["problems"].to_string();
    wait_for(SOON, || problems().contains("b17.yaml:8")).unwrap();
    assert_eq!(broken.ask(&world.client, WAYS[0]).unwrap().pod, "a", "the last good version stays");
    // What is written beside it is programmed as ever.
    other.set(&[&world.c]);
    assert_eq!(other.ask(&world.client, WAYS[0]).unwrap().pod, "c");
    world.node.write_text("b17.yaml", &text("80")).unwrap();
    wait_for(SOON, || !problems().contains("b17.yaml")).unwrap();
    world.node.remove("b17.yaml").unwrap();
}

#[test]
fn b25_a_changed_status_disturbs_no_traffic() {
    let [world, _] = worlds();
    let service = world.service("b25", &[&world.a]);
    world.b.start_load(Load { to: service.at(WAYS[0]), clients: 2, rate: 200 }).unwrap();
    let file = world.node.manifests().join(service.file());
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    for number in 0..10 {
        let object = &mut manifest["items"][0];
        object["status"] = json!({"conditions": [{"type": "Tried", "message": number.to_string()}]});
        object["metadata"]["annotations"] = json!({"number": number.to_string()});
        world.node.write(&service.file(), &manifest).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    let report = world.b.stop_load().unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
}

#[test]
fn an_edit_is_in_effect_at_once() {
    for world in worlds() {
        let service = world.service("edit", &[&world.a]);
        let mut slowest = Duration::ZERO;
        for number in 0..10 {
            let pod = if number % 2 == 0 { &world.b } else { &world.a };
            let start = std::time::Instant::now();
            service.set(&[pod]);
            slowest = slowest.max(start.elapsed());
            assert_eq!(service.ask(&world.client, WAYS[0]).unwrap().pod, pod.name());
        }
        assert!(slowest < Duration::from_secs(1), "the slowest of ten edits took {slowest:?}");
    }
}

#[test]
fn pods_with_labels_become_endpoints() {
    let [world, _] = worlds();
    let service = world.service("selector", &[]);
    let mut object = xtask::lab::manifest::service("selector", &service.addresses, &service.ports);
    object["spec"]["selector"] = json!({"app": "selected"});
    object["spec"]["ports"][0]["targetPort"] = json!("web");
    object["spec"]["ports"][1]["targetPort"] = json!(8000);
    world.node.write(&service.file(), &object).unwrap();
    let pod = |pod: &xtask::lab::Pod, label: &str, ready: &str| {
        let [ipv4, ipv6] = pod.ips();
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "default", "name": pod.name(), "labels": {"app": label}},
            "spec": {
                "nodeName": world.node.name(),
                "containers": [{"name": "main", "ports": [{"name": "web", "containerPort": 8000, "protocol": "TCP"}]}],
            },
            "status": {
                "phase": "Running",
                "podIP": ipv4,
                "podIPs": [{"ip": ipv4}, {"ip": ipv6}],
                "conditions": [{"type": "Ready", "status": ready}],
            },
        });
        world.node.write(&format!("pod-{}.json", pod.name()), &object).unwrap();
    };
    pod(&world.a, "selected", "True");
    pod(&world.b, "selected", "False");
    pod(&world.c, "other", "True");
    service.wait(&[&world.a]);
    for way in WAYS {
        assert_eq!(service.ask(&world.client, way).unwrap().pod, "a");
    }
    pod(&world.b, "selected", "True");
    service.wait(&[&world.a, &world.b]);
    pod(&world.a, "other", "True");
    service.wait(&[&world.b]);
    for name in ["pod-a.json", "pod-b.json", "pod-c.json"] {
        world.node.remove(name).unwrap();
    }
    service.wait(&[]);
}
