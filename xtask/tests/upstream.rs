//! `docs/upstream.md` says for each title of upstream's end-to-end tests which test mirrors it. This holds the page to the
//! tree.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use xtask::titles;

/// Names of the tests in the files of `dir`.
fn tests(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let files = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let text = fs::read_to_string(file).unwrap();
        let mut is_test = false;
        for line in text.lines() {
            is_test |= line == "#[test]";
            if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
                names.extend(rest.split('(').next().map(str::to_owned));
                is_test = false;
            }
        }
    }
    names
}

#[test]
fn every_title_names_its_test_and_every_test_has_its_title() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (mirrored, lab) = (tests(&folder.join("kube/upstream")), tests(&folder.join("lab")));
    let sections = titles::read().unwrap();
    // As many as upstream has, of `Services` (those of Conformance, and the others) and of `LoadBalancers`.
    let counts: Vec<_> = sections.iter().take(4).map(|section| section.titles.len()).collect();
    assert_eq!(counts, [15, 36, 13, 4]);
    let mut named = BTreeSet::new();
    for row in sections.iter().flat_map(|section| &section.titles) {
        let Some(test) = &row.test else { continue };
        assert!(mirrored.contains(test) || lab.contains(test), "{}: there is no test {test}", row.title);
        assert!(*test == row.name() || lab.contains(test), "{} is held by {test}: not its name", row.title);
        assert!(named.insert(test.clone()), "{test} holds two titles");
    }
    let without: Vec<_> = mirrored.difference(&named).collect();
    assert!(without.is_empty(), "tests that no title of docs/upstream.md names: {without:?}");
}
