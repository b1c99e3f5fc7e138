//! What is wrong in a folder, and what happens to the rest.

use std::fs;
use std::path::Path;

use lb_userspace::source::manifests::Folder;
use lb_userspace::status::Problem;
use tempfile::TempDir;

use super::support::*;

/// The line that a problem names.
fn line(problem: &Problem) -> u64 {
    problem.object.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn b17_a_bad_document_disturbs_nothing_else_and_its_last_good_version_stays() {
    let good = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")];
    let mut watched = Watched::with(&[("a.yaml", services(&good)), ("other.yaml", service("o", "10.0.0.9"))]);
    let lines = service("a", "10.0.0.1").lines().count() as u64;

    // The name can no longer be read: everything stays, and what can be read is taken over.
    let text = format!("{}---\n{BROKEN}---\n{}", service("a", "10.0.0.11"), service("c", "10.0.0.13"));
    watched.write("a.yaml", &text);
    watched.expect(&["a=10.0.0.11", "b=10.0.0.2", "c=10.0.0.13", "o=10.0.0.9"]);
    watched.expect_problems(&["what this file held before stays"]);
    let line = line(&watched.problems[0]);
    assert!((lines + 2..=lines + 6).contains(&line), "{line}");

    // The name can be read: only that object stays, others may go.
    let text =
        format!("{}---\n{}", service("a", "10.0.0.11"), service("b", "10.0.0.12").replace("80", "80000"));
    watched.write("a.yaml", &text);
    watched.expect(&["a=10.0.0.11", "b=10.0.0.2", "o=10.0.0.9"]);
    watched.expect_problems(&["Service default/b: spec.ports[0].port: invalid value: integer `80000`"]);
    assert_eq!(self::line(&watched.problems[0]), 2 * lines + 1);

    watched.write("a.yaml", &services(&[("b", "10.0.0.12")]));
    watched.expect(&["b=10.0.0.12", "o=10.0.0.9"]);
    watched.expect_problems(&[]);
}

#[test]
fn b7_a_folder_is_complete_when_each_file_could_be_read_once() {
    let half = format!("{}---\n{BROKEN}", service("a", "10.0.0.1"));
    let mut watched = Watched::with(&[("a.yaml", half.clone()), ("b.yaml", service("b", "10.0.0.2"))]);
    watched.expect(&["a=10.0.0.1", "b=10.0.0.2"]);
    assert!(!watched.complete);
    watched.write("a.yaml", &half.replace("10.0.0.1", "10.0.0.11"));
    watched.expect(&["a=10.0.0.11", "b=10.0.0.2"]);
    assert!(!watched.complete, "the other document has still not been read");
    watched.write("a.yaml", &service("a", "10.0.0.1"));
    watched.expect_problems(&[]);
    assert!(watched.complete);
    watched.write("a.yaml", BROKEN);
    watched.expect_problems(&["what this file held before stays"]);
    assert!(watched.complete, "its last good version stays");
}

#[test]
fn b17_what_an_api_server_would_refuse_keeps_its_last_good_version() {
    let mut watched =
        Watched::with(&[("a.yaml", service("a", "10.0.0.1")), ("b.yaml", service("b", "10.0.0.2"))]);
    watched.expect(&["a=10.0.0.1", "b=10.0.0.2"]);
    watched.write("a.yaml", &service("a", "10.0.0.1").replace("ports", "prots"));
    watched.write("b.yaml", &service("b", "10.0.0.2x"));
    watched.expect(&["a=10.0.0.1", "b=10.0.0.2"]);
    watched.expect_problems(&[
        "Service default/a: spec.ports: a Service needs at least one port",
        "Service default/b: spec.clusterIP: `10.0.0.2x` is not an address",
    ]);
}

#[test]
fn b17_a_bad_item_of_a_list_is_named_with_its_line() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec: {ports: 7}\n";
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
    let mut watched =
        Watched::with(&[("b.yaml", service("a", "10.0.0.2")), ("c.yaml", service("a", "10.0.0.3"))]);
    watched.expect(&["a=10.0.0.2"]);
    watched.expect_problems(&["Service default/a stands in"]);
    assert_eq!(watched.problems[0].object, format!("{}:1", watched.path("c.yaml").display()));
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
    file.write_all(format!("---\n{}", service("b", "10.0.0.3")).as_bytes()).unwrap();
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
