//! `docs/behaviours.md` says for each behaviour that a Service proxy owes its users (B1 to B122) and for each change of a
//! Service in use which test holds it, and `docs/differences.md` which test shows a difference from kube-proxy. This holds the tables: every behaviour has its row,
//! and every test that is named exists.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What stands in place of a test for what Sluice leaves to others.
const WITHOUT: &str = "not Sluice's";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a work tree")
}

/// Names of all functions below `dir`.
fn functions(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let plain = text.lines().map(|line| line.trim_start().trim_start_matches("async "));
            let after = plain.filter_map(|line| line.strip_prefix("fn "));
            names.extend(after.filter_map(|line| line.split(['(', '<']).next()).map(str::to_owned));
        }
    }
}

/// Names of all functions of the workspace.
fn all_functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for dir in ["lb-common", "lb-ebpf", "lb-userspace", "xtask"] {
        for part in ["src", "tests"] {
            functions(&root().join(dir).join(part), &mut names);
        }
    }
    names
}

/// The rows of a page that begin so, by columns.
fn rows<'a>(text: &'a str, begin: &str) -> Vec<Vec<&'a str>> {
    let rows = text.lines().filter(|line| line.starts_with(begin));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The tests that a column names. A fixture is named with its file.
fn tests(column: &str) -> impl Iterator<Item = &str> {
    column.split('`').skip(1).step_by(2).map(|test| test.rsplit("::").next().unwrap())
}

#[test]
fn every_difference_is_shown_by_a_test_that_exists() {
    let names = all_functions();
    let text = fs::read_to_string(root().join("docs/differences.md")).unwrap();
    for row in rows(&text, "| `") {
        let [name, _, _, shown] = row.as_slice() else { panic!("a row has four columns: {row:?}") };
        let tests: Vec<_> = tests(shown).collect();
        assert!(*shown == "the run" || !tests.is_empty(), "{name} is shown by nothing: {shown}");
        assert!(tests.iter().all(|test| names.contains(*test)), "{name}: {shown} is not there");
    }
}

/// Holds what a column says of `what`: tests that are there, or nothing where that is somebody else's.
fn held(what: &str, column: &str, names: &BTreeSet<String>) {
    let tests: Vec<&str> = tests(column).collect();
    assert!(!tests.is_empty() || column.starts_with(WITHOUT), "{what} is held by nothing: {column}");
    for test in tests {
        assert!(names.contains(test), "{what} is said to be held by {test}, which is not there");
    }
}

#[test]
fn every_behaviour_and_every_change_names_tests_that_exist() {
    let names = all_functions();
    let text = fs::read_to_string(root().join("docs/behaviours.md")).unwrap();
    let (behaviours, changes) = text.split_once("## Changes in flight").unwrap();
    let behaviours = rows(behaviours, "| B");
    for (number, row) in (1..).zip(&behaviours) {
        let [behaviour, what, column] = row.as_slice() else { panic!("a row has three columns: {row:?}") };
        assert_eq!(*behaviour, format!("B{number}"), "rows stand in order");
        assert!(!what.is_empty(), "{behaviour}: say what it is");
        held(behaviour, column, &names);
    }
    assert_eq!(behaviours.len(), 122);
    // Without the heading.
    let changes = rows(changes, "| ").split_off(1);
    for row in &changes {
        let [what, column] = row.as_slice() else { panic!("a row has two columns: {row:?}") };
        held(what, column, &names);
    }
    assert_eq!(changes.len(), 18);
}
