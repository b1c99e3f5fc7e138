//! Which endpoints Services have: slices of the controllers, slices made by hand, and both at once.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};
use xtask::kube::RunningPod;
use xtask::lab::Network;
use xtask::lab::helper::wire::Transport;
use xtask::sh;

use crate::support::nobody_local;
use crate::support::{
    Scene, TARGET, TCP4, UDP4, WAYS, ask, cluster, endpoint, eventually, gone, serves, serves_at, slice,
};

/// The endpoints `pods` in `family`, ready.
fn ready(pods: &[&RunningPod<'_>], family: usize) -> Vec<Value> {
    pods.iter().map(|pod| endpoint(pod.ips()[family])).collect()
}

#[test]
fn b27_slices_belong_by_label_whoever_made_them() {
    let scene = Scene::new("b27");
    let (a, b, c) = (scene.pod(0, "a"), scene.pod(1, "b"), scene.pod(2, "c"));
    let service = scene.without_selector("web");
    serves(&service, &[]);
    let one =
        [0, 1].map(|family| scene.slice(&format!("one-{family}"), "web", family, &ready(&[&a], family)));
    serves(&service, &[&a]);
    // Another manager's, and one of nobody's Service.
    for family in [0, 1] {
        let mut other = slice(&format!("two-{family}"), "web", family, &ready(&[&b], family));
        other["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "somebody.example.org".into();
        scene.namespace.create(&other).unwrap();
        let mut stray = slice(&format!("stray-{family}"), "web", family, &ready(&[&c], family));
        stray["metadata"]["labels"] = json!({});
        scene.namespace.create(&stray).unwrap();
    }
    serves(&service, &[&a, &b]);
    for path in &one {
        cluster().api().delete(path).unwrap();
    }
    serves(&service, &[&b]);
}

#[test]
fn b2_slices_labelled_headless_are_nobodys() {
    const LABEL: &str = "service.kubernetes.io/headless";
    let scene = Scene::new("b2");
    let pod = scene.pod(1, "a");
    let service = scene.without_selector("web");
    let slices =
        [0, 1].map(|family| scene.slice(&format!("web-{family}"), "web", family, &ready(&[&pod], family)));
    serves(&service, &[&pod]);
    let label = |value: Value| {
        for path in &slices {
            cluster().api().merge(path, &json!({"metadata": {"labels": {LABEL: value}}})).unwrap();
        }
    };
    label("".into());
    serves(&service, &[]);
    label(Value::Null);
    serves(&service, &[&pod]);
}

#[test]
fn b31_slices_may_come_before_their_service_and_outlive_it() {
    let scene = Scene::new("b31-order");
    let (a, b) = (scene.pod(0, "a"), scene.pod(2, "b"));
    for family in [0, 1] {
        scene.slice(&format!("web-{family}"), "web", family, &ready(&[&a, &b], family));
    }
    let service = scene.without_selector("web");
    serves(&service, &[&a, &b]);
    service.delete().unwrap();
    gone(&scene, "web");
    let again = scene.without_selector("web");
    serves(&again, &[&a, &b]);
}

#[test]
fn b27_the_endpoints_object_of_a_service_without_selector_is_mirrored() {
    let scene = Scene::new("b27-mirror");
    let (a, b) = (scene.pod(0, "a"), scene.pod(2, "b"));
    let service = scene.without_selector("web");
    let object = |pods: &[&RunningPod<'_>]| {
        let addresses: Vec<_> = pods.iter().map(|pod| json!({"ip": pod.ips()[0]})).collect();
        let ports = ["TCP", "UDP"]
            .map(|protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": TARGET}));
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"namespace": scene.namespace.name(), "name": "web"},
            "subsets": [{"addresses": addresses, "ports": ports}],
        })
    };
    let created = scene.namespace.create(&object(&[&a])).unwrap();
    serves_at(&service, 80, &[TCP4, UDP4], &[&a]);
    cluster().api().merge(&scene.path(&created), &object(&[&a, &b])).unwrap();
    serves_at(&service, 80, &[TCP4, UDP4], &[&a, &b]);
    cluster().api().delete(&scene.path(&created)).unwrap();
    serves_at(&service, 80, &[TCP4, UDP4], &[]);
}

#[test]
fn b28_b29_b32_what_of_a_slice_counts() {
    let scene = Scene::new("b28");
    let (a, b) = (scene.pod(0, "a"), scene.pod(1, "b"));
    let service = scene.without_selector("web");
    for family in [0, 1] {
        // Of an endpoint's addresses the first counts; conditions that are absent mean ready.
        let two = json!({"addresses": [a.ips()[family], b.ips()[family]]});
        scene.slice(&format!("web-{family}"), "web", family, &[two]);
    }
    let mut names = slice("names", "web", 0, &[json!({"addresses": ["example.org"]})]);
    names["addressType"] = "FQDN".into();
    scene.namespace.create(&names).unwrap();
    let mut portless = slice("portless", "web", 0, &[endpoint(b.ips()[0])]);
    portless["ports"] =
        json!([{"name": "tcp", "protocol": "TCP"}, {"name": "other", "protocol": "UDP", "port": TARGET}]);
    scene.namespace.create(&portless).unwrap();
    serves(&service, &[&a]);
}

#[test]
fn b30_of_two_copies_of_an_endpoint_the_living_one_counts() {
    let scene = Scene::new("b30");
    let pod = scene.pod(2, "a");
    let service = scene.without_selector("web");
    for family in [0, 1] {
        let copy = |name: &str, ready: bool| {
            let conditions = json!({"ready": ready, "serving": true, "terminating": !ready});
            let endpoint = json!({"addresses": [pod.ips()[family]], "conditions": conditions});
            scene.slice(&format!("{name}-{family}"), "web", family, &[endpoint]);
        };
        copy("a-terminating", false);
        copy("b-living", true);
        copy("c-terminating", false);
    }
    serves(&service, &[&pod]);
}

#[test]
fn b31_an_endpoint_that_moves_between_slices_never_vanishes() {
    let scene = Scene::new("b31");
    let pod = scene.pod(1, "a");
    let service = scene.without_selector("web");
    let api = cluster().api();
    let make = |round: usize| {
        [0, 1].map(|family| {
            scene.slice(&format!("web-{round}-{family}"), "web", family, &ready(&[&pod], family))
        })
    };
    let mut slices = make(0);
    serves(&service, &[&pod]);
    let over = AtomicBool::new(false);
    let asked = WAYS.map(|_| AtomicU32::new(0));
    thread::scope(|scope| {
        let end = sh::Over(&over);
        for (way, asked) in WAYS.into_iter().zip(&asked) {
            let (over, service) = (&over, &service);
            let client = cluster().client(if way.family == 0 { 0 } else { 2 }).unwrap();
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    ask(client, service, way).unwrap_or_else(|failure| panic!("{way:?}: {failure}"));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..9 {
            // Into the new one before it leaves the old one, as controllers do it.
            for old in std::mem::replace(&mut slices, make(round)) {
                if round % 2 == 0 {
                    api.delete(&old).unwrap();
                } else {
                    api.merge(&old, &json!({"endpoints": []})).unwrap();
                }
            }
        }
        eventually("everybody has asked", || {
            let counts = asked.each_ref().map(|asked| asked.load(Ordering::Relaxed));
            if counts.iter().all(|&count| count > 10) { Ok(()) } else { Err(format!("{counts:?}")) }
        });
        drop(end);
    });
    serves(&service, &[&pod]);
}

#[test]
fn b33_local_is_what_names_this_node() {
    let scene = Scene::new("b33");
    let (a, b) = (scene.pod(0, "a"), scene.pod(1, "b"));
    let mut object = scene.object("web");
    object["spec"]["selector"] = Value::Null;
    object["spec"]["internalTrafficPolicy"] = "Local".into();
    let service = scene.namespace.service(&object).unwrap();
    for family in [0, 1] {
        // The first says where it is, the other does not and so is nobody's.
        let mut local = endpoint(a.ips()[family]);
        local["nodeName"] = cluster().nodes()[0].name().into();
        scene.slice(&format!("web-{family}"), "web", family, &[local, endpoint(b.ips()[family])]);
    }
    eventually("the pod of the first machine alone", || {
        for way in WAYS {
            let answer =
                ask(cluster().client(0).unwrap(), &service, way).map_err(|failure| failure.to_string())?;
            if answer.pod != "a" {
                return Err(answer.pod);
            }
        }
        Ok(())
    });
    for node in [1, 2] {
        eventually("no local endpoint elsewhere", || {
            let mut locals =
                scene.shown(node, "web")?.into_iter().filter(|port| port["endpoints"]["local"] != 0);
            locals.try_for_each(|port| Err(port.to_string()))
        });
        nobody_local(node, &service);
    }
}

#[test]
fn b34_pods_that_are_not_ready_are_published_if_the_service_says_so() {
    let scene = Scene::new("b34");
    let (a, b) = (scene.pod(0, "a"), scene.pod(2, "b"));
    let mut service = scene.service("web");
    a.ready(false).unwrap();
    serves(&service, &[&b]);
    service.patch(&json!({"spec": {"publishNotReadyAddresses": true}})).unwrap();
    serves(&service, &[&a, &b]);
    // Ready and terminating at once: fully usable.
    b.terminate().unwrap();
    eventually("the slice says terminating", || {
        let list = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", scene.namespace.name());
        let text = cluster().api().get(&list).map_err(|error| error.to_string())?.to_string();
        if text.contains("\"terminating\":true") { Ok(()) } else { Err(text) }
    });
    serves(&service, &[&a, &b]);
    service.patch(&json!({"spec": {"publishNotReadyAddresses": false}})).unwrap();
    // Nobody is ready: who terminates and still serves.
    serves(&service, &[&b]);
    b.delete().unwrap();
    serves(&service, &[]);
}

#[test]
fn b35_endpoints_may_be_hosts_and_addresses_outside_of_the_cluster() {
    const PORT: u16 = 8035;
    let scene = Scene::new("b35");
    let pods = [0, 2].map(|node| {
        let mut object = scene.pod_object(&format!("host-{node}"));
        object["spec"]["hostNetwork"] = true.into();
        scene.namespace.run(node, &object, PORT).unwrap()
    });
    let mut object = scene.object("web");
    for port in object["spec"]["ports"].as_array_mut().unwrap() {
        port["targetPort"] = PORT.into();
    }
    let service = scene.namespace.service(&object).unwrap();
    serves(&service, &[&pods[0], &pods[1]]);
    // Somebody of the host's network asks as the host does.
    let client = scene.namespace.run(1, &host_client(&scene), PORT).unwrap();
    for way in WAYS {
        let answer = ask(&client, &service, way).unwrap();
        assert!(answer.pod.starts_with("host-"), "{answer:?}");
        assert_eq!(answer.client.ip(), client.ips()[way.family]);
    }
    let external = scene.without_selector("external");
    let outside = cluster().network().outside();
    for transport in [Transport::Tcp, Transport::Udp] {
        outside.serve(transport, TARGET, "outside").unwrap();
    }
    for family in [0, 1] {
        let ip: IpAddr = Network::outside_ips()[family];
        scene.slice(&format!("external-{family}"), "external", family, &[endpoint(ip)]);
    }
    for client in cluster().clients() {
        for way in WAYS {
            eventually(&format!("{} reaches the outside", client.name), || {
                let answer = ask(client.space, &external, way).map_err(|failure| failure.to_string())?;
                if (answer.pod.as_str(), answer.client.ip()) == ("outside", client.ips[way.family]) {
                    Ok(())
                } else {
                    Err(format!("{answer:?}"))
                }
            });
        }
    }
}

/// A pod of a host's network which the Services of the scene do not select.
fn host_client(scene: &Scene) -> Value {
    let mut object = scene.pod_object("host-client");
    object["spec"]["hostNetwork"] = true.into();
    object["metadata"]["labels"] = json!({});
    object
}
