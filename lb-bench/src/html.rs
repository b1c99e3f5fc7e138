//! A report as one HTML document that needs nothing else: plots are SVG, drawn here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::report::{NONE, SIDES, cell, goal_text};
use crate::{Figure, Measured, Reading, Report, Verdict};

const STYLE: &str = "\
body{font:14px system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em;border-top:1px solid #ccc;padding-top:1em}\
table{border-collapse:collapse;margin:1em 0}td,th{text-align:left;padding:.2em .8em .2em 0;vertical-align:top}\
tr:nth-child(even){background:#f6f6f6}.missed{color:#b00020;font-weight:bold}.held,.aim{color:#1b7a2f}\
p{max-width:60em}svg text{font:12px system-ui,sans-serif}";

/// Colours of [`SIDES`], in their order.
const COLOURS: [&str; 4] = ["#2060c0", "#d07020", "#808080", "#c8c8c8"];

/// Widths of a plot: labels, bars, numbers behind them.
const LABELS: f64 = 430.0;
const BARS: f64 = 480.0;
const NUMBERS: f64 = 150.0;
/// Heights: of a bar, between figures.
const BAR: f64 = 13.0;
const GAP: f64 = 9.0;

impl Report {
    /// For browsers.
    #[must_use]
    pub fn html(&self) -> String {
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sluice: figures</title>\
             <style>{STYLE}</style></head><body>\n<h1>Sluice: figures</h1>\n"
        );
        let facts = self.machine.lines().map(|(name, value)| [name.to_owned(), value]);
        let versions = self.versions.iter().map(|(name, version)| [name.clone(), version.clone()]);
        let machine = facts.into_iter().chain(versions).map(|cells| cells.map(|cell| escape(&cell)).to_vec());
        table(&mut html, &[], machine);
        html.push_str("<h2>Verdicts</h2>\n");
        let verdicts = self.verdicts().map(|(row, figure, _)| {
            let [must, aim] = goal_text(figure);
            let texts =
                [row.row.clone(), figure.title.clone(), must, aim, cell(figure, figure.sluice.as_ref())];
            texts.iter().map(|text| escape(text)).chain([coloured(row, figure)]).collect()
        });
        table(&mut html, &["ROW", "FIGURE", "MUST", "AIM", "SLUICE", "VERDICT"], verdicts);
        if let Some(told) = self.controls() {
            let _ = writeln!(html, "<p>{told}</p>");
        }
        for measured in &self.rows {
            section(&mut html, measured);
        }
        html.push_str("</body></html>\n");
        html
    }
}

fn section(html: &mut String, measured: &Measured) {
    let _ = writeln!(html, "<h2>{}</h2>\n<p>{}</p>", escape(&measured.row), escape(&measured.headline()));
    let mut plots: BTreeMap<String, Vec<&Figure>> = BTreeMap::new();
    for figure in &measured.figures {
        plots.entry(format!("{:?}", figure.unit)).or_default().push(figure);
    }
    for figures in plots.values() {
        plot(html, figures);
    }
    let some: Vec<_> = SIDES
        .iter()
        .filter(|(_, side)| measured.figures.iter().any(|figure| side(figure).is_some()))
        .collect();
    let titles: Vec<_> = ["FIGURE", "MUST", "AIM", "VERDICT"]
        .into_iter()
        .chain(some.iter().map(|(title, _)| *title))
        .collect();
    let rows = measured.figures.iter().map(|figure| {
        let [must, aim] = goal_text(figure);
        let verdict = coloured(measured, figure);
        let known = [escape(&figure.title), must, aim, verdict];
        known.into_iter().chain(some.iter().map(|(_, side)| escape(&cell(figure, side(figure))))).collect()
    });
    table(html, &titles, rows);
    let _ = writeln!(html, "<p>{}</p>", escape(&measured.notes.join(" ")));
}

/// Bars of figures of one unit, from zero on, with their intervals; a line where a goal is.
fn plot(html: &mut String, figures: &[&Figure]) {
    let readings = |figure: &Figure| -> Vec<(usize, Reading)> {
        SIDES
            .iter()
            .enumerate()
            .filter_map(|(number, (_, side))| Some((number, side(figure)?.clone())))
            .collect()
    };
    let ends = |figure: &&Figure| {
        let read = readings(figure);
        let high =
            |reading: &Reading| reading.interval.map_or(reading.value, |[_, high]| high.max(reading.value));
        read.iter()
            .map(|(_, reading)| high(reading))
            .chain(figure.goal.map(|goal| goal.must))
            .fold(0.0, f64::max)
    };
    let most = figures.iter().map(ends).fold(0.0, f64::max);
    if most <= 0.0 {
        return;
    }
    let at = |value: f64| LABELS + BARS * (value / most).clamp(0.0, 1.0);
    let (mut y, mut body) = (GAP, String::new());
    for figure in figures {
        let read = readings(figure);
        let height = BAR * read.len().max(1) as f64;
        let middle = y + height / 2.0 + 4.0;
        let _ = writeln!(
            body,
            "<text x=\"{:.0}\" y=\"{middle:.0}\" text-anchor=\"end\">{}</text>",
            LABELS - 8.0,
            escape(&figure.title)
        );
        for (place, (side, reading)) in read.iter().enumerate() {
            let top = y + BAR * place as f64;
            let colour = COLOURS.get(*side).copied().unwrap_or("#000");
            let _ = writeln!(
                body,
                "<rect x=\"{LABELS}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                at(reading.value) - LABELS,
                BAR - 2.0
            );
            let line = top + BAR / 2.0 - 1.0;
            let mut end = at(reading.value);
            if let Some([low, high]) = reading.interval {
                let [low, high] = [low, high].map(at);
                let _ = writeln!(
                    body,
                    "<line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{line:.1}\" y2=\"{line:.1}\" stroke=\"#000\"/>"
                );
                end = end.max(high);
            }
            let text = escape(&figure.unit.text(reading.value));
            let _ = writeln!(body, "<text x=\"{:.1}\" y=\"{:.1}\">{text}</text>", end + 5.0, line + 4.0);
        }
        if let Some(goal) = figure.goal {
            let (x, end) = (at(goal.must), y + height);
            let _ = writeln!(
                body,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{end:.1}\" stroke=\"#b00020\" stroke-dasharray=\"3 2\"/>",
                y - 2.0
            );
        }
        y += height + GAP;
    }
    let mut x = LABELS;
    for ((title, _), colour) in SIDES.iter().zip(COLOURS) {
        let _ = writeln!(
            body,
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{:.0}\">{title}</text>",
            x + 14.0,
            y + 10.0
        );
        x += 110.0;
    }
    let (width, height) = (LABELS + BARS + NUMBERS, y + 20.0);
    let _ = writeln!(
        html,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n{body}</svg>"
    );
}

/// A table of cells that are HTML.
fn table(html: &mut String, titles: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    html.push_str("<table>\n");
    if !titles.is_empty() {
        let _ = writeln!(
            html,
            "<tr>{}</tr>",
            titles.iter().map(|title| format!("<th>{title}</th>")).collect::<String>()
        );
    }
    for cells in rows {
        let _ = writeln!(
            html,
            "<tr>{}</tr>",
            cells.iter().map(|cell| format!("<td>{cell}</td>")).collect::<String>()
        );
    }
    html.push_str("</table>\n");
}

/// The verdict of a figure of `row`.
fn coloured(row: &Measured, figure: &Figure) -> String {
    let class = match figure.verdict() {
        None => return NONE.to_owned(),
        Some(Verdict::Missed) => "missed",
        Some(Verdict::Held) => "held",
        Some(Verdict::Aim) => "aim",
    };
    format!("<span class=\"{class}\">{}</span>", row.told(figure).unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use crate::report::tests::report;

    #[test]
    fn the_document_has_every_figure_and_needs_nothing_else() {
        let mut report = report();
        report.rows[0].figures[0].title = "<start> & go".to_owned();
        let html = report.html();
        assert_eq!(html.matches("&lt;start&gt; &amp; go").count(), 3, "verdicts, plot, table: {html}");
        assert!(!html.contains("<start>"), "{html}");
        // Packets lost are none to two: a plot of their own.
        assert_eq!(html.matches("<svg ").count(), 2);
        assert_eq!(html.matches("class=\"missed\"").count(), 2);
        let without_namespace = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!without_namespace.contains("http") && !html.contains("<script"), "{html}");
        for tag in ["table", "svg", "h2", "p", "tr", "td"] {
            let opened =
                html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
