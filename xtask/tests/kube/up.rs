//! `cargo xtask kube`: what the README says of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;
use xtask::kube::Kubelet;
use xtask::lab::wait_for;
use xtask::setup;

use crate::readme;
use crate::support::{Scene, cluster, lab};

/// A cluster of the test's own, beside one that a developer may have. Taken away however the test ends.
struct Cluster {
    dir: PathBuf,
    home: PathBuf,
}

impl Cluster {
    fn new(name: &str) -> Self {
        let home = lab().dir().join(format!("{name}-home"));
        fs::create_dir(&home).unwrap();
        Self { dir: format!("/run/sluice-kube-{name}-{}", std::process::id()).into(), home }
    }

    /// As a user with an empty home folder, but for what is built already.
    fn user<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let cache = setup::cache("kube").unwrap();
        command.env("SLUICE_KUBE_DIR", &self.dir).env("HOME", &self.home);
        command.env("XDG_CACHE_HOME", cache.ancestors().nth(2).unwrap())
    }

    fn xtask(&self, words: &[&str]) -> Output {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        self.user(xtask.arg("kube").args(words)).output().unwrap()
    }

    fn begin(&self, words: &[&str]) -> Child {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let xtask = self.user(xtask.arg("kube").args(words)).stderr(Stdio::piped()).stdout(Stdio::null());
        xtask.spawn().unwrap()
    }

    fn said(&self, words: &[&str]) -> String {
        said(&words.join(" "), &self.xtask(words))
    }

    /// What is printed when these lines are typed.
    fn type_in(&self, lines: &str) -> String {
        let folder = lab().dir().join("bin");
        let cargo = folder.join("cargo");
        fs::create_dir_all(&folder).unwrap();
        fs::write(&cargo, format!("#!/bin/sh\nshift\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_xtask")))
            .unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        let mut shell = Command::new("sh");
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        said(lines, &self.user(shell.args(["-euc", lines]).env("PATH", path)).output().unwrap())
    }

    /// The run of the lab that the cluster is.
    fn run(&self) -> PathBuf {
        let kubeconfig = self.type_in("eval \"$(cargo xtask kube env)\"; echo $KUBECONFIG");
        Path::new(kubeconfig.trim()).ancestors().nth(2).unwrap().to_owned()
    }

    /// What there still is of the cluster whose run was `run`.
    fn left(&self, run: &Path) -> Vec<String> {
        let id = run.file_name().unwrap().to_str().unwrap();
        let own = lab().id().to_string();
        let cgroup = PathBuf::from(lab().cgroup().display().to_string().replace(&own, id));
        let paths = [self.dir.as_path(), run, &cgroup];
        let mut left: Vec<_> =
            paths.iter().filter(|path| path.exists()).map(|it| it.display().to_string()).collect();
        let marks = [format!("sl-{id}-"), format!("sluice-lab-{id}-")];
        for folder in ["/run/netns", "/sys/fs/bpf", "/run/sluice"] {
            let names =
                fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            left.extend(names.filter(|name| marks.iter().any(|mark| name.contains(mark))));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let of_run = format!("{}/", run.display());
        left.extend(
            mounts.lines().filter(|it| it.contains(&of_run) || it.contains(&marks[1])).map(str::to_owned),
        );
        left.extend(
            fs::read_dir(&self.home).unwrap().map(|entry| entry.unwrap().path().display().to_string()),
        );
        let dir = self.dir.display().to_string();
        for process in fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()) {
            // It may end while it is looked at.
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            if String::from_utf8_lossy(&environment).contains(&dir) {
                left.push(fs::read_to_string(process.join("cmdline")).unwrap_or_default());
            }
        }
        left
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.xtask(&["down"]);
    }
}

fn said(what: &str, output: &Output) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_lines_of_the_readme_give_a_service_that_answers_and_down_leaves_nothing() {
    let cluster = Cluster::new("readme");
    let lines = readme::block("A cluster to play with", "kube up");
    let (play, down) = lines.split_once("cargo xtask kube down").unwrap();
    let said = cluster.type_in(play);
    assert!(said.contains(r#"{"pod":"web-"#) && said.contains("default/web"), "{said}");
    let run = cluster.run();
    assert!(run.exists(), "{}", run.display());
    cluster.type_in(&format!("cargo xtask kube down{down}"));
    assert_eq!(cluster.left(&run), [""; 0]);
}

#[test]
fn one_of_two_that_begin_at_once_is_up_with_dns_and_kube_proxy() {
    let cluster = Cluster::new("parts");
    let refused = cluster.xtask(&["env"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no cluster is up: cargo xtask kube up"));
    let up = ["up", "--nodes", "2", "--dns", "--kube-proxy"];
    let both = [cluster.begin(&up), cluster.begin(&up)].map(|child| child.wait_with_output().unwrap());
    let (fine, other): (Vec<_>, Vec<_>) = both.iter().partition(|output| output.status.success());
    assert_eq!((fine.len(), other.len()), (1, 1), "{both:?}");
    assert!(String::from_utf8_lossy(&other[0].stderr).contains("a cluster is up already"), "{other:?}");
    let run = cluster.run();

    let kubectl = |line: &str| cluster.type_in(&format!("eval \"$(cargo xtask kube env)\"; kubectl {line}"));
    kubectl("create deployment web --image=any --replicas=2 --port=80");
    kubectl("expose deployment web");
    kubectl("rollout status deployment web --timeout=60s");
    let pod = kubectl("get pod -o jsonpath='{.items[0].metadata.name}'");
    let asked = ["exec", &pod, "--", "curl", "-s", "-m", "5", "http://web/"];
    wait_for(Duration::from_secs(60), || {
        String::from_utf8_lossy(&cluster.xtask(&asked).stdout).contains(r#"{"pod":"web-"#)
    })
    .unwrap();
    assert!(cluster.said(&["exec", "node-1", "--", "nft", "list", "tables"]).contains("kube-proxy"));
    kubectl("delete deployment web --cascade=foreground --timeout=60s");
    assert_eq!(kubectl("get pod -o name"), "");
    let mine = cluster.dir.join("mine");
    fs::write(&mine, "").unwrap();
    cluster.said(&["down"]);
    // What is not the cluster's stays, and nothing else does.
    fs::remove_file(&mine).unwrap();
    fs::remove_dir(&cluster.dir).unwrap();
    assert_eq!(cluster.left(&run), [""; 0]);
}

/// What `kube up` runs pods with.
#[test]
fn a_step_of_the_kubelet_that_failed_is_taken_again() {
    let scene = Scene::new("late");
    let mut object = scene.pod_object("a");
    object["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "config", "mountPath": "/etc/late"}]);
    object["spec"]["volumes"] = json!([{"name": "config", "configMap": {"name": "late"}}]);
    scene.namespace.create(&object).unwrap();
    let sleep = |_: &str, _: &[String]| Some(["sleep", "1000"].map(str::to_owned).to_vec());
    let mut kubelet = Kubelet::new(cluster(), Some("late"), Box::new(sleep));
    let mut looked = 0;
    let runs = kubelet.until("a pod whose ConfigMap comes late", |it| {
        looked += 1;
        if looked == 5 {
            assert_eq!(it.pods().count(), 0);
            let map =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {}});
            scene.namespace.create(&map).unwrap();
        }
        it.ready().count() == 1
    });
    runs.unwrap();
}
