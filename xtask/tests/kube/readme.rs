//! What README.md has its readers type.

use std::fs;

use xtask::sh;

/// The lines of the one block of shell lines below `heading` that has `word` in it.
pub(crate) fn block(heading: &str, word: &str) -> String {
    let text = fs::read_to_string(sh::root().join("README.md")).unwrap();
    let (_, below) = text.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let mut blocks = below.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```\n").next().unwrap());
    blocks.find(|block| block.contains(word)).unwrap_or_else(|| panic!("{heading}: no {word}")).to_owned()
}
