//! Fixtures, and an index that is followed as the agent follows it.

use std::collections::BTreeMap;

use lb_userspace::model::{Index, Object, ServicePort};
use serde_json::{Value, json};

pub(crate) const NODE: &str = "n1";

pub(crate) fn object(value: Value) -> Object {
    let kind = value["kind"].as_str().unwrap().to_owned();
    match kind.as_str() {
        "Service" => Object::Service(serde_json::from_value(value).unwrap()),
        "EndpointSlice" => Object::EndpointSlice(serde_json::from_value(value).unwrap()),
        "Endpoints" => Object::Endpoints(serde_json::from_value(value).unwrap()),
        "Node" => Object::Node(serde_json::from_value(value).unwrap()),
        "Pod" => Object::Pod(serde_json::from_value(value).unwrap()),
        other => panic!("{other}"),
    }
}

/// `base` with `more` on top, maps merged.
pub(crate) fn merge(mut base: Value, more: Value) -> Value {
    match (&mut base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                let slot = base.entry(key).or_insert(Value::Null);
                *slot = merge(slot.take(), value);
            }
        }
        (base, more) => *base = more,
    }
    base
}

/// The Service `d/s`, 10.0.0.1 port 80 (`http`), with `more` on top.
pub(crate) fn service(more: Value) -> Object {
    let base = json!({"kind": "Service", "metadata": {"namespace": "d", "name": "s"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]}});
    object(merge(base, more))
}

/// A slice of `d/s` with port 8080 (`http`).
pub(crate) fn slice(name: &str, endpoints: Value) -> Object {
    slice_with(name, json!({"endpoints": endpoints}))
}

pub(crate) fn slice_with(name: &str, more: Value) -> Object {
    let base = json!({"kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "d", "name": name, "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]});
    object(merge(base, more))
}

/// An endpoint: address, node, and conditions as in the truth table: `r`eady, `s`erving, `t`erminating.
pub(crate) fn endpoint(addr: &str, node: &str, conditions: &str) -> Value {
    json!({"addresses": [addr], "nodeName": node, "conditions": {
        "ready": conditions.contains('r'), "serving": conditions.contains('s'), "terminating": conditions.contains('t')}})
}

pub(crate) fn pod(name: &str, ip: &str, more: Value) -> Object {
    let base = json!({"kind": "Pod", "metadata": {"namespace": "d", "name": name, "labels": {"app": "a"}},
        "spec": {"nodeName": NODE}, "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
    object(merge(base, more))
}

pub(crate) type Ports = BTreeMap<String, ServicePort>;

/// An index and what its changes add up to.
pub(crate) struct Followed {
    pub(crate) index: Index,
    pub(crate) ports: Ports,
}

impl Followed {
    pub(crate) fn new() -> Self {
        Self { index: Index::new(NODE), ports: Ports::new() }
    }

    pub(crate) fn apply(&mut self, object: &Object) -> usize {
        self.index.apply(object);
        self.take()
    }

    pub(crate) fn delete(&mut self, object: &Object) -> usize {
        self.index.delete(&object.key());
        self.take()
    }

    pub(crate) fn take(&mut self) -> usize {
        let changes = self.index.take_changes();
        for (key, port) in &changes {
            match port {
                Some(port) => {
                    let before = self.ports.insert(key.to_string(), (**port).clone());
                    assert_ne!(before.as_ref(), Some(&**port));
                }
                None => assert!(self.ports.remove(&key.to_string()).is_some()),
            }
        }
        changes.len()
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.index.problems().map(|(object, complaint)| format!("{object}: {}", complaint.text)).collect()
    }
}

/// What follows from `objects`, which must not depend on the order in which they come, nor on when changes are taken;
/// and when all are gone nothing is left.
pub(crate) fn outcome(objects: &[Object]) -> (Ports, Vec<String>) {
    let mut forward = Followed::new();
    for object in objects {
        forward.apply(object);
    }
    let mut backward = Followed::new();
    objects.iter().rev().for_each(|object| backward.index.apply(object));
    backward.take();
    assert_eq!(forward.ports, backward.ports, "order of arrival");
    assert_eq!(forward.problems(), backward.problems(), "order of arrival");
    let mut replaced = Followed::new();
    replaced.apply(&service(json!({"metadata": {"name": "stale"}})));
    replaced.index.replace(objects);
    replaced.take();
    assert_eq!(forward.ports, replaced.ports, "replacement");
    for object in objects {
        forward.delete(object);
    }
    assert!(forward.ports.is_empty() && forward.problems().is_empty(), "{:?}", forward.ports);
    let problems = backward.problems();
    (backward.ports, problems)
}

pub(crate) fn ports(objects: &[Object]) -> Ports {
    let (ports, problems) = outcome(objects);
    assert_eq!(problems, Vec::<String>::new());
    ports
}

pub(crate) fn only(objects: &[Object]) -> ServicePort {
    let ports = ports(objects);
    assert_eq!(ports.len(), 1, "{ports:?}");
    ports.into_values().next().unwrap()
}

/// Last octets of the endpoints, each with its port if that is not 8080.
pub(crate) fn text(endpoints: &[std::net::SocketAddr]) -> String {
    let one = |endpoint: &std::net::SocketAddr| {
        let addr = endpoint.ip().to_string();
        let last = addr.rsplit(['.', ':']).next().unwrap().to_owned();
        if endpoint.port() == 8080 { last } else { format!("{last}:{}", endpoint.port()) }
    };
    endpoints.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Asserts cluster, local and serving set.
pub(crate) fn assert_sets(port: &ServicePort, expected: [&str; 3], case: &str) {
    assert_eq!([&port.cluster, &port.local, &port.serving].map(|set| text(set)), expected, "{case}");
}
