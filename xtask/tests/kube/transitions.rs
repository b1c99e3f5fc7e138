//! Changes of a Service in flight that leave its kind of endpoints another one, or the places where it is reached.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use xtask::kube::objects;
use xtask::lab::Space;
use xtask::lab::helper::wire::Socket;

use crate::support::{
    Scene, TARGET, TCP4, WAYS, ask, cluster, endpoint, eventually, gone, nobody_local, serves,
};

#[test]
fn b27_a_service_loses_its_selector_and_goes_by_slices_made_by_hand() {
    let scene = Scene::new("selector");
    let (a, b) = (scene.pod(0, "a"), scene.pod(1, "b"));
    let mut service = scene.service("web");
    serves(&service, &[&a, &b]);
    service.patch(&json!({"spec": {"selector": null}})).unwrap();
    // The controller leaves its slices alone from now on; whoever takes over removes them.
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", scene.namespace.name());
    cluster().api().delete(&slices).unwrap();
    for family in [0, 1] {
        scene.slice(&format!("own-{family}"), "web", family, &[endpoint(b.ips()[family])]);
    }
    serves(&service, &[&b]);
    service.patch(&json!({"spec": {"selector": scene.labels()}})).unwrap();
    cluster().api().delete(&slices).unwrap();
    serves(&service, &[&a, &b]);
}

#[test]
fn b30_b49_the_address_of_a_pod_is_used_again() {
    let scene = Scene::new("reuse");
    let pod = scene.pod(0, "a");
    let service = scene.service("web");
    serves(&service, &[&pod]);
    pod.terminate().unwrap();
    // A second object with the same address, as a node gives it to the next pod while the old one still terminates.
    let mut object = scene.pod_object("heir");
    object["spec"]["nodeName"] = cluster().nodes()[0].name().into();
    let heir = scene.path(&scene.namespace.create(&object).unwrap());
    let status = objects::pod_status(&pod.ips(), &cluster().nodes()[0].ips(), true);
    cluster().api().merge(&format!("{heir}/status"), &status).unwrap();
    serves(&service, &[&pod]);
    pod.delete().unwrap();
    serves(&service, &[&pod]);
    cluster().api().delete(&heir).unwrap();
    serves(&service, &[]);
}

#[test]
fn b53_b58_the_internal_policy_is_flipped() {
    let scene = Scene::new("b53");
    let (a, b) = (scene.pod(0, "a"), scene.pod(1, "b"));
    let mut service = scene.service("web");
    serves(&service, &[&a, &b]);
    service.patch(&json!({"spec": {"internalTrafficPolicy": "Local"}})).unwrap();
    for (node, name) in [(0, "a"), (1, "b")] {
        for way in WAYS {
            for client in [cluster().client(node).unwrap() as &Space, cluster().nodes()[node].host()] {
                eventually("the local pod alone", || {
                    for _ in 0..2 {
                        let answer = ask(client, &service, way).map_err(|failure| failure.to_string())?;
                        if answer.pod != name {
                            return Err(answer.pod);
                        }
                    }
                    Ok(())
                });
            }
        }
    }
    nobody_local(2, &service);
    service.patch(&json!({"spec": {"internalTrafficPolicy": "Cluster"}})).unwrap();
    serves(&service, &[&a, &b]);
}

#[test]
fn b71_b72_an_established_connection_outlives_every_change() {
    let scene = Scene::new("lives");
    let (a, b) = (scene.pod(0, "a"), scene.pod(2, "b"));
    let mut service = scene.service("web");
    serves(&service, &[&a, &b]);
    let clients = cluster().clients();
    let to = service.at(0, 80).unwrap();
    let open: Vec<_> =
        clients.iter().map(|client| client.space.open(TCP4.socket, Some(to)).unwrap()).collect();
    let first: Vec<_> = open.iter().map(|conn| conn.ask().unwrap()).collect();
    let alive = |when: &str| {
        for ((conn, first), client) in open.iter().zip(&first).zip(&clients) {
            let now = conn.ask().unwrap_or_else(|failure| panic!("{when}, {}: {failure}", client.name));
            assert_eq!(now, *first, "{when}, {}", client.name);
        }
    };
    let changes: [(&str, Value); 5] = [
        ("affinity", json!({"spec": {"sessionAffinity": "ClientIP"}})),
        (
            "policy",
            json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": null, "internalTrafficPolicy": "Local"}}),
        ),
        (
            "other ports",
            json!({"spec": {"internalTrafficPolicy": "Cluster", "ports": [{"name": "tcp", "port": 81, "targetPort": TARGET}]}}),
        ),
        ("another proxy", json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "x"}}})),
        ("no selector", json!({"metadata": {"labels": null}, "spec": {"selector": null}})),
    ];
    for (when, patch) in changes {
        service.patch(&patch).unwrap();
        alive(when);
    }
    a.delete().unwrap();
    b.delete().unwrap();
    service.delete().unwrap();
    gone(&scene, "web");
    alive("deleted");
}

/// Waits until clients outside get answers of the pod `a` at `to`, or none.
fn outside(to: SocketAddr, served: bool) {
    let space = cluster().network().outside();
    for socket in [Socket::Tcp, Socket::Udp] {
        eventually(&format!("{socket:?} to {to}, served: {served}"), || match space.ask(socket, to) {
            Ok(answer) if served && answer.pod == "a" => Ok(()),
            Err(_) if !served => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

/// A node port of those that the API server does not give by itself.
const NODE_PORT: u16 = 30_001;

/// An address of each family.
type Both = [&'static str; 2];

#[test]
fn b19_b40_b41_b42_places_outside_come_and_go() {
    const PLACES: [Both; 3] =
        [["198.51.100.1", "fd02::5:1"], ["198.51.100.2", "fd02::5:2"], ["198.51.100.3", "fd02::5:3"]];
    let scene = Scene::new("places");
    let pod = scene.pod(1, "a");
    let mut object = scene.object("web");
    object["spec"]["type"] = "LoadBalancer".into();
    let mut service = scene.namespace.service(&object).unwrap();
    serves(&service, &[&pod]);
    let node = cluster().nodes()[0].ips();
    for ip in PLACES.as_flattened() {
        let via = node[usize::from(ip.contains(':'))];
        cluster().network().outside().ip(&format!("route replace {ip} via {via}\n")).unwrap();
    }
    let at = |place: Both| place.map(|ip| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 80));
    let status = format!("{}/status", service.path());
    let [one, two, three] = PLACES;
    let balancers = |all: &[Both], mode: &str| {
        let ingress: Vec<_> = all.as_flattened().iter().map(|ip| json!({"ip": ip, "ipMode": mode})).collect();
        cluster().api().merge(&status, &json!({"status": {"loadBalancer": {"ingress": ingress}}})).unwrap();
    };
    // One address is added, the other one removed, and it is the balancer's own business, and not.
    let steps: [(&[Both], &str, [bool; 2]); 5] = [
        (&[one], "VIP", [true, false]),
        (&[one, two], "VIP", [true, true]),
        (&[two], "VIP", [false, true]),
        (&[two], "Proxy", [false, false]),
        (&[two], "VIP", [false, true]),
    ];
    for (all, mode, served) in steps {
        balancers(all, mode);
        for (place, served) in [one, two].into_iter().zip(served) {
            at(place).into_iter().for_each(|to| outside(to, served));
        }
    }
    for (external, served) in [(json!(three), true), (Value::Null, false)] {
        service.patch(&json!({"spec": {"externalIPs": external}})).unwrap();
        at(three).into_iter().for_each(|to| outside(to, served));
    }
    let old = cluster().api().get(service.path()).unwrap()["spec"]["ports"].clone();
    let mut new = old.clone();
    new.as_array_mut().unwrap().iter_mut().for_each(|port| port["nodePort"] = NODE_PORT.into());
    service.patch(&json!({"spec": {"ports": new}})).unwrap();
    let old = u16::try_from(old[0]["nodePort"].as_u64().unwrap()).unwrap();
    for ip in node {
        outside(SocketAddr::new(ip, NODE_PORT), true);
        outside(SocketAddr::new(ip, old), false);
    }
}
