//! `examples/tutorial/cluster`, for real: its application under uvicorn in pods that a Deployment makes, its clients with
//! an ordinary resolv.conf, CoreDNS behind 10.96.0.10.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use xtask::kube::Kubelet;
use xtask::kube::dns::ADDRESSES as DNS;
use xtask::kube::kubelet::files::Home;
use xtask::lab::helper::wire::Transport;
use xtask::lab::{Machine, Network, Pod, wait_for};
use xtask::{setup, sh};

use crate::dns;
use crate::support::cluster;

const NAMESPACE: &str = "tutorial";
const URL: &str = "http://python-api-service/api/data";

/// A client with the Python environment of the tutorial.
struct Client {
    pod: Pod,
    home: Home,
}

/// What `client.py URL load` prints.
#[derive(Debug, Deserialize)]
struct Load {
    answered: BTreeMap<String, u64>,
    failed: Vec<String>,
}

impl Client {
    fn new() -> Self {
        let pod = cluster().nodes()[0].pod("tutorial-client").unwrap();
        let home = Home::new(&pod).unwrap();
        home.resolver(NAMESPACE, &DNS, "").unwrap();
        Self { pod, home }
    }

    fn start(&self, words: &[&str]) -> Child {
        let mut python = self.home.command(&self.pod, python().join("bin/python"));
        let script = sh::root().join("examples/tutorial/cluster/client.py");
        python.arg("-B").arg(script).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        python.spawn().unwrap()
    }

    /// What `count` requests to `url` are answered with.
    fn get(&self, url: &str, count: usize) -> Vec<Value> {
        let output = self.start(&[url, &count.to_string()]).wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The pods that answer `count` requests to `url`; none may fail.
    fn pods(&self, url: &str, count: usize) -> BTreeSet<String> {
        let pod =
            |answer: Value| answer["pod"].as_str().unwrap_or_else(|| panic!("{url}: {answer}")).to_owned();
        self.get(url, count).into_iter().map(pod).collect()
    }

    /// Waits until exactly `wanted` answer `url`.
    fn meets(&self, url: &str, wanted: &BTreeSet<String>) {
        let mut last = BTreeSet::new();
        wait_for(Duration::from_secs(60), || {
            // Those that fail are no pod's: not yet.
            let answers = self.get(url, 2 * wanted.len());
            last = answers.iter().map(|it| it["pod"].as_str().unwrap_or_default().to_owned()).collect();
            last == *wanted
        })
        .unwrap_or_else(|error| panic!("{url} {error}: {last:?}, not {wanted:?}"));
    }
}

fn python() -> &'static std::path::Path {
    static HOME: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    HOME.get_or_init(|| setup::tutorial_python().unwrap())
}

/// Where the Deployment of the tutorial is.
fn deployment() -> String {
    format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/python-api")
}

fn names(kubelet: &Kubelet<'_>) -> BTreeSet<String> {
    kubelet.ready().map(|pod| pod.name().to_owned()).collect()
}

/// The address of the pod called `name`.
fn address(kubelet: &Kubelet<'_>, name: &str) -> String {
    let mut pods = kubelet.pods();
    pods.find(|pod| pod.name() == name).unwrap().ips()[0].to_string()
}

/// What the tutorial's image stands for: uvicorn, in the folder of the application.
fn image(_: &str, words: &[String]) -> Option<Vec<String>> {
    let folder = sh::root().join("examples/tutorial/cluster").display().to_string();
    let program = python().join("bin").join(&words[0]).display().to_string();
    let env = ["env", "-C", &folder, "PYTHONDONTWRITEBYTECODE=1", &program].map(str::to_owned);
    Some([&env, &words[1..]].concat())
}

#[test]
fn b27_b36_b40_b42_b49_b62_b67_b119_b120_the_tutorial_for_real() {
    dns::start();
    cluster().namespace(NAMESPACE).unwrap();
    for file in ["deployment.yaml", "service.yaml"] {
        dns::apply(file, NAMESPACE);
    }
    let mut kubelet = Kubelet::new(cluster(), Some(NAMESPACE), Box::new(image));
    kubelet.until("three replicas", |it| it.ready().count() == 3).unwrap();
    let client = Client::new();
    client.meets(URL, &names(&kubelet));
    by_name(&client, &kubelet);
    readiness(&client, &mut kubelet);
    rollout(&client, &mut kubelet);
    by_hand(&client, &kubelet);
    outside(&kubelet);
    all_gone(&client, &mut kubelet);
}

/// Short and full names, by UDP and TCP, from either address of the DNS.
fn by_name(client: &Client, kubelet: &Kubelet<'_>) {
    let full = format!("http://python-api-service.{NAMESPACE}.svc.cluster.local/api/data");
    for server in DNS {
        for options in ["", "use-vc"] {
            client.home.resolver(NAMESPACE, &[server], options).unwrap();
            for url in [URL, &full] {
                assert_eq!(client.pods(url, 6), names(kubelet), "{url} by {server} {options}");
            }
        }
    }
    client.home.resolver(NAMESPACE, &DNS, "").unwrap();
}

/// A pod that says that it is not ready has no requests until it is again.
fn readiness(client: &Client, kubelet: &mut Kubelet<'_>) {
    let all = names(kubelet);
    let one = all.first().unwrap().clone();
    let say = |kubelet: &Kubelet<'_>, ready: bool| {
        let url = format!("http://{}:8000/ready/{ready}", address(kubelet, &one));
        let mut curl = cluster().nodes()[0].host().command("curl");
        sh::read(curl.args(["-q", "-s", "-f", "-m", "30", "-X", "PUT", &url])).unwrap();
    };
    say(kubelet, false);
    kubelet.until("one replica is not ready", |it| it.ready().count() == 2).unwrap();
    client.meets(URL, &names(kubelet));
    say(kubelet, true);
    kubelet.until("all replicas are ready", |it| it.ready().count() == 3).unwrap();
    client.meets(URL, &all);
}

/// Every pod is replaced while requests are made, and none of them fails.
fn rollout(client: &Client, kubelet: &mut Kubelet<'_>) {
    let old = names(kubelet);
    let mut load = client.start(&[URL, "load"]);
    let annotation = json!({"tutorial": "second version"});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotation}}}});
    cluster().api().merge(&deployment(), &patch).unwrap();
    kubelet
        .until("the rollout", |it| {
            let new = names(it);
            new.len() == 3 && it.pods().count() == 3 && new.is_disjoint(&old)
        })
        .unwrap();
    let new = names(kubelet);
    client.meets(URL, &new);
    load.stdin.take().unwrap().flush().unwrap();
    let output = load.wait_with_output().unwrap();
    let load: Load = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(load.failed, [""; 0]);
    let answered: BTreeSet<_> = load.answered.into_keys().collect();
    assert!(answered.is_superset(&new), "{answered:?}, {new:?}");
}

/// Services without a selector: to pods of another namespace, by a slice and by Endpoints, and out of the cluster.
fn by_hand(client: &Client, kubelet: &Kubelet<'_>) {
    const OTHER: &str = "tutorial-by-hand";
    cluster().namespace(OTHER).unwrap();
    let one = names(kubelet).pop_first().unwrap();
    let outside = Network::outside_ips()[0].to_string();
    cluster().network().outside().serve(Transport::Tcp, 8080, "outside").unwrap();
    for object in dns::documents("by-hand.yaml") {
        let text = object.to_string();
        let text = text.replace("10.244.1.2", &address(kubelet, &one));
        let object = serde_json::from_str(&text.replace("198.51.100.7", &outside)).unwrap();
        dns::apply_object(object, OTHER);
    }
    for (service, pod) in [("borrowed", one.as_str()), ("borrowed-legacy", &one), ("outside", "outside")] {
        let url = format!("http://{service}.{OTHER}/api/data");
        wait_for(Duration::from_secs(60), || client.get(&url, 1)[0]["pod"] == pod)
            .unwrap_or_else(|error| panic!("{url} {error}: {:?}", client.get(&url, 1)));
    }
}

/// Clients outside share all pods at port 30080 of every node, and stay with one at the load balancer's port 443.
fn outside(kubelet: &Kubelet<'_>) {
    let space = cluster().network().outside();
    let nodes = || cluster().nodes().iter().flat_map(Machine::ips);
    let mut balancers = Vec::new();
    for object in dns::documents("../outside.yaml") {
        let ingress = object["status"]["loadBalancer"]["ingress"].as_array();
        let addresses =
            ingress.into_iter().flatten().map(|it| it["ip"].as_str().unwrap().parse::<IpAddr>().unwrap());
        for (ip, node) in addresses.zip(nodes()) {
            space.ip(&format!("route replace {ip} via {node}\n")).unwrap();
            balancers.push(SocketAddr::new(ip, 443));
        }
        let (name, status) =
            (object["metadata"]["name"].as_str().unwrap(), json!({"status": object["status"]}));
        let status_of = format!("/api/v1/namespaces/{NAMESPACE}/services/{name}/status");
        dns::apply_object(object.clone(), NAMESPACE);
        cluster().api().merge(&status_of, &status).unwrap();
    }
    assert_eq!(balancers.len(), 2);
    let met = |to: &SocketAddr| {
        let mut curl = space.command("curl");
        let options = ["-q", "-s", "-f", "-m", "10", "-w", "\n", "-H", "Connection: close"];
        let output = curl.args(options).arg(format!("http://{to}/api/data?[1-12]")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let pod = |line: &str| serde_json::from_str::<Value>(line).ok()?["pod"].as_str().map(str::to_owned);
        text.lines().map(pod).collect::<Option<BTreeSet<_>>>().unwrap_or_default()
    };
    let all = names(kubelet);
    let places = nodes().map(|ip| SocketAddr::new(ip, 30_080)).map(|to| (to, all.len()));
    for (to, pods) in places.chain(balancers.iter().map(|to| (*to, 1))) {
        let mut last = BTreeSet::new();
        wait_for(Duration::from_secs(60), || {
            last = met(&to);
            last.len() == pods && last.is_subset(&all)
        })
        .unwrap_or_else(|error| panic!("{to} {error}: {last:?}, not {pods} of {all:?}"));
    }
}

/// Without a pod requests are refused at once.
fn all_gone(client: &Client, kubelet: &mut Kubelet<'_>) {
    cluster().api().merge(&deployment(), &json!({"spec": {"replicas": 0}})).unwrap();
    kubelet.until("no replicas", |it| it.pods().count() == 0).unwrap();
    let refused =
        |answer: &Value| answer["error"].as_str().is_some_and(|error| error.contains("Connection refused"));
    wait_for(Duration::from_secs(60), || client.get(URL, 4).iter().all(refused))
        .unwrap_or_else(|error| panic!("{error}: {:?}", client.get(URL, 4)));
}
