//! `docs/behaviours.md` says for each behaviour that a Service proxy owes its users (B1 to B122) which test holds it, and
//! `docs/differences.md` which test shows a difference from kube-proxy. This holds the tables: every behaviour has its row,
//! and every test that is named exists.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What stands in place of a test for what Sluice does not do yet, or leaves to others.
const WITHOUT: [&str; 2] = ["not yet", "not Sluice's"];

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

#[test]
fn every_behaviour_names_tests_that_exist() {
    let names = all_functions();
    let text = fs::read_to_string(root().join("docs/behaviours.md")).unwrap();
    let rows = rows(&text, "| B");
    for (number, row) in (1..).zip(&rows) {
        let [behaviour, what, held] = row.as_slice() else { panic!("a row has three columns: {row:?}") };
        assert_eq!(*behaviour, format!("B{number}"), "rows stand in order");
        assert!(!what.is_empty(), "{behaviour}: say what it is");
        let tests: Vec<&str> = tests(held).collect();
        if tests.is_empty() {
            assert!(
                WITHOUT.iter().any(|word| held.starts_with(word)),
                "{behaviour} is held by nothing: {held}"
            );
        }
        for test in tests {
            assert!(names.contains(test), "{behaviour} is said to be held by {test}, which is not there");
        }
    }
    assert_eq!(rows.len(), 122);
}
