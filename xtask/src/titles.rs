//! The table of upstream's end-to-end tests, `docs/upstream.md`: which of them this repository's own tests mirror.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::sh;

/// A part of the page: what the titles below its heading are those of.
#[derive(Debug)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// Its rows.
    pub titles: Vec<Title>,
}

/// An upstream test.
#[derive(Debug)]
pub struct Title {
    /// Its title, with tags such as `[LinuxOnly]`.
    pub title: String,
    /// What the page says of it, checked to be of one of the kinds that a row may be.
    pub says: String,
    /// The test that mirrors it.
    pub test: Option<String>,
}

impl Title {
    /// The name that a test of this title has.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = String::new();
        let mut in_tag = false;
        for letter in self.title.chars() {
            in_tag |= letter == '[';
            if letter.is_ascii_alphanumeric() && !in_tag {
                name.push(letter.to_ascii_lowercase());
            } else if !name.ends_with('_') && !name.is_empty() {
                name.push('_');
            }
            in_tag &= letter != ']';
        }
        name.truncate(name.trim_end_matches('_').len());
        name
    }
}

/// What stands instead of a test where somebody else does what the title is about; a reason follows.
const OTHERS: [&str; 2] = ["needs a kubelet: ", "needs a cloud: "];

/// Reads the page.
///
/// # Errors
/// When it is not there, or a row reads neither `held: TEST` nor `needs a kubelet: REASON` nor `needs a cloud: REASON`.
pub fn read() -> Result<Vec<Section>> {
    let path = sh::root().join("docs/upstream.md");
    parse(&fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?)
        .with_context(|| path.display().to_string())
}

fn parse(page: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            sections.push(Section { heading: heading.to_owned(), titles: Vec::new() });
        } else if let (Some(section), Some(row)) = (sections.last_mut(), line.strip_prefix("| ")) {
            let columns: Vec<_> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
            match columns[..] {
                ["title", _] => {}
                [title, says] => section.titles.push(row_of(title, says)?),
                _ => bail!("a row has two columns: {line}"),
            }
        }
    }
    Ok(sections)
}

fn row_of(title: &str, says: &str) -> Result<Title> {
    let test = says.split('`').nth(1).map(str::to_owned);
    let held = says.starts_with("held: `");
    let reason = |other: &&str| says.strip_prefix(other).is_some_and(|reason| !reason.is_empty());
    ensure!(
        held || test.is_none() && OTHERS.iter().any(reason),
        "`{title}` reads neither `held: TEST` nor `{}REASON`, but `{says}`",
        OTHERS.join("REASON` nor `")
    );
    Ok(Title { title: title.to_owned(), says: says.to_owned(), test })
}

/// The titles of `Services` and `LoadBalancers`, and what is said of each; and those of all sections whose test is not
/// among `passed`.
#[must_use]
pub fn report(sections: &[Section], passed: &BTreeSet<String>) -> (String, Vec<String>) {
    let mut text = String::new();
    let printed = |it: &&Section| ["Services", "LoadBalancers"].iter().any(|of| it.heading.starts_with(of));
    for section in sections.iter().filter(printed) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{} ({} titles)", section.heading, section.titles.len());
        for row in &section.titles {
            let word = row.says.split([':', ';']).next().unwrap_or_default();
            let _ = writeln!(text, "  {word:<8} {}", row.title);
        }
    }
    let all = sections.iter().flat_map(|section| &section.titles);
    let lacking = all.filter(|row| row.test.as_ref().is_some_and(|test| !passed.contains(test)));
    (text, lacking.map(|row| row.title.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "| held | what it means |\n## Services\n| title | |\n|---|---|\n\
        | should x=Y (a: b) [LinuxOnly] | held: `should_x_y_a_b` |\n| should z | needs a cloud: it does |\n";

    #[test]
    fn rows_have_names_and_one_of_three_kinds() {
        let sections = parse(PAGE).unwrap();
        let [section] = &sections[..] else { panic!("{sections:?}") };
        assert_eq!(section.titles[0].name(), "should_x_y_a_b");
        assert_eq!(section.titles[0].test.as_deref(), Some("should_x_y_a_b"));
        assert_eq!(section.titles[1].test, None);
        assert!(parse("## One\n| should z | needs a kubelet: `should_z` |\n").is_err());
        assert!(parse("## One\n| should z | not yet |\n").is_err());
        assert!(parse("## One\n| should z | needs a kubelet: |\n").is_err());
    }

    #[test]
    fn a_held_row_without_a_passed_test_is_named() {
        let sections = parse(PAGE).unwrap();
        let (text, lacking) = report(&sections, &BTreeSet::new());
        assert_eq!(lacking, ["should x=Y (a: b) [LinuxOnly]"]);
        assert!(text.contains("held     should x=Y") && text.contains("needs a cloud should z"), "{text}");
        assert!(report(&sections, &["should_x_y_a_b".to_owned()].into()).1.is_empty());
    }
}
