//! A Service whose health check node port somebody else has on one node: what the agent of that node posts Events about, and
//! no other.

use std::net::{Ipv6Addr, TcpListener};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use xtask::kube::{Api, Namespace};
use xtask::lab::Machine;

/// What lasts for a shorter time than this agents do not notice: they wait for a second before they say anything.
const NOTICED: Duration = Duration::from_millis(1500);

/// The Service, and who has its port.
pub(super) struct Taken<'a> {
    api: &'a Api,
    node: &'a str,
    path: String,
    events: String,
    name: String,
    port: u16,
    _holder: TcpListener,
}

impl<'a> Taken<'a> {
    /// A Service called `name` in `namespace` that wants `port`, which is taken on `machine`.
    pub(super) fn begin(
        api: &'a Api,
        namespace: &Namespace<'_>,
        machine: &'a Machine,
        name: &str,
        port: u16,
    ) -> Self {
        let take = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("take the port");
        let holder = machine.host().within(take).unwrap();
        let mut spec = local(port);
        spec["type"] = "LoadBalancer".into();
        spec["ports"] = json!([{"port": 80}]);
        let metadata = json!({"namespace": namespace.name(), "name": name});
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        let path = api.path(&namespace.create(&object).unwrap()).unwrap();
        let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", namespace.name());
        Self { api, node: machine.name(), path, events, name: name.to_owned(), port, _holder: holder }
    }

    /// The Service does without the port for a moment, so that what was said is said again.
    pub(super) fn again(&self) {
        self.end();
        thread::sleep(NOTICED);
        self.want(&local(self.port));
        thread::sleep(NOTICED);
    }

    /// The Service does without the port.
    pub(super) fn end(&self) {
        self.want(&json!({"externalTrafficPolicy": "Cluster"}));
    }

    fn want(&self, spec: &Value) {
        self.api.merge(&self.path, &json!({"spec": spec})).unwrap();
    }

    /// How often the node has said by one Event that its port is taken; 0: there is none. Or why that is not known.
    pub(super) fn said(&self) -> Result<u64, String> {
        let list = self.api.get(&self.events).map_err(|error| format!("{error:#}"))?;
        let is_it = |event: &&Value| {
            event["regarding"]["name"] == self.name.as_str() && event["reportingInstance"] == self.node
        };
        let event = list["items"].as_array().and_then(|events| events.iter().find(is_it));
        Ok(event.map_or(0, |event| event["series"]["count"].as_u64().unwrap_or(1)))
    }
}

/// What makes a Service want a health check node port.
fn local(port: u16) -> Value {
    json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": port})
}
