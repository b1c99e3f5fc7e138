//! The chart installed by helm, and its DaemonSet run: what a node does with the pod that the controller makes of it.

use std::path::PathBuf;

use serde_json::{Value, json};
use xtask::kube::{Api, Cluster, Tool, kubelet};
use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::{Machine, wait_for};
use xtask::sh;

use super::chart::{command, deploy};
use super::container::Running;
use super::taken::Taken;
use crate::readme;
use crate::support::{SOON, TARGET, cluster, endpoint, slice, told};

/// Where the chart is installed.
const NAMESPACE: &str = "sluice-system";

/// The capabilities of the list: `1 << CAP_NET_ADMIN | 1 << CAP_PERFMON | 1 << CAP_BPF`.
const LIST: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// kube-proxy, as kubeadm installs it.
pub(crate) fn kubeadm() -> Vec<Value> {
    serde_saphyr::from_multiple(include_str!("kubeadm.yaml")).unwrap()
}

/// The chart, installed for one machine.
struct Release<'a> {
    cluster: &'a Cluster,
    machine: &'a Machine,
}

impl Release<'_> {
    fn helm(&self, args: &[&str]) {
        let mut helm = command(Tool::Helm);
        self.cluster.plane().as_administrator(helm.args(["--namespace", NAMESPACE]));
        sh::read(helm.args(args)).unwrap();
    }

    /// Installs it, or changes what is installed, and gives the pod that is now to run on the machine.
    fn install(&self, values: &[&str]) -> Value {
        let chart = deploy("helm/sluice").display().to_string();
        let node = format!(r#"nodeSelector={{"kubernetes.io/hostname":"{}"}}"#, self.machine.name());
        let fixed = [
            // The control plane's certificate has this name; the nodes' hosts file says where that is.
            r#"k8sServiceHost="kubernetes""#,
            r#"extraArgs=["--cgroup-root=/host/cgroup","--max-flows=65536"]"#,
            &node,
        ];
        let file = self.taken_over().display().to_string();
        let verb = ["upgrade", "--install", "--create-namespace", "sluice", &chart, "--values", &file];
        let values = fixed.iter().chain(values).flat_map(|value| ["--set-json", value]);
        self.helm(&verb.into_iter().chain(values).collect::<Vec<_>>());
        self.pod()
    }

    /// The values that README.md has a user make of what kubeadm has written for kube-proxy.
    fn taken_over(&self) -> PathBuf {
        for object in kubeadm() {
            // Another kubelet runs whatever pods there are in this namespace.
            if object["kind"] == "ConfigMap" {
                self.cluster.api().apply(&object).unwrap();
            }
        }
        let folder = self.cluster.plane().dir();
        readme::run(self.cluster, folder, &readme::block("Instead of kube-proxy", "kube-proxy.yaml"));
        folder.join("kube-proxy.yaml")
    }

    /// The pod that the DaemonSet's controller makes of its present template, on the machine as the scheduler would have it.
    fn pod(&self) -> Value {
        let api = self.cluster.api();
        let set = format!("/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/sluice");
        bound(api, NAMESPACE, self.machine, |pod| {
            let (set, container) = (api.get(&set).unwrap(), &pod["spec"]["containers"][0]);
            let template = &set["spec"]["template"]["spec"]["containers"][0];
            ["args", "securityContext"].iter().all(|field| container[field] == template[field])
        })
    }

    /// What a kubelet reports once a pod that is to go has ended.
    fn ended(&self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        self.cluster.api().delete(&format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}")).unwrap();
    }

    /// What of the agent's requests the API server has refused, and how many it has answered.
    fn refused(&self) -> (Vec<String>, usize) {
        let user = format!("system:serviceaccount:{NAMESPACE}:sluice");
        let of_agent = self
            .cluster
            .plane()
            .audited()
            .unwrap()
            .into_iter()
            .filter(|event| event["user"]["username"] == user);
        let (refused, fine): (Vec<_>, Vec<_>) = of_agent.partition(|event| {
            event["responseStatus"]["code"].as_u64().is_some_and(|code| code == 401 || code == 403)
        });
        (refused.iter().map(Value::to_string).collect(), fine.len())
    }
}

/// Waits for a pod of a DaemonSet in `namespace` that is for `machine` and that `is_it`, and binds it as the scheduler would.
pub(crate) fn bound(api: &Api, namespace: &str, machine: &Machine, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut path = String::new();
    wait_for(SOON, || {
        let list = api.get(&format!("/api/v1/namespaces/{namespace}/pods")).unwrap_or_default();
        let mut pods = list["items"].as_array().into_iter().flatten();
        let found = pods.find(|pod| {
            let ends = pod["metadata"]["deletionTimestamp"].is_string();
            !ends && kubelet::wanted(pod) == Some(machine.name()) && is_it(pod)
        });
        // The controller may have taken it back meanwhile.
        found.is_some_and(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap();
            path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
            kubelet::bind(api, pod, machine.name()).is_ok()
        })
    })
    .unwrap_or_else(|error| panic!("no pod of the DaemonSet for {}: {error}", machine.name()));
    api.get(&path).unwrap()
}

/// Whether this is about an object of some test: others run in the same cluster.
fn is_of_a_test(about: &str) -> bool {
    ["Service ", "EndpointSlice "].iter().any(|kind| about.starts_with(kind))
}

/// What a status says that the agent itself lacks.
fn own_problems(status: &Value) -> Vec<&Value> {
    let all = status["problems"].as_array().into_iter().flatten();
    all.filter(|problem| !problem["object"].as_str().is_some_and(is_of_a_test)).collect()
}

/// Lines of a log that somebody should look at.
fn own_warnings(log: &str) -> Vec<&str> {
    let about = |line: &&str| {
        let (_, about) = line.split_once(" WARN ").or_else(|| line.split_once("ERROR "))?;
        Some(is_of_a_test(about))
    };
    log.lines().filter(|line| about(line) == Some(false)).collect()
}

/// Waits until the probes of `pod` are content and everything has been programmed.
fn ready(machine: &Machine, pod: &Value, running: &Running) {
    let probe = &pod["spec"]["containers"][0]["livenessProbe"]["httpGet"];
    let (host, port, path) = (&probe["host"], &probe["port"], &probe["path"]);
    let url = format!("http://{}:{port}{}", host.as_str().unwrap(), path.as_str().unwrap());
    let ready = wait_for(SOON, || {
        running
            .exec(&["status"])
            .is_some_and(|status| status["synced"] == true && own_problems(&status).is_empty())
            && sh::read(machine.host().command("curl").args(["--fail", "--silent", "--max-time", "5", &url]))
                .is_ok()
    });
    ready.unwrap_or_else(|error| panic!("{error}: {:?}\n{}", running.exec(&["status"]), running.log()));
}

#[test]
fn b116_b117_what_the_chart_installs_runs_and_is_denied_nothing() {
    let (cluster, machine) = (cluster(), cluster().spare("install").unwrap());
    let (server, client) = (machine.pod("server").unwrap(), machine.pod("client").unwrap());
    server.serve(Transport::Tcp, TARGET, "server").unwrap();
    let namespace = cluster.namespace("install").unwrap();
    let mut object = xtask::kube::objects::service("install", "web", &json!({}), TARGET);
    object["spec"]["selector"] = Value::Null;
    let service = namespace.service(&object).unwrap();
    for (family, ip) in server.ips().into_iter().enumerate() {
        namespace.create(&slice(&format!("web-{family}"), "web", family, &[endpoint(ip)])).unwrap();
    }

    let release = Release { cluster, machine };
    for privileged in [true, false] {
        let pod = release.install(&[&format!("privileged={privileged}")]);
        let running = Running::start(machine, cluster.api(), &pod);
        ready(machine, &pod, &running);
        assert_eq!(running.capabilities() == LIST, !privileged);
        for (name, space) in [("pod", &*client), ("host", machine.host())] {
            for family in [0, 1] {
                let answer = space.ask(Socket::Tcp, service.at(family, 80).unwrap());
                assert_eq!(
                    answer.unwrap().pod,
                    "server",
                    "privileged: {privileged}, {name}, family {family}"
                );
            }
        }
        assert_eq!(own_warnings(&running.log()), [""; 0], "privileged: {privileged}");
        let settings = machine.host().get("127.0.0.1:10249".parse().unwrap(), "/configz").unwrap().1;
        assert!(settings.contains("10.244.0.0/16,fd00:10:244::/56"), "{settings}");
        if privileged {
            let taken = Taken::begin(cluster.api(), &namespace, machine, "taken", 30_043);
            told("an Event that is told again", || {
                taken.again();
                let said = taken.said()?;
                if said > 1 { Ok(()) } else { Err(format!("{said} times\n{}", running.log())) }
            });
            taken.end();
        }
        running.stop();
        release.ended(&pod);
    }

    let pod = release.install(&["cleanup=true"]);
    Running::start(machine, cluster.api(), &pod).end();
    release.ended(&pod);
    assert!(!machine.pin_dir().join("sluice").exists());
    release.helm(&["uninstall", "sluice"]);

    let (refused, answered) = release.refused();
    assert!(refused.is_empty() && answered > 10, "{answered} answered, refused: {refused:#?}");
}
