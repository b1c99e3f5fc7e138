//! Kubernetes Events: what the owner of a Service has to know stands at the Service.

use serde_json::{Value, json};

use crate::support::{Scene, cluster, eventually};

/// An agent says so many things about one object at once; then it waits for minutes.
const AT_ONCE: usize = 5;

/// The Events about the Service `name` that the machine `node` has posted.
fn events(scene: &Scene, name: &str, node: usize) -> Result<Vec<Value>, String> {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", scene.namespace.name());
    let list = cluster().api().get(&path).map_err(|error| format!("{error:#}"))?;
    let mut items = list["items"].as_array().cloned().ok_or_else(|| list.to_string())?;
    items.retain(|it| {
        it["regarding"]["name"] == name && it["reportingInstance"] == cluster().nodes()[node].name()
    });
    Ok(items)
}

/// Waits until the machine `node` has said of the Service `name` that another has `place`.
fn told(scene: &Scene, name: &str, node: usize, place: &str) -> Value {
    let mut found = Value::Null;
    eventually(&format!("an Event about {name}: {place}"), || {
        let all = events(scene, name, node)?;
        let said = all.iter().find(|it| it["note"].as_str().is_some_and(|note| note.contains(place)));
        found = said.ok_or_else(|| format!("{all:?}"))?.clone();
        Ok(())
    });
    found
}

#[test]
fn b26_who_goes_without_an_address_is_told_by_an_event() {
    let scene = Scene::new("events");
    let at = |ports: &[u16]| {
        let port = |port: &u16| json!({"name": format!("p{port}"), "port": port});
        json!({"externalIPs": ["192.0.2.77"], "ports": ports.iter().map(port).collect::<Vec<_>>()})
    };
    let create = |name: &str, ports: &[u16]| {
        let object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": at(ports)});
        scene.namespace.create(&object).unwrap()
    };
    let ports: Vec<u16> = (81..=90).collect();
    create("a", &ports);
    let loser = create("b", &[81]);
    let path = scene.path(&loser);
    for node in 0..cluster().nodes().len() {
        let event = told(&scene, "b", node, "192.0.2.77 port 81/TCP belongs to events/a:p81/TCP/v4");
        assert_eq!(event["reason"], "FrontendConflict");
        assert_eq!((&event["type"], &event["reportingController"]), (&json!("Warning"), &json!("sluice")));
        assert_eq!(event["regarding"]["uid"], loser["metadata"]["uid"]);
    }
    let described = cluster().plane().kubectl(&["-n", "events", "describe", "service", "b"]).unwrap();
    assert!(described.contains("FrontendConflict"), "{described}");

    // Something new each time, until the agents have said enough; then what they say of others shows that they could.
    let change = |port| cluster().api().merge(&path, &json!({"spec": at(&[port])})).unwrap();
    for &port in &ports[1..AT_ONCE] {
        change(port);
        told(&scene, "b", 0, &format!("port {port}/TCP"));
    }
    for &port in &ports[AT_ONCE..] {
        change(port);
    }
    create("c", &[81]);
    told(&scene, "c", 0, "port 81/TCP");
    assert_eq!(events(&scene, "b", 0).unwrap().len(), AT_ONCE);
    assert!(events(&scene, "a", 0).unwrap().is_empty(), "who has the address has nothing to do");
}
