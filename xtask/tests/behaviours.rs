//! `docs/behaviours.md` says for each behaviour that a Service proxy owes its users (B1 to B122) which test holds it. This
//! holds the table: every behaviour has its row, and every test that is named exists.
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

#[test]
fn every_behaviour_names_tests_that_exist() {
    let mut names = BTreeSet::new();
    for dir in ["lb-common", "lb-ebpf", "lb-userspace", "xtask"] {
        for part in ["src", "tests"] {
            functions(&root().join(dir).join(part), &mut names);
        }
    }
    let text = fs::read_to_string(root().join("docs/behaviours.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| B"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for (number, row) in (1..).zip(&rows) {
        let [behaviour, what, held] = row.as_slice() else { panic!("a row has three columns: {row:?}") };
        assert_eq!(*behaviour, format!("B{number}"), "rows stand in order");
        assert!(!what.is_empty(), "{behaviour}: say what it is");
        let tests: Vec<&str> = held.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            assert!(
                WITHOUT.iter().any(|word| held.starts_with(word)),
                "{behaviour} is held by nothing: {held}"
            );
        }
        for test in tests {
            // A fixture is named with its file.
            let test = test.rsplit("::").next().unwrap();
            assert!(names.contains(test), "{behaviour} is said to be held by {test}, which is not there");
        }
    }
    assert_eq!(rows.len(), 122);
}
