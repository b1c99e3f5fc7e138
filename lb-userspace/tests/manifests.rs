//! A folder of manifests as a user edits it: real files, real inotify.

#![expect(clippy::unwrap_used, reason = "a test that cannot make its files has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use lb_userspace::model::object::Service;
use lb_userspace::model::{Object, ObjectKey};
use lb_userspace::source::manifests::{Folder, Problem};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// A folder that is followed, and what its updates add up to.
struct Watched {
    dir: TempDir,
    folder: Folder,
    runtime: Runtime,
    objects: BTreeMap<ObjectKey, Object>,
    problems: Vec<Problem>,
}

impl Watched {
    /// Follows a folder that holds `files` from the start.
    fn with(files: &[(&str, String)]) -> Self {
        let dir = TempDir::new().unwrap();
        for (path, text) in files {
            write(&dir.path().join(path), text);
        }
        let folder = Folder::open(dir.path()).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut watched = Self {
            dir,
            folder,
            runtime,
            objects: BTreeMap::new(),
            problems: Vec::new(),
        };
        assert!(
            watched.next(Duration::from_secs(10)),
            "the first update comes at once"
        );
        watched
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        write(&self.path(path), text);
    }

    /// Takes up the next update, if one comes within `limit`.
    fn next(&mut self, limit: Duration) -> bool {
        let next = self
            .runtime
            .block_on(async { timeout(limit, self.folder.next()).await });
        let Ok(update) = next else { return false };
        let update = update.expect("the thread lives");
        for object in update.upserts {
            self.objects.insert(object.key(), (*object).clone());
        }
        for key in update.deletes {
            assert!(self.objects.remove(&key).is_some(), "{key} was not there");
        }
        self.problems = update.problems;
        true
    }

    /// Waits until the folder is seen to hold exactly these objects, written as `name=clusterIP`.
    fn expect(&mut self, expected: &[&str]) {
        while self.seen() != expected {
            let came = self.next(Duration::from_secs(5));
            assert!(
                came,
                "expected {expected:?}, have {:?}, problems {:?}",
                self.seen(),
                self.problems
            );
        }
    }

    /// Waits until exactly these problems are reported, each given by a part of it.
    fn expect_problems(&mut self, expected: &[&str]) {
        let told = |problems: &[Problem]| {
            problems.len() == expected.len()
                && problems
                    .iter()
                    .zip(expected)
                    .all(|(problem, part)| problem.to_string().contains(part))
        };
        while !told(&self.problems) {
            let came = self.next(Duration::from_secs(5));
            assert!(came, "expected {expected:?}, have {:#?}", self.problems);
        }
    }

    /// Asserts that nothing more comes.
    fn expect_quiet(&mut self) {
        assert!(
            !self.next(Duration::from_millis(150)),
            "{:?} {:?}",
            self.seen(),
            self.problems
        );
    }

    fn seen(&self) -> Vec<String> {
        let text = |(key, object): (&ObjectKey, &Object)| match object {
            Object::Service(Service { spec, .. }) => format!("{}={}", key.name, spec.cluster_ip),
            _ => key.to_string(),
        };
        self.objects.iter().map(text).collect()
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: {ip}\n  ports:\n  - port: 80\n"
    )
}

fn services(all: &[(&str, &str)]) -> String {
    all.iter()
        .map(|(name, ip)| service(name, ip))
        .collect::<Vec<_>>()
        .join("---\n")
}

const BROKEN: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: [oops\n";

#[test]
fn yaml_json_lists_and_sub_folders_are_read() {
    let json = r#"{"kind": "ServiceList", "apiVersion": "v1", "items": [
        {"metadata": {"name": "c"}, "spec": {"clusterIP": "10.0.0.3"}}]}
        {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "d"}, "spec": {"clusterIP": "10.0.0.4"}}"#;
    let list = "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: e}\n  spec: {clusterIP: 10.0.0.5}\n- apiVersion: v1\n  kind: Node\n  metadata: {name: n1, namespace: ignored}\nkind: List\n";
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
        (
            "other.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n".to_owned(),
        ),
        (
            "knative.yaml",
            service("hidden", "10.0.0.9").replace("v1", "serving.knative.dev/v1"),
        ),
    ]);
    watched.expect(&[
        "a=10.0.0.1",
        "b=10.0.0.2",
        "c=10.0.0.3",
        "d=10.0.0.4",
        "e=10.0.0.5",
        "Node n1",
    ]);
    watched.expect_problems(&[]);
    assert!(
        watched
            .objects
            .keys()
            .all(|key| *key.namespace == *"default" || key.namespace.is_empty())
    );
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
        &format!(
            "# another comment\n{}status: {{conditions: []}}\n",
            service("a", "10.0.0.1")
        ),
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
fn b17_a_bad_document_disturbs_nothing_else_and_its_last_good_version_stays() {
    let good = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")];
    let mut watched = Watched::with(&[
        ("a.yaml", services(&good)),
        ("other.yaml", service("o", "10.0.0.9")),
    ]);
    let lines = service("a", "10.0.0.1").lines().count() as u64;

    // The name can no longer be read: everything stays, and what can be read is taken over.
    let text = format!(
        "{}---\n{BROKEN}---\n{}",
        service("a", "10.0.0.11"),
        service("c", "10.0.0.13")
    );
    watched.write("a.yaml", &text);
    watched.expect(&["a=10.0.0.11", "b=10.0.0.2", "c=10.0.0.13", "o=10.0.0.9"]);
    watched.expect_problems(&["what this file held before stays"]);
    let line = watched.problems[0].line.unwrap();
    assert!((lines + 2..=lines + 6).contains(&line), "{line}");

    // The name can be read: only that object stays, others may go.
    let text = format!(
        "{}---\n{}",
        service("a", "10.0.0.11"),
        service("b", "10.0.0.12").replace("80", "80000")
    );
    watched.write("a.yaml", &text);
    watched.expect(&["a=10.0.0.11", "b=10.0.0.2", "o=10.0.0.9"]);
    watched.expect_problems(&["Service default/b: spec.ports[0].port: invalid value: integer `80000`"]);
    assert_eq!(watched.problems[0].line, Some(2 * lines + 1));

    watched.write("a.yaml", &services(&[("b", "10.0.0.12")]));
    watched.expect(&["b=10.0.0.12", "o=10.0.0.9"]);
    watched.expect_problems(&[]);
}

#[test]
fn b17_a_bad_item_of_a_list_is_named_with_its_line() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec: {clusterIP: 10.0.0.1}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec: {ports: 7}\n";
    let mut watched = Watched::with(&[("l.yaml", list.to_owned())]);
    watched.expect(&["a=10.0.0.1"]);
    watched.expect_problems(&["l.yaml:8: Service default/b: spec.ports: invalid type"]);
}

#[test]
fn what_is_no_manifest_is_reported_and_harmless() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let mut watched = Watched::with(&[
        ("bomb.yaml", bomb),
        ("deep.yaml", "[".repeat(100_000)),
        ("empty.yaml", String::new()),
        ("good.yaml", service("good", "10.0.0.1")),
        ("nameless.yaml", "apiVersion: v1\nkind: Pod\n".to_owned()),
        ("nokind.yaml", "replicas: 3\n".to_owned()),
        ("tail.json", "{\"kind\": \n".to_owned()),
        ("text.yaml", "just text\n".to_owned()),
    ]);
    watched.expect(&["good=10.0.0.1"]);
    watched.expect_problems(&[
        "bomb.yaml:",
        "deep.yaml:1",
        "nameless.yaml:1: it has no metadata.name",
        "nokind.yaml:1: it has no apiVersion",
        "tail.json:",
        "text.yaml:1:",
    ]);
    fs::write(watched.path("latin1.yaml"), b"name: \xe9\n").unwrap();
    watched.expect_problems(&[
        "bomb.yaml:",
        "deep.yaml:1",
        "latin1.yaml: ",
        "nameless.yaml:1",
        "nokind.yaml:1",
        "tail.json:",
        "text.yaml:1:",
    ]);
}

#[test]
fn b26_of_two_files_with_the_same_object_the_first_counts() {
    let mut watched = Watched::with(&[
        ("b.yaml", service("a", "10.0.0.2")),
        ("c.yaml", service("a", "10.0.0.3")),
    ]);
    watched.expect(&["a=10.0.0.2"]);
    watched.expect_problems(&["Service default/a stands in"]);
    assert_eq!(watched.problems[0].path, watched.path("c.yaml"));
    watched.write("a.yaml", &services(&[("a", "10.0.0.1"), ("a", "10.0.0.4")]));
    watched.expect(&["a=10.0.0.1"]);
    watched.expect_problems(&[
        "a.yaml:10: Service default/a stands in line 1 of this file",
        "b.yaml:1",
        "c.yaml:1",
    ]);
    fs::remove_file(watched.path("a.yaml")).unwrap();
    watched.expect(&["a=10.0.0.2"]);
    fs::remove_file(watched.path("b.yaml")).unwrap();
    watched.expect(&["a=10.0.0.3"]);
    watched.expect_problems(&[]);
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
fn b7_a_folder_that_is_gone_keeps_its_content_until_it_comes_back() {
    let outer = TempDir::new().unwrap();
    let root = outer.path().join("manifests");
    write(&root.join("a.yaml"), &service("a", "10.0.0.1"));
    let mut watched = Watched::with(&[]);
    watched.folder = Folder::open(&root).unwrap();
    watched.expect(&["a=10.0.0.1"]);
    fs::rename(&root, outer.path().join("away")).unwrap();
    watched.expect_problems(&["what the folder held before stays"]);
    watched.expect(&["a=10.0.0.1"]);
    write(&root.join("b.yaml"), &service("b", "10.0.0.2"));
    watched.expect(&["b=10.0.0.2"]);
    watched.expect_problems(&[]);
}

#[test]
fn a_half_written_file_is_left_alone_until_it_is_closed() {
    use std::io::Write as _;
    let mut watched = Watched::with(&[("a.yaml", services(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]))]);
    let mut file = fs::File::create(watched.path("a.yaml")).unwrap();
    file.write_all(service("a", "10.0.0.1").as_bytes()).unwrap();
    watched.expect_quiet();
    file.write_all(format!("---\n{}", service("b", "10.0.0.3")).as_bytes())
        .unwrap();
    drop(file);
    watched.expect(&["a=10.0.0.1", "b=10.0.0.3"]);
}

#[test]
fn a_missing_folder_is_an_error_that_names_it() {
    let error = Folder::open(Path::new("/nonexistent/manifests")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "folder of manifests /nonexistent/manifests: No such file or directory (os error 2)"
    );
}

#[test]
fn fields_may_be_absent_null_or_unknown() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: null}\naddressType: IPv4\nendpoints: null\nports:\n- {port: 80, appProtocol: null}\nsurprise: [1, {2: 3}]\n";
    let watched = Watched::with(&[("s.yaml", slice.to_owned())]);
    let Some(Object::EndpointSlice(slice)) = watched.objects.values().next() else {
        panic!("{:?}", watched.problems);
    };
    assert_eq!(
        slice.ports[0].name.as_deref(),
        Some(""),
        "the API server's default"
    );
    assert!(slice.endpoints.is_empty());
}
