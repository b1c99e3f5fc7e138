//! Kubernetes Events: what the owner of a Service has to know stands at the Service.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::Machine;
use xtask::lab::http::sample;

use crate::support::{Scene, cluster, eventually, told};

/// The Events about the Service `name`.
fn events(scene: &Scene, name: &str) -> Result<Vec<Value>, String> {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", scene.namespace.name());
    let list = cluster().api().get(&path).map_err(|error| format!("{error:#}"))?;
    let mut items = list["items"].as_array().cloned().ok_or_else(|| list.to_string())?;
    items.retain(|it| it["regarding"]["name"] == name);
    Ok(items)
}

/// Waits until it is said of the Service `name` that another has `place`.
fn is_told(scene: &Scene, name: &str, place: &str) -> Value {
    told(&format!("an Event about {name}: {place}"), || {
        let all = events(scene, name)?;
        let said = all.iter().find(|it| it["note"].as_str().is_some_and(|note| note.contains(place)));
        said.cloned().ok_or_else(|| format!("{all:?}"))
    })
}

/// Events that the agent of a machine has posted, or found posted.
fn said(machine: &Machine) -> Result<f64, String> {
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10249);
    let (_, text) = machine.host().get(to, "/metrics").map_err(|error| format!("{error:#}"))?;
    let of = |outcome| {
        sample(&text, &format!("sluice_kubernetes_events_total{{outcome=\"{outcome}\"}}")).unwrap_or(0.0)
    };
    Ok(of("posted") + of("known"))
}

#[test]
fn b26_who_goes_without_an_address_is_told_by_one_event() {
    let scene = Scene::new("events");
    let nodes = cluster().nodes();
    let before: Vec<f64> = nodes.iter().map(|node| eventually("metrics", || said(node))).collect();
    let at = |port: u16| json!({"externalIPs": ["192.0.2.77"], "ports": [{"name": "p", "port": port}]});
    let create = |name: &str, port| {
        let object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": at(port)});
        scene.namespace.create(&object).unwrap()
    };
    create("a", 81);
    let loser = create("b", 81);
    let event = is_told(&scene, "b", "192.0.2.77 port 81/TCP belongs to events/a:p/TCP/v4");
    assert_eq!(event["reason"], "FrontendConflict");
    assert_eq!((&event["type"], &event["reportingController"]), (&json!("Warning"), &json!("sluice")));
    assert_eq!(event["regarding"]["uid"], loser["metadata"]["uid"]);
    eventually("kubectl shows it", || {
        let described = cluster().plane().kubectl(&["-n", "events", "describe", "service", "b"]);
        let described = described.map_err(|error| format!("{error:#}"))?;
        if described.contains("FrontendConflict") { Ok(()) } else { Err(described) }
    });
    // All nodes see it; that each had its turn is seen unless another test's objects have given it one.
    for (node, before) in nodes.iter().zip(before) {
        told("each node has its turn", || match said(node)? {
            now if now > before => Ok(()),
            now => Err(format!("{}: {now}", node.name())),
        });
    }
    assert_eq!(eventually("a list", || events(&scene, "b")).len(), 1);
    // Other tests have Services and agents in the same cluster: what is said of other addresses is no matter of this one.
    let mut of_winner = eventually("a list", || events(&scene, "a"));
    of_winner.retain(|it| it["note"].as_str().is_none_or(|note| note.contains("192.0.2.77")));
    assert!(of_winner.is_empty(), "who has the address has nothing to do: {of_winner:?}");

    // Something else is another Event: the older one has the address.
    create("c", 82);
    cluster().api().merge(&scene.path(&loser), &json!({"spec": at(82)})).unwrap();
    is_told(&scene, "c", "192.0.2.77 port 82/TCP belongs to events/b:p/TCP/v4");
}
