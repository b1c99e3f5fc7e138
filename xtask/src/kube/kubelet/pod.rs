//! What Pod objects say.

use serde_json::{Value, json};

use crate::lab::helper::wire::Transport;

/// Where a DaemonSet says for which node a pod is.
const ITS_NODE: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/\
                        matchFields/0/values/0";

/// The node that a pod of a DaemonSet is for.
#[must_use]
pub fn wanted(pod: &Value) -> Option<&str> {
    pod.pointer(ITS_NODE).and_then(Value::as_str)
}

/// Where the API server has it.
pub(super) fn path(pod: &Value) -> String {
    let field = |name: &str| pod["metadata"][name].as_str().unwrap_or_default();
    format!("/api/v1/namespaces/{}/pods/{}", field("namespace"), field("name"))
}

/// The node that it is bound to.
pub(super) fn node(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str()
}

/// Whether two pods are replicas of one thing, of whatever version.
pub(super) fn is_kin(one: &Value, other: &Value) -> bool {
    let labels = |pod: &Value| {
        let mut labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.remove("pod-template-hash");
        labels
    };
    one["metadata"]["namespace"] == other["metadata"]["namespace"] && labels(one) == labels(other)
}

/// What the status of `pod` says of its containers, as a merge patch: kubectl counts them.
pub(super) fn containers(pod: &Value) -> Value {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let ready = |it: &Value| json!({ "name": it["name"], "image": it["image"], "imageID": "", "restartCount": 0, "ready": true, "started": true, "state": { "running": {} } });
    json!({ "status": { "containerStatuses": containers.map(ready).collect::<Vec<_>>() } })
}

/// The ports that the containers of `pod` declare.
pub(super) fn ports(pod: &Value) -> Vec<(Transport, u16)> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let declared = containers.flat_map(|it| it["ports"].as_array().into_iter().flatten());
    let mut ports: Vec<_> = declared
        .filter_map(|port| {
            let transport = match port["protocol"].as_str() {
                Some("UDP") => Transport::Udp,
                Some("SCTP") => return None,
                _ => Transport::Tcp,
            };
            Some((transport, u16::try_from(port["containerPort"].as_u64()?).ok()?))
        })
        .collect();
    if ports.is_empty() {
        ports.push((Transport::Tcp, 80));
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_serve_at_the_ports_that_they_declare() {
        let pod = |ports: Value| json!({ "spec": { "containers": [{ "ports": ports }, {}] } });
        assert_eq!(ports(&pod(json!([]))), [(Transport::Tcp, 80)]);
        let declared = json!([
            { "containerPort": 53, "protocol": "UDP" },
            { "containerPort": 8080 },
            { "containerPort": 7, "protocol": "SCTP" },
        ]);
        assert_eq!(ports(&pod(declared)), [(Transport::Udp, 53), (Transport::Tcp, 8080)]);
    }

    #[test]
    fn replicas_of_two_versions_are_kin() {
        let pod = |namespace: &str, app: &str, hash: &str| json!({ "metadata": { "namespace": namespace, "labels": { "app": app, "pod-template-hash": hash } } });
        assert!(is_kin(&pod("a", "web", "1"), &pod("a", "web", "2")));
        assert!(!is_kin(&pod("a", "web", "1"), &pod("b", "web", "1")));
        assert!(!is_kin(&pod("a", "web", "1"), &pod("a", "other", "1")));
    }
}
