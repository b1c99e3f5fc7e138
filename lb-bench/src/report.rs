//! What was measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Facts;
use crate::{Figure, Reading, Unit, Verdict};

/// Shown where there is no value.
pub(crate) const NONE: &str = "-";

/// One of the readings of a figure.
type Side = fn(&Figure) -> Option<&Reading>;

/// The readings of a figure: titles of their columns, and where they are.
pub(crate) const SIDES: [(&str, Side); 4] = [
    ("SLUICE", |figure| figure.sluice.as_ref()),
    ("KUBE-PROXY", |figure| figure.kube_proxy.as_ref()),
    ("CONTROL", |figure| figure.control.as_ref()),
    ("CEILING", |figure| figure.ceiling.as_ref()),
];

/// The figures of a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub row: String,
    /// What it was measured with: how many Services, rounds, and so on.
    pub settings: BTreeMap<String, u64>,
    /// How long measuring took.
    pub seconds: f64,
    /// One after the other.
    pub figures: Vec<Figure>,
    /// What has to be known to read them.
    pub notes: Vec<String>,
}

/// All rows, and what they were measured on.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Report {
    /// The machine.
    pub machine: Facts,
    /// What the programs say of their versions.
    pub versions: BTreeMap<String, String>,
    /// The rows.
    pub rows: Vec<Measured>,
}

impl Measured {
    /// Quotients of one thing over itself that have an interval: each once, however many figures show it.
    fn controls(&self) -> Vec<&Reading> {
        let quotients = self.figures.iter().filter(|figure| figure.unit == Unit::Ratio);
        let mut controls: Vec<&Reading> = Vec::new();
        for control in quotients.filter_map(|figure| figure.control.as_ref()) {
            if control.interval.is_some() && !controls.contains(&control) {
                controls.push(control);
            }
        }
        controls
    }

    /// The verdict of a figure of this row, for people. Of a quotient it says if the method is off by its own control, or
    /// where it has none by one of the row's.
    pub(crate) fn told(&self, figure: &Figure) -> Option<String> {
        let text = figure.verdict()?.text();
        let controls = figure.control.as_ref().map_or_else(|| self.controls(), |control| vec![control]);
        let off = figure.unit == Unit::Ratio && controls.into_iter().any(is_off);
        Some(if off { format!("{text} (control off)") } else { text.to_owned() })
    }

    /// What it was measured with.
    pub(crate) fn headline(&self) -> String {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        format!("{}; measured in {:.0} s", settings.join(", "), self.seconds)
    }
}

impl Report {
    /// The figures that have a goal, by row, and whether they reach it.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = (&Measured, &Figure, Verdict)> {
        let figures = self.rows.iter().flat_map(|row| row.figures.iter().map(move |figure| (row, figure)));
        figures.filter_map(|(row, figure)| Some((row, figure, figure.verdict()?)))
    }

    /// What the quotients of one thing measured twice say of the method; `None` if there are none with an interval.
    pub(crate) fn controls(&self) -> Option<String> {
        let all: usize = self.rows.iter().map(|row| row.controls().len()).sum();
        let off: Vec<_> = self
            .rows
            .iter()
            .flat_map(|row| row.controls().into_iter().filter(|control| is_off(control)).map(|_| &*row.row))
            .collect();
        let held = all - off.len();
        let mut told = format!("Of {all} quotients of one thing over itself {held} have 1 in their interval");
        if !off.is_empty() {
            let _ = write!(told, "; not of {}", off.join(", "));
        }
        (all > 0).then(|| told + ".")
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for measured in &self.rows {
            let Measured { row, figures, notes, .. } = measured;
            let _ = writeln!(text, "{row}: {}\n", measured.headline());
            // Sluice has its own column.
            let there = SIDES.iter().skip(1);
            let some: Vec<_> =
                there.filter(|(_, read)| figures.iter().any(|figure| read(figure).is_some())).collect();
            let always = ["FIGURE", "MUST", "AIM", "SLUICE", "VERDICT"];
            let titles: Vec<_> = always.into_iter().chain(some.iter().map(|(title, _)| *title)).collect();
            let rows = figures.iter().map(|figure| {
                let readings = some.iter().map(|(_, read)| cell(figure, read(figure)));
                cells(measured, figure).into_iter().chain(readings).collect()
            });
            lines(&mut text, &titles, rows);
            let _ = writeln!(text, "\n{}\n", notes.join("\n"));
        }
        let verdicts = self.verdicts().map(|(row, figure, _)| {
            vec![
                row.row.clone(),
                figure.title.trim().to_owned(),
                row.told(figure).unwrap_or_else(|| NONE.to_owned()),
            ]
        });
        if self.verdicts().next().is_some() {
            lines(&mut text, &["ROW", "FIGURE", "VERDICT"], verdicts);
            text.push('\n');
        }
        if let Some(told) = self.controls() {
            let _ = writeln!(text, "{told}\n");
        }
        for (name, value) in self.machine.lines() {
            let _ = writeln!(text, "{name:<12} {value}");
        }
        for (name, version) in &self.versions {
            let _ = writeln!(text, "{name:<12} {version}");
        }
        text
    }

    /// For programs.
    ///
    /// # Errors
    /// A number that JSON has no name for.
    pub fn json(&self) -> Result<Value> {
        let mut rows = serde_json::to_value(&self.rows)?;
        for (row, measured) in rows.as_array_mut().into_iter().flatten().zip(&self.rows) {
            let figures = row["figures"].as_array_mut().into_iter().flatten();
            for (value, figure) in figures.zip(&measured.figures) {
                if let Some(verdict) = figure.verdict() {
                    value["verdict"] = serde_json::to_value(verdict)?;
                }
            }
        }
        Ok(json!({ "machine": self.machine, "versions": self.versions, "rows": rows }))
    }
}

/// A table without frames.
fn lines(text: &mut String, titles: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(titles);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Whether one thing over itself is not 1.
fn is_off(control: &Reading) -> bool {
    control.interval.is_some_and(|[low, high]| !(low..=high).contains(&1.0))
}

fn cells(row: &Measured, figure: &Figure) -> [String; 5] {
    let [must, aim] = goal_text(figure);
    let verdict = row.told(figure).unwrap_or_else(|| NONE.to_owned());
    [figure.title.clone(), must, aim, cell(figure, figure.sluice.as_ref()), verdict]
}

/// What must be reached, and what should.
pub(crate) fn goal_text(figure: &Figure) -> [String; 2] {
    let goals = [figure.goal.map(|goal| goal.must), figure.goal.and_then(|goal| goal.aim)];
    goals.map(|value| value.map_or_else(|| NONE.to_owned(), |value| figure.unit.text(value)))
}

/// What was read, with what has to be known of it.
pub(crate) fn cell(figure: &Figure, reading: Option<&Reading>) -> String {
    reading.map_or_else(|| NONE.to_owned(), |reading| reading.text(figure.unit))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Choice, Goal};

    pub(crate) fn report() -> Report {
        let start = Figure {
            goal: Some(Goal::at_most(3.0, Some(1.5))),
            sluice: Reading::of(Choice::Median, &[1.25, 1.5, 1.0]),
            kube_proxy: Reading::of(Choice::Median, &[56.7]),
            ..Figure::new("start", "start to first answer", Unit::Seconds)
        };
        let lost = Figure {
            goal: Some(Goal::at_most(0.0, None)),
            sluice: Reading::of(Choice::Worst, &[0.0, 2.0]),
            ..Figure::new("lost", "packets lost", Unit::Count)
        };
        Report {
            machine: Facts { kernel: "6.18.0".to_owned(), ..Facts::default() },
            versions: BTreeMap::from([("nft".to_owned(), "nftables v1.0.6".to_owned())]),
            rows: vec![Measured {
                row: "sync".to_owned(),
                settings: BTreeMap::from([("services".to_owned(), 10_000), ("endpoints".to_owned(), 10)]),
                seconds: 61.4,
                figures: vec![start, lost],
                notes: vec!["Numbers.".to_owned()],
            }],
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_figure_and_each_fact() {
        let text = report().text();
        assert!(text.starts_with("sync: endpoints 10, services 10000; measured in 61 s\n\nFIGURE"), "{text}");
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
                "56.70 s"
            ]
        );
        assert_eq!(line("packets"), ["packets lost", "0", "-", "2 (worst of 2)", "MISSED", "-"]);
        assert!(text.contains("\n\nNumbers.\n\nROW"), "{text}");
        assert_eq!(line("sync  "), ["sync", "start to first answer", "held, aim too"]);
        assert_eq!(line("kernel"), ["kernel", "6.18.0"]);
        assert_eq!(line("nft"), ["nft", "nftables v1.0.6"]);
    }

    #[test]
    fn the_document_has_goals_verdicts_and_samples() {
        let document = report().json().unwrap();
        assert_eq!(document["machine"]["kernel"], "6.18.0");
        let row = &document["rows"][0].clone();
        assert_eq!((&row["row"], &row["settings"]["services"]), (&json!("sync"), &json!(10_000)));
        let [start, lost] = row["figures"].as_array().unwrap().as_slice() else { panic!("{row}") };
        assert_eq!(start["goal"], json!({ "must": 3.0, "aim": 1.5, "better": "less" }));
        assert_eq!(
            start["sluice"],
            json!({ "value": 1.25, "choice": "median", "samples": [1.25, 1.5, 1.0] })
        );
        assert_eq!((&start["unit"], &start["verdict"]), (&json!("s"), &json!("aim")));
        assert_eq!((&lost["verdict"], &lost["control"]), (&json!("missed"), &Value::Null));
        assert!(!lost.as_object().unwrap().contains_key("control"), "{lost}");
        assert_eq!(serde_json::from_value::<Report>(document).unwrap(), report());
    }

    #[test]
    fn a_document_that_was_read_says_what_it_said() {
        // Without its feature `float_roundtrip` serde_json reads a neighbour of this.
        let mut told = report();
        told.rows[0].seconds = 0.011000010999999999;
        let text = told.json().unwrap().to_string();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((read.json().unwrap().to_string(), read), (text, told));
    }

    #[test]
    fn verdicts_say_if_their_control_is_off() {
        let ratio = |control: Option<[f64; 2]>| Figure {
            goal: Some(Goal::at_least(0.97, None)),
            sluice: Reading::of(Choice::Median, &[1.3]),
            control: control.map(|interval| Reading {
                interval: Some(interval),
                ..Reading::of(Choice::Median, &[1.0]).unwrap()
            }),
            ..Figure::new("over", "", Unit::Ratio)
        };
        let mut report = report();
        let row = &mut report.rows[0];
        row.figures.push(ratio(Some([0.9, 1.1])));
        assert_eq!(row.told(&ratio(None)).unwrap(), "held");
        row.figures.push(ratio(Some([1.1, 1.2])));
        let off = "held (control off)";
        assert_eq!(row.told(&ratio(Some([0.9, 1.1]))).unwrap(), "held");
        assert_eq!(row.told(&ratio(Some([1.1, 1.2]))).unwrap(), off);
        assert_eq!(row.told(&ratio(None)).unwrap(), off, "no control of its own");
        assert_eq!(row.told(&row.figures[0]).unwrap(), "held, aim too", "seconds");
        for text in [report.text(), report.html(), report.page("")] {
            assert!(text.contains(off), "{text}");
        }
    }

    #[test]
    fn controls_are_held_if_one_is_in_their_interval() {
        let control = |interval| Figure {
            control: Some(Reading { interval, ..Reading::of(Choice::Median, &[1.0]).unwrap() }),
            ..Figure::new("control", "", Unit::Ratio)
        };
        let mut report = report();
        assert_eq!(report.controls(), None, "a control of seconds is none");
        // One may be shown by several figures.
        let intervals = [Some([0.98, 1.01]), Some([1.01, 1.2]), Some([1.01, 1.2]), None];
        report.rows[0].figures.extend(intervals.map(control));
        let told = "Of 2 quotients of one thing over itself 1 have 1 in their interval; not of sync.";
        assert_eq!(report.controls().unwrap(), told);
        assert!(report.text().contains("\n\nOf 2 quotients") && report.html().contains("<p>Of 2 quotients"));
        assert!(report.page("").contains("\n\nOf 2 quotients"));
    }
}
