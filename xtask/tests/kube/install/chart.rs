//! The chart and the kustomization, as text.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use xtask::kube::{Binaries, Tool};
use xtask::sh;

use crate::support::lab;

/// The value without which the chart does not render, as the base of the kustomization has it.
pub(super) const SERVER: &str = r#"k8sServiceHost="api-server.invalid""#;

/// A file or folder of `deploy/`.
pub(crate) fn deploy(path: &str) -> PathBuf {
    sh::root().join("deploy").join(path)
}

/// The program `tool`.
pub(super) fn command(tool: Tool) -> Command {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    let binaries = BINARIES.get_or_init(|| Binaries::get(&[Tool::Helm, Tool::Kubectl]).unwrap());
    Command::new(binaries.path(tool).unwrap())
}

/// What the chart renders with these values.
pub(super) fn render(values: &[&str]) -> anyhow::Result<String> {
    let mut helm = command(Tool::Helm);
    helm.args(["template", "sluice", "--namespace", "kube-system"]).arg(deploy("helm/sluice"));
    sh::read(helm.args(values.iter().flat_map(|value| ["--set-json", value])))
}

/// What an overlay gives that has the base and these components.
pub(super) fn kustomize(components: &[&str]) -> String {
    let folder = lab().dir().join(["kustomize", components.join("-").as_str()].concat());
    sh::read(Command::new("cp").arg("--recursive").arg(deploy("kustomize")).arg(&folder)).unwrap();
    let overlay = folder.join("overlay");
    fs::create_dir(&overlay).unwrap();
    let components: Vec<_> = components.iter().map(|name| format!("../{name}")).collect();
    let text = json!({"resources": ["../base"], "components": components}).to_string();
    fs::write(overlay.join("kustomization.yaml"), text).unwrap();
    sh::read(command(Tool::Kubectl).arg("kustomize").arg(overlay)).unwrap()
}

/// The objects of a text, by kind.
pub(super) fn objects(text: &str) -> BTreeMap<String, Value> {
    let all = serde_saphyr::from_multiple::<Option<Value>>(text).unwrap().into_iter().flatten();
    all.map(|object| (object["kind"].as_str().unwrap().to_owned(), object)).collect()
}

#[test]
fn the_base_of_the_kustomization_is_what_the_chart_renders() {
    let rendered = render(&[SERVER]).unwrap();
    let path = deploy("kustomize/base/sluice.yaml");
    if env::var_os("SLUICE_BLESS").is_some() {
        fs::write(&path, &rendered).unwrap();
    }
    let base = fs::read_to_string(&path).unwrap();
    assert!(
        base == rendered,
        "the chart has changed: cargo xtask test kube --bless -- the_base_of_the_kustomization"
    );
    assert_eq!(objects(&kustomize(&[])), objects(&rendered));
}

#[test]
fn components_of_the_kustomization_are_values_of_the_chart() {
    for (component, value) in [("capabilities", "privileged=false"), ("cleanup", "cleanup=true")] {
        let rendered = objects(&render(&[SERVER, value]).unwrap());
        assert_eq!(objects(&kustomize(&[component])), rendered, "{component}");
    }
    let example = sh::read(command(Tool::Kubectl).arg("kustomize").arg(deploy("kustomize/example"))).unwrap();
    let container = &objects(&example)["DaemonSet"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example.com/sluice:0.1.0");
    let env = container["env"].as_array().unwrap();
    assert!(
        env.contains(&json!({"name": "KUBERNETES_SERVICE_HOST", "value": "192.0.2.10"})) && env.len() == 3
    );
}

#[test]
fn the_chart_is_of_the_version_of_the_agent() {
    let chart: Value =
        serde_saphyr::from_str(&fs::read_to_string(deploy("helm/sluice/Chart.yaml")).unwrap()).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
    sh::read(command(Tool::Helm).args(["lint", "--strict", "--set-json", SERVER]).arg(deploy("helm/sluice")))
        .unwrap();
}

#[test]
fn b117_the_chart_asks_for_an_address_that_is_no_service() {
    let refused = render(&[]).unwrap_err().to_string();
    assert!(refused.contains("k8sServiceHost is missing"), "{refused}");
}

#[test]
fn values_that_cannot_be_meant_are_refused_by_name() {
    for (value, name) in [
        (r#"socketLB="none""#, "socketLB"),
        ("socketLB=true", "socketLB"),
        (r#"socketLb="all""#, "socketLb"),
        ("privileged=1", "privileged"),
        (r#"k8sServiceHost="https://10.0.0.1:6443""#, "k8sServiceHost"),
        ("k8sServicePort=0", "k8sServicePort"),
        (r#"k8sServicePort="6443""#, "k8sServicePort"),
        (r#"image.tag="a b""#, "image/tag"),
        (r#"image.digest="md5:0""#, "image/digest"),
        (r#"image.pullPolicy="Sometimes""#, "image/pullPolicy"),
        (r#"config.kubeProxy.healthzBindAddress="10256""#, "config/kubeProxy/healthzBindAddress"),
        (r#"config.kubeProxy.metricsBindAddress="some""#, "config/kubeProxy/metricsBindAddress"),
        (r#"config.kubeProxy.kind="X""#, "config/kubeProxy/kind"),
        (r#"config.kubeProxy.apiVersion="v1""#, "config/kubeProxy/apiVersion"),
        (r#"config.sluice.socketLb="all""#, "config/sluice"),
        (r#"xdp="generic""#, "xdp"),
        (r#"config.sluice.xdp="auto""#, "config/sluice"),
        (r#"config.other={}"#, "other"),
        (r#"extraArgs=["v"]"#, "extraArgs/0"),
        (r#"extraArgs="--v""#, "extraArgs"),
        (r#"updateStrategy.type="Recreate""#, "updateStrategy/type"),
        (r#"podLabels={"a":1}"#, "podLabels/a"),
        (r#"serviceAccount.name="""#, "serviceAccount/name"),
    ] {
        let refused = render(&[SERVER, value]).map(|_| ());
        let refused = refused.expect_err(value).to_string();
        assert!(refused.contains("values don't meet the specifications of the schema"), "{value}: {refused}");
        assert!(refused.contains(name), "{value}: {refused}");
    }
}

#[test]
fn values_reach_what_they_are_for() {
    let of = |values: &[&str]| objects(&render(&[&[SERVER], values].concat()).unwrap());
    let pod = |all: &BTreeMap<String, Value>| all["DaemonSet"]["spec"]["template"]["spec"].clone();

    let plain = of(&[]);
    let text =
        |all: &BTreeMap<String, Value>| all["ConfigMap"]["data"]["config.yaml"].as_str().unwrap().to_owned();
    let documents = |all: &BTreeMap<String, Value>| serde_saphyr::from_multiple::<Value>(&text(all)).unwrap();
    assert_eq!(documents(&plain)[1]["socketLb"], "all");
    assert_eq!(documents(&plain)[1]["xdp"], "auto");
    // What YAML 1.1 makes of a bare `off` reaches the agent as something that it takes for that.
    for (value, told) in [(r#"xdp="off""#, "off"), ("xdp=false", "false")] {
        assert_eq!(documents(&of(&[value]))[1]["xdp"], told);
    }
    let container = &pod(&plain)["containers"][0];
    assert_eq!(container["securityContext"], json!({"privileged": true, "readOnlyRootFilesystem": true}));
    assert_eq!(container["resources"].get("limits"), None);
    assert_eq!(
        container["livenessProbe"]["httpGet"],
        json!({"path": "/livez", "port": 10256, "host": "127.0.0.1"})
    );

    // A document without fields of its own.
    let none = of(&[r#"config.kubeProxy={"healthzBindAddress":null,"metricsBindAddress":null}"#]);
    let names = |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&documents(&none)[0]), ["apiVersion", "kind"]);

    let changed = of(&[
        r#"socketLB="host""#,
        r#"config.sluice.podInterfaces=["veth*"]"#,
        r#"config.kubeProxy.healthzBindAddress="[::]:7""#,
        r#"config.kubeProxy.clusterCIDR="10.0.0.0/8""#,
        r#"extraArgs=["--log-level=debug"]"#,
        r#"image.digest="sha256:0000000000000000000000000000000000000000000000000000000000000000""#,
    ]);
    let read = documents(&changed);
    assert_eq!((&read[0]["clusterCIDR"], &read[1]["socketLb"]), (&"10.0.0.0/8".into(), &"host".into()));
    assert_eq!(read[1]["podInterfaces"], json!(["veth*"]));
    let container = &pod(&changed)["containers"][0];
    assert_eq!(container["startupProbe"]["httpGet"], json!({"path": "/livez", "port": 7, "host": "::1"}));
    assert_eq!(container["args"].as_array().unwrap().last().unwrap(), "--log-level=debug");
    assert!(container["image"].as_str().unwrap().contains(":0.1.0@sha256:00"));
    for (address, port, host) in [
        ("", 10256, "127.0.0.1"),
        ("0.0.0.0", 10256, "127.0.0.1"),
        ("192.0.2.1", 10256, "192.0.2.1"),
        ("192.0.2.1:7", 7, "192.0.2.1"),
        ("::", 10256, "::1"),
        ("fd00::1", 10256, "fd00::1"),
        ("[fd00::1]:7", 7, "fd00::1"),
    ] {
        let other = of(&[&format!("config.kubeProxy.healthzBindAddress={address:?}")]);
        let probe = &pod(&other)["containers"][0]["livenessProbe"]["httpGet"];
        assert_eq!(*probe, json!({"path": "/livez", "port": port, "host": host}), "{address:?}");
    }
    let checksum = |all: &BTreeMap<String, Value>| {
        all["DaemonSet"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    assert_ne!(checksum(&plain), checksum(&changed));
}
