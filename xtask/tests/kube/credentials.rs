//! Credentials that a plug-in gives, and that the API server stops to accept.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use xtask::kube::objects;
use xtask::lab::Agent;

use crate::own::{cut, own};
use crate::support::{SOCKETS, TARGET, eventually_in};

#[test]
fn a_plug_in_is_asked_for_new_credentials_once_the_server_refuses_the_old_ones() {
    let cluster = own();
    let (api, machine) = (cluster.api(), cluster.spare("login").unwrap());
    let namespace = cluster.namespace("login").unwrap();
    let dir = cluster.plane().dir().join("login");
    fs::create_dir_all(&dir).unwrap();
    let [plugin, token, starts] = ["plugin", "token", "starts"].map(|name| dir.join(name));

    // A token that lives as long as a Secret.
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let renew = |name: &str| -> Value {
        let made = namespace.create(&secret(name)).unwrap();
        let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": name});
        fs::write(&token, api.token("login", "agent", &json!({"boundObjectRef": bound})).unwrap()).unwrap();
        made
    };
    namespace
        .create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent"}}))
        .unwrap();
    api.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "login"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
        "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "login"}],
    }))
    .unwrap();
    let first = renew("first");

    let kind = r#""apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential""#;
    let script = format!(
        "#!/bin/sh\necho x >> {}\nprintf '{{{kind},\"status\":{{\"token\":\"%s\"}}}}' \"$(cat {})\"\n",
        starts.display(),
        token.display(),
    );
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, Permissions::from_mode(0o700)).unwrap();
    let kubeconfig = cluster.spare_kubeconfig("login");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&kubeconfig).unwrap()).unwrap();
    config["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "Never",
    }});
    fs::write(&kubeconfig, config.to_string()).unwrap();
    let _agent = Agent::start(machine, SOCKETS).unwrap();
    let asked = || fs::read_to_string(&starts).unwrap().len();
    let before = asked();
    assert!(before > 0);

    api.delete(&api.path(&first).unwrap()).unwrap();
    let metrics = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10249);
    eventually_in(&cluster, "the old token is refused", || {
        // Watches that stand go on; and the server remembers for some seconds whom it knew.
        cut(machine).map_err(|error| format!("{error:#}"))?;
        let (_, text) = machine.host().get(metrics, "/metrics").map_err(|error| format!("{error:#}"))?;
        let refused = |line: &str| line.starts_with(r#"rest_client_requests_total{code="401""#);
        if text.lines().any(refused) { Ok(()) } else { Err("no 401".to_owned()) }
    });
    renew("second");
    let labels = json!({"app": "login"});
    namespace.service(&objects::service("login", "web", &labels, TARGET)).unwrap();
    eventually_in(&cluster, "the agent follows again", || {
        let shown = machine.sluice_json(&["service", "show", "login/web"]);
        shown.map(drop).map_err(|error| format!("{error:#}"))
    });
    assert!(asked() > before);
}
