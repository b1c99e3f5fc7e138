//! What was measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

use super::facts::Facts;
use super::figure::{Figure, Verdict};

/// Shown where there is no value.
const NONE: &str = "-";

/// The figures of a row.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    /// Its name.
    pub(super) row: &'static str,
    /// How many Services there were.
    pub(super) services: u32,
    /// How many endpoints each of them had.
    pub(super) endpoints: u32,
    /// How long measuring took.
    pub(super) seconds: f64,
    /// One after the other.
    pub(super) figures: Vec<Figure>,
    /// What has to be known to read them.
    pub(super) notes: &'static [&'static str],
}

/// All rows, and what they were measured on.
#[derive(Debug)]
pub(super) struct Report {
    /// The machine.
    pub(super) machine: Facts,
    /// What the programs say of their versions.
    pub(super) versions: BTreeMap<&'static str, String>,
    /// The rows.
    pub(super) rows: Vec<Measured>,
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Measured { row, services, endpoints, seconds, figures, notes } in &self.rows {
            let _ = writeln!(
                text,
                "{row}: {services} Services x {endpoints} endpoints, measured in {seconds:.0} s\n"
            );
            let mut table = Table::new();
            table.load_preset(presets::NOTHING);
            table.set_header(["FIGURE", "MUST", "AIM", "SLUICE", "VERDICT", "KUBE-PROXY", "CONTROL"]);
            for figure in figures {
                table.add_row(cells(figure));
            }
            for column in table.column_iter_mut() {
                column.set_padding((0, 2));
            }
            for line in table.lines() {
                let _ = writeln!(text, "{}", line.trim_end());
            }
            for note in [&[""], *notes, &[""]].concat() {
                let _ = writeln!(text, "{note}");
            }
        }
        for (name, value) in self.machine.lines() {
            let _ = writeln!(text, "{name:<12} {value}");
        }
        for (name, version) in &self.versions {
            let _ = writeln!(text, "{name:<12} {version}");
        }
        text
    }

    /// For programs: one document in a line.
    ///
    /// # Errors
    /// A number that JSON has no name for.
    pub(super) fn json(&self) -> Result<String> {
        let mut rows = serde_json::to_value(&self.rows)?;
        for (row, measured) in rows.as_array_mut().into_iter().flatten().zip(&self.rows) {
            let figures = row["figures"].as_array_mut().into_iter().flatten();
            for (value, figure) in figures.zip(&measured.figures) {
                value["verdict"] = serde_json::to_value(figure.verdict())?;
            }
        }
        let all: Value = json!({ "machine": self.machine, "versions": self.versions, "rows": rows });
        Ok(serde_json::to_string(&all)? + "\n")
    }
}

fn cells(figure: &Figure) -> [String; 7] {
    let Figure { title, unit, goal, sluice, kube_proxy, control, .. } = figure;
    let goal_text = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), |value| unit.text(value));
    let [sluice, kube_proxy, control] = [sluice, kube_proxy, control]
        .map(|reading| reading.as_ref().map_or_else(|| NONE.to_owned(), |reading| reading.text(*unit)));
    [
        title.clone(),
        goal_text(goal.map(|goal| goal.must)),
        goal_text(goal.and_then(|goal| goal.aim)),
        sluice,
        figure.verdict().map_or(NONE, Verdict::text).to_owned(),
        kube_proxy,
        control,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::figure::{Choice, Goal, Reading, Unit};
    use super::*;

    fn report() -> Report {
        let figures = vec![
            Figure {
                name: "start",
                title: "start to first answer".to_owned(),
                unit: Unit::Seconds,
                goal: Some(Goal { must: 3.0, aim: Some(1.5) }),
                sluice: Reading::of(Choice::Median, &[1.25, 1.5, 1.0]),
                kube_proxy: Reading::of(Choice::Median, &[56.7]),
                control: None,
            },
            Figure {
                name: "lost",
                title: "packets lost".to_owned(),
                unit: Unit::Count,
                goal: Some(Goal { must: 0.0, aim: None }),
                sluice: Reading::of(Choice::Worst, &[0.0, 2.0]),
                kube_proxy: None,
                control: None,
            },
        ];
        Report {
            machine: Facts { kernel: "6.18.0".to_owned(), ..Facts::default() },
            versions: BTreeMap::from([("nft", "nftables v1.0.6".to_owned())]),
            rows: vec![Measured {
                row: "sync",
                services: 10_000,
                endpoints: 10,
                seconds: 61.4,
                figures,
                notes: &["Numbers."],
            }],
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_figure_and_each_fact() {
        let text = report().text();
        assert!(
            text.starts_with("sync: 10000 Services x 10 endpoints, measured in 61 s\n\nFIGURE"),
            "{text}"
        );
        let line = |start: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap();
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(
            line("start"),
            [
                "start to first answer",
                "3.00 s",
                "1.50 s",
                "1.25 s (of 3; worst 1.50 s)",
                "held, aim too",
                "56.70 s",
                "-"
            ]
        );
        assert_eq!(line("packets"), ["packets lost", "0", "-", "2 (worst of 2)", "MISSED", "-", "-"]);
        assert!(text.contains("\n\nNumbers.\n\nkernel"), "{text}");
        assert_eq!(line("kernel"), ["kernel", "6.18.0"]);
        assert_eq!(line("nft"), ["nft", "nftables v1.0.6"]);
    }

    #[test]
    fn the_document_has_goals_verdicts_and_samples() {
        let document: Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(document["machine"]["kernel"], "6.18.0");
        let row = &document["rows"][0];
        assert_eq!((&row["row"], &row["services"]), (&json!("sync"), &json!(10_000)));
        let [start, lost] = row["figures"].as_array().unwrap().as_slice() else { panic!("{row}") };
        assert_eq!(start["goal"], json!({ "must": 3.0, "aim": 1.5 }));
        assert_eq!(
            start["sluice"],
            json!({ "value": 1.25, "choice": "median", "samples": [1.25, 1.5, 1.0] })
        );
        assert_eq!((&start["unit"], &start["verdict"]), (&json!("s"), &json!("aim")));
        assert_eq!((&lost["verdict"], &lost["control"]), (&json!("missed"), &Value::Null));
    }
}
