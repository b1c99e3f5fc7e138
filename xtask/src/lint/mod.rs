//! `cargo xtask lint`: all that is checked without running anything.

mod code;
mod layers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup;
use crate::{build, sh};

/// Words that say something is not finished.
const UNFINISHED: &[&str] = &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("X", "XX")];

/// The files that people write, by the end of their names.
const TEXTS: &[&str] = &["md", "rs", "sh", "toml", "yaml", "yml"];

/// The tests that need root are code too, and so is what the fuzzing engine runs.
const FEATURES: &str = "lb-userspace/root-tests,xtask/root-tests,fuzz/engine";

/// Runs every check, the later ones too where an earlier one fails.
///
/// # Errors
/// A tool that cannot be had; after all checks: which of them failed.
pub fn run() -> Result<()> {
    let tools = setup::build_tools()?;
    setup::clippy(&tools.compiler)?;
    setup::need(setup::ENGINE)?;
    let deny = setup::licence_checker()?;
    let checks: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("format", &|| sh::run(sh::cargo().args(["fmt", "--all", "--check"]))),
        ("imports, unsafe code, unfinished work", &source),
        ("licences", &|| licences(&deny)),
        ("clippy", &clippy),
        ("clippy of the eBPF programs", &|| build::clippy(&tools)),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        sh::say(&format!("lint: {name}"));
        if let Err(error) = check() {
            eprintln!("{error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint: {}", failed.join("; "));
    }
    Ok(())
}

fn clippy() -> Result<()> {
    let mut cargo = sh::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--features", FEATURES, "--", "-D", "warnings"]);
    sh::run(&mut cargo)
}

/// Against the list in `deny.toml`.
fn licences(checker: &Path) -> Result<()> {
    let mut deny = Command::new(checker);
    deny.current_dir(sh::root()).args(["--workspace", "check", "--hide-inclusion-graph", "licenses"]);
    sh::run(&mut deny)
}

/// What can be seen in the text of the tree.
fn source() -> Result<()> {
    let mut files = Vec::new();
    collect(sh::root(), &mut files)?;
    files.sort();
    let mut faults = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let path = file.strip_prefix(sh::root()).unwrap_or(&file);
        faults.extend(unfinished(path, &text));
        if path.extension().is_some_and(|end| end == "rs") {
            faults.extend(layers::faults(path, &text)?);
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(())
}

/// The files that people write below `folder`: neither what is built nor what is hidden.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|end| TEXTS.iter().any(|text| end == *text)) {
            files.push(path);
        }
    }
    Ok(())
}

fn unfinished(path: &Path, text: &str) -> Vec<String> {
    let marked =
        |line: &str| line.split(|c: char| !c.is_alphanumeric()).any(|word| UNFINISHED.contains(&word));
    let lines = text.lines().enumerate().filter(|(_, line)| marked(line));
    lines.map(|(at, line)| format!("{}:{}: unfinished: {}", path.display(), at + 1, line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_found_by_whole_words() {
        let mark = UNFINISHED[1];
        let text = format!("fine\n// {mark}: later\n\"{mark}S\"\n");
        assert_eq!(unfinished(Path::new("a.rs"), &text), [format!("a.rs:2: unfinished: // {mark}: later")]);
    }

    #[test]
    fn the_tree_itself_keeps_to_its_layers() {
        source().unwrap();
    }
}
