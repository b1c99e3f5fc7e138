//! Matrices that tests hold, printed once their layer has run: who asks in the rows, of whom or when in the columns, what
//! happens in the cells.
//!
//! A test hands each matrix on as a line of JSON in the file that [`VARIABLE`] names; without the variable nobody wants it.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fmt::Write as _, process};

use anyhow::{Context, Result, ensure};
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};

/// The variable that names the file.
pub const VARIABLE: &str = "SLUICE_MATRICES";

/// What one test found in one setting.
#[derive(Debug, Serialize, Deserialize)]
pub struct Matrix {
    title: String,
    setting: String,
    cells: Vec<Cell>,
}

/// What happens in one place of it.
#[derive(Debug, Serialize, Deserialize)]
struct Cell {
    row: String,
    column: String,
    /// What was expected.
    text: String,
    /// In how many ways it was tried.
    ways: usize,
    /// What happened instead; empty if nothing did.
    instead: Vec<String>,
}

impl Matrix {
    /// An empty one. `setting`: what distinguishes it from others of this title.
    #[must_use]
    pub fn new(title: &str, setting: &str) -> Self {
        Self { title: title.to_owned(), setting: setting.to_owned(), cells: Vec::new() }
    }

    /// Notes that `text` was expected, tried in so many `ways`, and what happened `instead` in some of them.
    pub fn cell(&mut self, row: &str, column: &str, text: &str, (ways, instead): (usize, Vec<String>)) {
        let [row, column, text] = [row, column, text].map(str::to_owned);
        self.cells.push(Cell { row, column, text, ways, instead });
    }

    /// Hands it on.
    ///
    /// # Errors
    /// When the file cannot be written; and after that, what did not happen as expected.
    pub fn finish(self) -> Result<()> {
        if let Some(path) = env::var_os(VARIABLE) {
            let line = serde_json::to_string(&self)? + "\n";
            let file = OpenOptions::new().append(true).create(true).open(&path);
            file.and_then(|mut file| file.write_all(line.as_bytes())).context("hand a matrix on")?;
        }
        let failed: Vec<_> = self.cells.iter().flat_map(|cell| &cell.instead).cloned().collect();
        ensure!(failed.is_empty(), "{}, {}: {}", self.title, self.setting, failed.join("\n"));
        Ok(())
    }
}

/// The file where tests put them. Removed on drop.
#[derive(Debug)]
pub struct Matrices(PathBuf);

impl Matrices {
    /// Names a file that no other run has.
    #[must_use]
    pub fn new() -> Self {
        Self(env::temp_dir().join(format!("sluice-matrices-{}", process::id())))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All of them as text, those of one title in one table; nothing if there are none.
    ///
    /// # Errors
    /// When the file is not what tests write.
    pub fn report(&self) -> Result<String> {
        let Ok(text) = fs::read_to_string(&self.0) else { return Ok(String::new()) };
        let all: Vec<Matrix> =
            text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("read the matrices")?;
        let titles = distinct(all.iter().map(|matrix| &matrix.title));
        Ok(titles.into_iter().map(|title| table(title, &all)).collect())
    }
}

impl Default for Matrices {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Matrices {
    fn drop(&mut self) {
        // Where no test wrote any there is none.
        let _ = fs::remove_file(&self.0);
    }
}

/// Without those that were there before.
fn distinct<'a>(all: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    all.map(String::as_str).filter(|text| seen.insert(*text)).collect()
}

/// The table of one title.
fn table(title: &str, all: &[Matrix]) -> String {
    let same: Vec<_> = all.iter().filter(|matrix| matrix.title == title).collect();
    let cells: Vec<_> = same.iter().flat_map(|matrix| &matrix.cells).collect();
    let columns = distinct(cells.iter().map(|cell| &cell.column));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([""].into_iter().chain(columns.iter().copied()));
    for row in distinct(cells.iter().map(|cell| &cell.row)) {
        let text = |column: &&str| {
            let at: Vec<_> = cells.iter().filter(|cell| cell.row == row && cell.column == **column).collect();
            if at.iter().any(|cell| !cell.instead.is_empty()) {
                return "NOT HELD".to_owned();
            }
            distinct(at.iter().map(|cell| &cell.text)).join(" or ")
        };
        table.add_row([row.to_owned()].into_iter().chain(columns.iter().map(text)));
    }
    let ways: usize = cells.iter().map(|cell| cell.ways).sum();
    let failed: usize = cells.iter().map(|cell| cell.instead.len()).sum();
    let held = if failed == 0 { "all held".to_owned() } else { format!("{failed} NOT HELD") };
    let settings = distinct(same.iter().map(|matrix| &matrix.setting));
    let mut text = format!("\n{title}\n{}\n", table.trim_fmt());
    // Writing to a string does not fail.
    let _ = writeln!(text, "{ways} vectors in {} settings, {held}: {}", settings.len(), settings.join("; "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(setting: &str, instead: &[&str]) -> Matrix {
        let mut matrix = Matrix::new("who answers", setting);
        matrix.cell("pod", "Cluster", "here there", (4, Vec::new()));
        matrix.cell("pod", "Local", "here", (4, instead.iter().map(|&text| text.to_owned()).collect()));
        matrix
    }

    #[test]
    fn settings_of_one_title_are_one_table() {
        let text = table("who answers", &[of("one", &[]), of("two", &[])]);
        assert!(
            text.contains("here there") && text.contains("16 vectors in 2 settings, all held: one; two"),
            "{text}"
        );
    }

    #[test]
    fn what_was_not_held_is_said() {
        let text = table("who answers", &[of("one", &[]), of("two", &["silence"])]);
        assert!(text.contains("NOT HELD") && text.contains("1 NOT HELD: one; two"), "{text}");
        assert!(of("two", &["silence"]).finish().unwrap_err().to_string().contains("silence"));
        assert!(of("one", &[]).finish().is_ok());
    }
}
