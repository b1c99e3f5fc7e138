//! What is read, and what a user may do with files and folders.

use std::fs;
use std::os::unix::fs::symlink;

use lb_userspace::model::Object;
use tempfile::TempDir;

use super::support::*;

#[test]
fn yaml_json_lists_and_sub_folders_are_read() {
    let json = r#"{"kind": "ServiceList", "apiVersion": "v1", "items": [
        {"metadata": {"name": "c"}, "spec": {"clusterIP": "10.0.0.3", "ports": [{"port": 80}]}}]}
        {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "d"}, "spec": {"clusterIP": "10.0.0.4", "ports": [{"port": 80}]}}"#;
    let list = "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: e}\n  spec: {clusterIP: 10.0.0.5, ports: [{port: 80}]}\n- apiVersion: v1\n  kind: Node\n  metadata: {name: n1, namespace: ignored}\nkind: List\n";
    let mut watched = Watched::with(&[
        (
            "a.yaml",
            format!(
                "# a comment\n%YAML 1.2\n---\n{}...\n---\n---\n",
                services(&[("a", "10.0.0.1"), ("b", "10.0.0.2")])
            ),
        ),
        ("deep/er/c.json", json.to_owned()),
        ("list.yml", list.to_owned()),
        ("README.md", "kind: Service".to_owned()),
        (".hidden.yaml", service("hidden", "10.0.0.9")),
        ("a.yaml~", service("hidden", "10.0.0.9")),
        (".a.yaml.swp", service("hidden", "10.0.0.9")),
        (".git/x.yaml", service("hidden", "10.0.0.9")),
        ("other.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n".to_owned()),
        ("knative.yaml", service("hidden", "10.0.0.9").replace("v1", "serving.knative.dev/v1")),
    ]);
    watched.expect(&["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3", "d=10.0.0.4", "e=10.0.0.5", "Node n1"]);
    watched.expect_problems(&[]);
    assert!(watched.objects.keys().all(|key| *key.namespace == *"default" || key.namespace.is_empty()));
}

#[test]
fn edits_renames_and_removals_are_followed() {
    let mut watched = Watched::with(&[("a.yaml", services(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]))]);
    watched.expect(&["a=10.0.0.1", "b=10.0.0.2"]);

    watched.write("a.yaml", &services(&[("a", "10.0.0.7"), ("b", "10.0.0.2")]));
    watched.expect(&["a=10.0.0.7", "b=10.0.0.2"]);

    watched.write("a.yaml.new", &services(&[("b", "10.0.0.2"), ("c", "10.0.0.3")]));
    watched.write("4913", "");
    fs::remove_file(watched.path("4913")).unwrap();
    fs::rename(watched.path("a.yaml.new"), watched.path("a.yaml")).unwrap();
    watched.expect(&["b=10.0.0.2", "c=10.0.0.3"]);

    fs::rename(watched.path("a.yaml"), watched.path("z.yaml")).unwrap();
    watched.expect_quiet();
    watched.expect(&["b=10.0.0.2", "c=10.0.0.3"]);

    fs::remove_file(watched.path("z.yaml")).unwrap();
    watched.expect(&[]);
}

#[test]
fn b25_a_rewrite_of_the_same_content_is_no_change() {
    let mut watched = Watched::with(&[("a.yaml", service("a", "10.0.0.1"))]);
    watched.write(
        "a.yaml",
        &format!("# another comment\n{}status: {{conditions: []}}\n", service("a", "10.0.0.1")),
    );
    watched.expect_quiet();
}

#[test]
fn folders_may_come_move_and_go() {
    let mut watched = Watched::with(&[]);
    watched.expect(&[]);
    watched.write("new/deep/a.yaml", &service("a", "10.0.0.1"));
    watched.write("new/deep/b.yaml", &service("b", "10.0.0.2"));
    watched.expect(&["a=10.0.0.1", "b=10.0.0.2"]);
    fs::rename(watched.path("new"), watched.path("moved")).unwrap();
    watched.expect_quiet();
    watched.write("moved/deep/a.yaml", &service("a", "10.0.0.8"));
    watched.expect(&["a=10.0.0.8", "b=10.0.0.2"]);
    fs::remove_dir_all(watched.path("moved")).unwrap();
    watched.expect(&[]);
}

#[test]
fn a_mounted_config_map_is_swapped_at_once() {
    let mut watched = Watched::with(&[("..1/a.yaml", service("a", "10.0.0.1"))]);
    symlink("..1", watched.path("..data")).unwrap();
    symlink("..data/a.yaml", watched.path("a.yaml")).unwrap();
    watched.expect(&["a=10.0.0.1"]);
    for round in 2..5 {
        let ip = format!("10.0.0.{round}");
        watched.write(&format!("..{round}/a.yaml"), &service("a", &ip));
        symlink(format!("..{round}"), watched.path("..data_tmp")).unwrap();
        fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
        fs::remove_dir_all(watched.path(&format!("..{}", round - 1))).unwrap();
        watched.expect(&[&format!("a={ip}")]);
    }
}

#[test]
fn symbolic_links_are_followed_once() {
    let elsewhere = TempDir::new().unwrap();
    write(&elsewhere.path().join("dir/b.yaml"), &service("b", "10.0.0.2"));
    write(&elsewhere.path().join("a.txt"), &service("a", "10.0.0.1"));
    let mut watched = Watched::with(&[("sub/c.yaml", service("c", "10.0.0.3"))]);
    symlink("..", watched.path("sub/loop")).unwrap();
    symlink("self.yaml", watched.path("self.yaml")).unwrap();
    symlink(elsewhere.path().join("dir"), watched.path("link")).unwrap();
    symlink(elsewhere.path().join("a.txt"), watched.path("a.yaml")).unwrap();
    watched.expect(&["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3"]);
    write(&elsewhere.path().join("dir/b.yaml"), &service("b", "10.0.0.12"));
    watched.expect(&["a=10.0.0.1", "b=10.0.0.12", "c=10.0.0.3"]);
    write(&elsewhere.path().join("a.txt"), &service("a", "10.0.0.11"));
    watched.expect(&["a=10.0.0.11", "b=10.0.0.12", "c=10.0.0.3"]);
    fs::remove_file(watched.path("link")).unwrap();
    watched.expect(&["a=10.0.0.11", "c=10.0.0.3"]);
}

#[test]
fn fields_may_be_absent_null_or_unknown() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: null}\naddressType: IPv4\nendpoints: null\nports:\n- {port: 80, appProtocol: null}\nsurprise: [1, {2: 3}]\n";
    let watched = Watched::with(&[("s.yaml", slice.to_owned())]);
    let Some(Object::EndpointSlice(slice)) = watched.objects.values().next() else {
        panic!("{:?}", watched.problems);
    };
    assert_eq!(slice.ports[0].name.as_deref(), Some(""), "the API server's default");
    assert!(slice.endpoints.is_empty());
}
