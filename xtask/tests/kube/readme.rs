//! What README.md has its readers type.

use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::kube::{Binaries, Cluster, Tool};
use xtask::sh;

/// The lines of the one block of shell lines below `heading` that has `word` in it.
pub(crate) fn block(heading: &str, word: &str) -> String {
    let text = fs::read_to_string(sh::root().join("README.md")).unwrap();
    let (_, below) = text.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let mut blocks = below.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```\n").next().unwrap());
    blocks.find(|block| block.contains(word)).unwrap_or_else(|| panic!("{heading}: no {word}")).to_owned()
}

/// Runs `lines` in `folder` as one who may do everything in `cluster`, with kubectl and helm on the search path: what they
/// print.
pub(crate) fn run(cluster: &Cluster, folder: &Path, lines: &str) -> String {
    let binaries = Binaries::get(&[Tool::Kubectl, Tool::Helm]).unwrap();
    let mut path = binaries.folders().into_iter().map(Path::to_owned).collect::<Vec<_>>();
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut shell = Command::new("sh");
    shell.args(["-euc", lines]).current_dir(folder).env("PATH", std::env::join_paths(path).unwrap());
    sh::read(cluster.plane().as_administrator(&mut shell)).unwrap()
}
