//! A report as a page of the documentation, in Markdown.

use std::fmt::Write as _;

use crate::report::{SIDES, cell, goal_text};
use crate::{Report, Verdict};

impl Report {
    /// The page; `made` says how it was.
    #[must_use]
    pub fn page(&self, made: &str) -> String {
        let mut page = format!("# Results\n\n{made}\n\n## The machine\n\n");
        let facts = self.machine.lines().map(|(name, value)| vec![name.to_owned(), value]);
        let versions = self.versions.iter().map(|(name, version)| vec![name.clone(), version.clone()]);
        table(&mut page, &["", ""], facts.into_iter().chain(versions));
        let missed = self.verdicts().filter(|(_, _, verdict)| *verdict == Verdict::Missed).count();
        let all = self.verdicts().count();
        let _ = writeln!(page, "## Verdicts\n\nOf {all} figures that have a goal {missed} miss it.\n");
        let verdicts = self.verdicts().map(|(row, figure, _)| {
            let [must, aim] = goal_text(figure);
            let missed = Verdict::Missed.text();
            let told = row.told(figure).unwrap_or_default().replace(missed, &format!("**{missed}**"));
            let value = cell(figure, figure.sluice.as_ref());
            vec![format!("`{}`", row.row), figure.title.clone(), must, aim, value, told]
        });
        table(&mut page, &["row", "figure", "must", "aim", "Sluice", "verdict"], verdicts);
        if let Some(told) = self.controls() {
            let _ = writeln!(page, "{told}\n");
        }
        for measured in &self.rows {
            let _ = writeln!(
                page,
                "## {}\n\n{}.\n\n{}\n",
                measured.row,
                measured.headline(),
                measured.notes.join(" ")
            );
            let some: Vec<_> = SIDES
                .iter()
                .filter(|(_, side)| measured.figures.iter().any(|figure| side(figure).is_some()))
                .collect();
            let titles: Vec<_> = ["figure"].into_iter().chain(some.iter().map(|(title, _)| *title)).collect();
            let rows = measured.figures.iter().map(|figure| {
                let cells = some.iter().map(|(_, side)| cell(figure, side(figure)));
                [figure.title.trim().to_owned()].into_iter().chain(cells).collect()
            });
            table(&mut page, &titles, rows);
        }
        while page.ends_with("\n\n") {
            page.pop();
        }
        page
    }
}

fn table(page: &mut String, titles: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(page, "| {} |\n|{}", titles.join(" | "), "---|".repeat(titles.len()));
    for cells in rows {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use crate::report::tests::report;

    #[test]
    fn the_page_shows_what_is_missed_as_openly_as_the_rest() {
        let page = report().page("Made by hand.");
        assert!(page.starts_with("# Results\n\nMade by hand.\n\n## The machine\n"), "{page}");
        assert!(page.contains("Of 2 figures that have a goal 1 miss it."), "{page}");
        assert!(page.contains("| `sync` | packets lost | 0 | - | 2 (worst of 2) | **MISSED** |"), "{page}");
        assert!(
            page.contains("\n| start to first answer | 1.25 s (of 3; worst 1.50 s) | 56.70 s |\n"),
            "{page}"
        );
        assert!(page.contains(NO_VALUE), "{page}");
        assert!(page.ends_with("|\n") && !page.contains("\n\n\n"), "{page}");
    }

    const NO_VALUE: &str = "| packets lost | 2 (worst of 2) | - |";
}
