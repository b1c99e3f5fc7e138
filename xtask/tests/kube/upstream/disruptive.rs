//! What outlives a restart of the agent and of the API server. In a cluster that has no other tests meanwhile.

use std::collections::BTreeSet;

use serde_json::json;
use xtask::kube::{Cluster, Namespace, Part, RunningPod, Service, objects};
use xtask::lab::helper::wire::Socket;

use super::jig::patiently;
use crate::own::own;
use crate::support::TARGET;

/// A Service with two pods.
struct Served<'c>(Service<'c>, [RunningPod<'c>; 2]);

impl<'c> Served<'c> {
    fn new(namespace: &Namespace<'c>, name: &str) -> Self {
        let labels = json!({"app": name});
        let service = namespace.service(&objects::service(namespace.name(), name, &labels, TARGET)).unwrap();
        let pods =
            [1, 2].map(|number| namespace.pod(0, &format!("{name}-{number}"), &labels, TARGET).unwrap());
        Self(service, pods)
    }

    /// Waits until pods and host reach both pods and nobody else.
    fn up(&self, cluster: &Cluster) {
        let Self(service, pods) = self;
        let wanted: BTreeSet<_> = pods.iter().map(|pod| pod.name().to_owned()).collect();
        for (client, family) in cluster.clients().iter().flat_map(|client| [(client, 0), (client, 1)]) {
            let to = service.at(family, 80).unwrap();
            let answers = || (0..4).map(|_| Some(client.space.ask(Socket::Tcp, to).ok()?.pod)).collect();
            let mut last: Option<BTreeSet<String>> = None;
            patiently(|| {
                last = answers();
                last.as_ref() == Some(&wanted)
            })
            .unwrap_or_else(|error| panic!("{to} from {}: {error}: {last:?}, not {wanted:?}", client.name));
        }
    }
}

#[test]
fn should_work_after_restarting_kube_proxy() {
    let cluster = own();
    let namespace = cluster.namespace("restart-proxy").unwrap();
    let served = ["restart-proxy-1", "restart-proxy-2"].map(|name| Served::new(&namespace, name));
    assert_ne!(served[0].0.ips(), served[1].0.ips());
    let up = || served.iter().for_each(|it| it.up(&cluster));
    up();
    cluster.take_agent(0).unwrap().kill().unwrap();
    up();
    cluster.start_agent(0).unwrap();
    up();
}

#[test]
fn should_work_after_restarting_apiserver() {
    let cluster = own();
    let namespace = cluster.namespace("restart-apiserver").unwrap();
    let first = Served::new(&namespace, "restart-apiserver-1");
    first.up(&cluster);
    cluster.plane().kill(Part::ApiServer).unwrap();
    first.up(&cluster);
    cluster.plane().launch(Part::ApiServer).unwrap();
    cluster.plane().wait_ready().unwrap();
    first.up(&cluster);
    let second = Served::new(&namespace, "restart-apiserver-2");
    assert_ne!(first.0.ips(), second.0.ips());
    first.up(&cluster);
    second.up(&cluster);
}
