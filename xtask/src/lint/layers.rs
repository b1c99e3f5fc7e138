//! Who may import whom, and where `unsafe` may stand.

use std::path::Path;

use anyhow::{Context, Result};

use super::code::Code;

/// The modules of `lb-userspace`, each with those that it may import. What is lower never knows what is higher.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("status", &["model"]),
    ("plan", &["model"]),
    ("tasks", &[]),
    ("source", &["model", "http", "status", "tasks"]),
    ("net", &["status"]),
    ("bpf", &["net", "status"]),
    ("tables", &["model", "plan", "bpf"]),
    ("reconcile", &["model", "plan", "tables", "status", "tasks"]),
    ("http", &["status"]),
    ("health", &["model", "reconcile", "http", "status"]),
    ("metrics", &["bpf", "counts", "model", "reconcile", "health", "http"]),
    (
        "agent",
        &[
            "health",
            "http",
            "metrics",
            "model",
            "plan",
            "tables",
            "reconcile",
            "bpf",
            "net",
            "source",
            "status",
            "tasks",
        ],
    ),
    ("counts", &["bpf"]),
    ("bench", &["bpf", "model", "net", "plan", "tables", "reconcile"]),
    ("ctl", &["bench", "bpf", "counts", "net", "status"]),
];

/// Words that the files below a path must not name.
const FOREIGN: &[(&str, &[&str])] = &[
    ("lb-common/src", &["aya_ebpf", "lb_ebpf", "lb_userspace"]),
    ("lb-ebpf/src", &["aya", "aya_ebpf", "lb_userspace"]),
    ("lb-userspace/src", &["aya_ebpf"]),
    ("lb-userspace/src/model", PURE),
    ("lb-userspace/src/plan", PURE),
];

/// No clock, no kernel, no waiting.
const PURE: &[&str] =
    &["Instant", "SystemTime", "async", "aya", "libc", "notify", "rtnetlink", "rustix", "tokio"];

/// The programs: they may name what the library beside them must not.
const PROGRAMS: &[&str] = &["lb-ebpf/src/main.rs", "lb-ebpf/src/bpf", "lb-ebpf/src/bench"];

/// Where unsafe code may stand.
const UNSAFE: &[&str] = &[
    "lb-common/src",
    "lb-ebpf/src/main.rs",
    "lb-ebpf/src/bpf",
    "lb-ebpf/src/bench",
    "lb-userspace/src/bpf",
    "lb-userspace/src/tables",
];

/// What is wrong with the source file at `path`, below the root of the work tree: a line for each fault.
///
/// # Errors
/// A file that is not Rust.
pub(super) fn faults(path: &Path, source: &str) -> Result<Vec<String>> {
    let module = module(path);
    let module: Vec<&str> = module.iter().map(String::as_str).collect();
    let code = Code::read(source, &module).with_context(|| format!("read {}", path.display()))?;
    let mut faults = Vec::new();
    let mut fault = |line: usize, text: &str| faults.push(format!("{}:{line}: {text}", path.display()));
    let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));

    if !below(UNSAFE) {
        for word in code.words.iter().filter(|word| word.text == "unsafe") {
            fault(word.line, "unsafe code does not belong here");
        }
    }
    if !below(PROGRAMS) {
        let foreign = FOREIGN.iter().filter(|(folder, _)| path.starts_with(folder));
        for name in foreign.flat_map(|(_, names)| *names) {
            for word in code.words.iter().filter(|word| word.text == *name) {
                fault(word.line, &format!("must not name `{name}`"));
            }
        }
        if path.starts_with("lb-ebpf/src") {
            for word in code.roots.iter().filter(|word| word.text == "bpf") {
                fault(word.line, "the library must not import the programs");
            }
        }
    }
    if let (true, Some(own)) = (path.starts_with("lb-userspace/src"), module.first()) {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| name == own) else {
            fault(1, &format!("module `{own}` has no place among the layers"));
            return Ok(faults);
        };
        let forbidden = |name: &str| {
            name != *own && !allowed.contains(&name) && LAYERS.iter().any(|(layer, _)| *layer == name)
        };
        for word in code.roots.iter().filter(|word| forbidden(&word.text)) {
            fault(word.line, &format!("`{own}` must not import `{}`", word.text));
        }
    }
    Ok(faults)
}

/// The module path that a file of a crate's `src` holds; empty for `lib.rs` and `main.rs`, and outside of `src`.
fn module(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .skip_while(|name| name != "src")
        .skip(1)
        .collect();
    if names.last().is_some_and(|name| name == "mod")
        || matches!(names.as_slice(), [only] if only == "lib" || only == "main")
    {
        names.pop();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(path: &str, source: &str) -> Vec<String> {
        faults(Path::new(path), source).unwrap()
    }

    #[test]
    fn an_import_against_the_flow_is_found() {
        assert_eq!(
            faults_of("lb-userspace/src/plan/diff.rs", "use crate::model::Key;\nuse crate::tables::Tables;"),
            ["lb-userspace/src/plan/diff.rs:2: `plan` must not import `tables`"]
        );
        assert_eq!(faults_of("lb-userspace/src/model/mod.rs", "use super::plan::Op;").len(), 1);
        assert_eq!(faults_of("lb-userspace/src/bpf/map.rs", "use crate::{ctl::Out, plan};").len(), 2);
        assert_eq!(faults_of("lb-userspace/src/tables/mod.rs", "use crate::{bpf::map, plan::Op};"), [""; 0]);
        assert_eq!(faults_of("lb-userspace/src/main.rs", "use lb_userspace::{agent, ctl};"), [""; 0]);
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        assert_eq!(faults_of("lb-userspace/src/stray.rs", "").len(), 1);
    }

    #[test]
    fn the_library_of_the_datapath_knows_neither_its_programs_nor_the_kernel() {
        assert_eq!(faults_of("lb-ebpf/src/flow/mod.rs", "use aya_ebpf::helpers;").len(), 1);
        assert_eq!(faults_of("lb-ebpf/src/flow/mod.rs", "use crate::bpf::env;").len(), 1);
        assert_eq!(faults_of("lb-ebpf/src/bpf/env.rs", "use aya_ebpf::helpers; unsafe fn f() {}"), [""; 0]);
    }

    #[test]
    fn the_model_has_no_clock_and_only_some_places_are_unsafe() {
        assert_eq!(faults_of("lb-userspace/src/model/mod.rs", "use std::time::Instant;").len(), 1);
        assert_eq!(faults_of("lb-userspace/src/net/mod.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert_eq!(faults_of("lb-userspace/src/bpf/sys.rs", "fn f() { unsafe { g() } }"), [""; 0]);
    }
}
