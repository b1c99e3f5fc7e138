//! Tables and lines for people.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{ColumnConstraint, Width, presets};

use super::out::Row;

/// Rows that are laid out together: a long table is written in pieces, so that it need not fit into memory.
const PIECE: usize = 1000;

/// Shown where there is no value.
pub(super) const NONE: &str = "-";

/// A table without borders whose columns stay aligned from piece to piece as long as their content allows.
pub(super) struct Table {
    titles: Option<&'static [&'static str]>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(titles: &'static [&'static str]) -> Self {
        Self {
            titles: Some(titles),
            widths: titles.iter().map(|title| title.len()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, and writes those before it once there are enough of them.
    ///
    /// Control characters become blanks: names of files and messages about them come from outside, and neither may
    /// they break the row nor steer the terminal.
    pub(super) fn add(&mut self, writer: &mut dyn Write, row: Vec<String>) -> io::Result<()> {
        let row: Vec<_> = row.into_iter().map(|cell| cell.replace(char::is_control, " ")).collect();
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(row);
        if self.rows.len() < PIECE { Ok(()) } else { self.finish(writer) }
    }

    /// Writes the rows that have not been written yet.
    pub(super) fn finish(&mut self, writer: &mut dyn Write) -> io::Result<()> {
        if self.titles.is_none() && self.rows.is_empty() {
            return Ok(());
        }
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING).force_no_tty();
        if let Some(titles) = self.titles.take() {
            table.set_header(titles);
        }
        table.add_rows(self.rows.drain(..));
        for (column, width) in table.column_iter_mut().zip(&self.widths) {
            let width = u16::try_from(width + 2).unwrap_or(u16::MAX);
            column.set_padding((0, 2)).set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
        }
        writeln!(writer, "{}", table.trim_fmt())
    }
}

/// Writes all of `rows` as one table.
pub(super) fn table<R: Row>(writer: &mut dyn Write, rows: &[R]) -> io::Result<()> {
    let mut table = Table::new(R::COLUMNS);
    for row in rows {
        table.add(writer, row.cells())?;
    }
    table.finish(writer)
}

/// Writes one `Title:  value` line each, values aligned.
pub(super) fn fields(writer: &mut dyn Write, fields: &[(&str, String)]) -> io::Result<()> {
    let width = fields.iter().map(|(title, _)| title.len()).max().unwrap_or(0) + 1;
    for (title, value) in fields {
        writeln!(writer, "{:width$}  {value}", format!("{title}:"))?;
    }
    Ok(())
}

/// The value, or a dash.
pub(super) fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// The answer in a cell.
pub(super) fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// The values with commas between them, or a dash.
pub(super) fn comma<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { NONE.to_owned() } else { values.join(",") }
}

/// A port of a Service: `name:80/TCP`, or `80/TCP` if it has no name.
pub(super) fn port(name: &str, port: u16, proto: &str) -> String {
    let colon = if name.is_empty() { "" } else { ":" };
    format!("{name}{colon}{port}/{proto}")
}

/// An amount of memory, in the unit that leaves up to four digits.
pub(super) fn memory(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes}B"),
        10_240..10_485_760 => format!("{}KiB", bytes >> 10),
        _ => format!("{}MiB", bytes >> 20),
    }
}

/// A duration in its two largest units, as kubectl shows ages: `59s`, `4m7s`, `3h12m`, `12d5h`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_aligned_over_many_pieces() {
        let mut text = Vec::new();
        let mut table = Table::new(&["NAME", "N"]);
        for i in 0..2 * PIECE {
            let name = if i == 7 { "the-longest-of-all" } else { "x" };
            table.add(&mut text, vec![name.to_owned(), i.to_string()]).unwrap();
        }
        table.finish(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 2 * PIECE + 1);
        for (i, line) in text.lines().skip(1).enumerate() {
            assert_eq!(line.get(20..), Some(i.to_string().as_str()), "{line}");
        }
    }

    #[test]
    fn a_cell_stays_in_its_row() {
        let mut text = Vec::new();
        let mut table = Table::new(&["FILE", "PROBLEM"]);
        table.add(&mut text, vec!["a\u{1b}[2J.yaml".to_owned(), "line 1\nline 2".to_owned()]).unwrap();
        table.finish(&mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "FILE        PROBLEM\na [2J.yaml  line 1 line 2\n");
    }

    #[test]
    fn durations_have_two_units() {
        let text = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(
            [text(0), text(59), text(247), text(11_520), text(1_054_800)],
            ["0s", "59s", "4m7s", "3h12m", "12d5h"]
        );
    }

    #[test]
    fn fields_are_aligned() {
        let mut text = Vec::new();
        fields(&mut text, &[("A", "1".to_owned()), ("Longer", "2".to_owned())]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "A:       1\nLonger:  2\n");
    }
}
