//! Two Services that want one address: what agents post Events about.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::kube::{Api, Namespace};

/// What lasts for a shorter time than this agents do not notice: they wait for a second before they say anything.
const NOTICED: Duration = Duration::from_millis(1500);

/// The Service that goes without the address.
pub(super) struct Quarrel<'a> {
    api: &'a Api,
    path: String,
    events: String,
    name: String,
    address: String,
}

impl<'a> Quarrel<'a> {
    /// Two Services in `namespace`, whose names begin with `name`, that want `address` for port 80.
    pub(super) fn begin(api: &'a Api, namespace: &Namespace<'_>, name: &str, address: &str) -> Self {
        let create = |name: &str| {
            let spec = json!({"externalIPs": [address], "ports": [{"port": 80}]});
            let metadata = json!({"namespace": namespace.name(), "name": name});
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
            api.path(&namespace.create(&object).unwrap()).unwrap()
        };
        create(&format!("{name}-a"));
        let name = format!("{name}-b");
        let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", namespace.name());
        Self { api, path: create(&name), events, name, address: address.to_owned() }
    }

    /// Ends it and begins it anew, so that what was said is said again.
    pub(super) fn again(&self) {
        self.end();
        thread::sleep(NOTICED);
        self.want(&[&self.address]);
        thread::sleep(NOTICED);
    }

    /// The Service does without the address.
    pub(super) fn end(&self) {
        self.want(&[]);
    }

    fn want(&self, addresses: &[&str]) {
        self.api.merge(&self.path, &json!({"spec": {"externalIPs": addresses}})).unwrap();
    }

    /// How often `node` has said by one Event who has the address; 0: there is none.
    pub(super) fn said(&self, node: &str) -> u64 {
        let list = self.api.get(&self.events).unwrap();
        let is_it = |event: &&Value| {
            event["regarding"]["name"] == self.name.as_str() && event["reportingInstance"] == node
        };
        let event = list["items"].as_array().and_then(|events| events.iter().find(is_it));
        event.map_or(0, |event| event["series"]["count"].as_u64().unwrap_or(1))
    }
}
