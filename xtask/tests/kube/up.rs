//! `cargo xtask kube`: what the README says of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use xtask::lab::wait_for;

/// A cluster of the test's own, beside one that a developer may have. Taken away however the test ends.
struct Cluster {
    dir: String,
}

impl Cluster {
    fn xtask(&self, words: &[&str]) -> Output {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.arg("kube").args(words).env("SLUICE_KUBE_DIR", &self.dir).output().unwrap()
    }

    /// Runs a line in a shell that `kube env` has prepared.
    fn shell(&self, line: &str) -> String {
        let exports = self.said(&["env"]);
        let output = Command::new("sh").args(["-ec", &(exports + line)]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn said(&self, words: &[&str]) -> String {
        let output = self.xtask(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.xtask(&["down"]);
    }
}

#[test]
fn a_deployment_and_a_service_by_kubectl_answer_and_down_leaves_nothing() {
    let cluster = Cluster { dir: format!("/run/sluice-kube-test-{}", std::process::id()) };
    let refused = cluster.xtask(&["env"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no cluster is up: cargo xtask kube up"));
    cluster.said(&["up", "--nodes", "2"]);
    assert!(String::from_utf8_lossy(&cluster.xtask(&["up"]).stderr).contains("up already"));
    let kubeconfig = cluster.shell("echo $KUBECONFIG");
    let run = Path::new(kubeconfig.trim()).ancestors().nth(2).unwrap();
    assert!(run.exists(), "{}", run.display());

    cluster.shell("kubectl create deployment web --image=any --replicas=3 --port=80");
    cluster.shell("kubectl expose deployment web");
    cluster.shell("kubectl rollout status deployment web --timeout=60s");
    let address = cluster.shell("kubectl get service web -o jsonpath='{.spec.clusterIP}'");
    let pod = cluster.shell("kubectl get pod -o jsonpath='{.items[0].metadata.name}'");
    for place in ["node-1", "node-2", &pod] {
        let asked = ["exec", place, "--", "curl", "-s", "-m", "5", &format!("http://{address}/")];
        wait_for(Duration::from_secs(30), || {
            String::from_utf8_lossy(&cluster.xtask(&asked).stdout).contains(r#""pod":"web-"#)
        })
        .unwrap();
    }
    assert!(cluster.said(&["exec", "node-1", "--", "sluice", "service", "show", "web"]).contains(&address));
    cluster.shell("kubectl delete deployment web --cascade=foreground --timeout=60s");
    assert_eq!(cluster.shell("kubectl get pod -o name"), "");

    let id = run.file_name().unwrap().to_str().unwrap();
    cluster.said(&["down"]);
    assert!(!run.exists() && !Path::new(&cluster.dir).exists());
    let names = fs::read_dir("/run/netns").unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|it| it.to_string_lossy().starts_with(&format!("sl-{id}-"))).collect();
    assert!(left.is_empty(), "{left:?}");
}
