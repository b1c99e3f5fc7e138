//! The cluster's DNS: CoreDNS with its kubernetes plugin, as `examples/tutorial/cluster/coredns.yaml` installs it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;
use xtask::kube::dns::{self, ADDRESSES};
use xtask::kube::kubelet::files::Home;
use xtask::kube::{Binaries, Kubelet, Tool};
use xtask::lab::helper::wire::Answer;
use xtask::lab::{Pod, wait_for};

use crate::support::cluster;

/// Applies a manifest of the tutorial, each object to `namespace` unless it says where it belongs.
pub(crate) fn apply(file: &str, namespace: &str) {
    for object in documents(file) {
        apply_object(object, namespace);
    }
}

/// Applies an object to `namespace` unless it says where it belongs.
pub(crate) fn apply_object(mut object: Value, namespace: &str) {
    if object["metadata"].get("namespace").is_none() {
        object["metadata"]["namespace"] = namespace.into();
    }
    cluster().api().apply(&object).unwrap();
}

/// The objects of a manifest of the tutorial.
pub(crate) fn documents(file: &str) -> Vec<Value> {
    let path = xtask::sh::root().join("examples/tutorial/cluster").join(file);
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The pods of CoreDNS, which are started unless they run.
pub(crate) fn start() -> &'static Mutex<Kubelet<'static>> {
    static DNS: OnceLock<Mutex<Kubelet<'static>>> = OnceLock::new();
    DNS.get_or_init(|| {
        dns::install(cluster().api()).unwrap();
        let binaries = Binaries::get(&[Tool::CoreDns]).unwrap();
        let program = binaries.path(Tool::CoreDns).unwrap().display().to_string();
        let images = move |_: &str, words: &[String]| Some([std::slice::from_ref(&program), words].concat());
        let mut kubelet = Kubelet::new(cluster(), Some("kube-system"), Box::new(images));
        kubelet.until("CoreDNS", |it| it.ready().count() == dns::REPLICAS).unwrap();
        Mutex::new(kubelet)
    })
}

/// Waits until `http://NAME` leads from the client of the machine `index` to exactly these pods.
pub(crate) fn reach(index: usize, name: &str, wanted: &[&str]) {
    start();
    let client = cluster().client(index).unwrap();
    let home = Home::new(client).unwrap();
    home.resolver("default", &ADDRESSES, "").unwrap();
    let wanted: BTreeSet<_> = wanted.iter().map(ToString::to_string).collect();
    let mut last = Vec::new();
    wait_for(Duration::from_secs(60), || {
        last = (0..2 * wanted.len()).map(|_| get(client, &home, name)).collect();
        let pods: BTreeSet<_> = last.iter().flatten().cloned().collect();
        pods == wanted && last.iter().all(Option::is_some)
    })
    .unwrap_or_else(|error| panic!("{name} {error}: {last:?}, not {wanted:?}"));
}

/// The pod that answers `http://NAME`.
fn get(client: &Pod, home: &Home, name: &str) -> Option<String> {
    let mut curl = home.command(client, "curl");
    let curl = curl.args(["-q", "-s", "-f", "-m", "10"]).arg(format!("http://{name}/")).stdin(Stdio::null());
    let output = curl.output().unwrap();
    serde_json::from_slice::<Answer>(&output.stdout).ok().map(|answer| answer.pod)
}
