//! The one way out: text for people, one JSON document for programs, both from the same values.

use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer as _};
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::text::Table;

/// How answers are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Tables and lines.
    Text,
    /// JSON in one line.
    Json,
    /// Indented JSON.
    Pretty,
}

/// One element of a list.
pub(super) trait Row: Serialize {
    /// Titles of the columns.
    const COLUMNS: &'static [&'static str];
    /// What stands in the columns, in their order.
    fn cells(&self) -> Vec<String>;
}

/// An answer that is more than a list.
pub(super) trait Document: Serialize {
    /// Writes the answer for people.
    fn text(&self, writer: &mut dyn Write) -> io::Result<()>;
}

/// Standard output in the format that was asked for.
pub(super) struct Out<'a> {
    format: Format,
    terminal: bool,
    writer: Box<dyn Write + 'a>,
}

impl<'a> Out<'a> {
    /// Writes to standard output.
    pub(super) fn stdout(format: Format) -> Self {
        let stdout = io::stdout();
        Self {
            format,
            terminal: stdout.is_terminal(),
            writer: Box::new(io::BufWriter::with_capacity(1 << 16, stdout)),
        }
    }

    /// Writes to `writer`, which is no terminal.
    #[cfg(test)]
    pub(super) fn to(format: Format, writer: impl Write + 'a) -> Self {
        Self { format, terminal: false, writer: Box::new(writer) }
    }

    /// Whether a person at a terminal reads this, rather than a program or a file.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal && self.format == Format::Text
    }

    /// Writes a list, row by row as they come, so that its length does not matter.
    ///
    /// # Errors
    /// What `rows` yields, or the output cannot be written. A JSON list that an error cuts short stays open: nobody
    /// takes it for the whole.
    pub(super) fn list<R: Row>(
        &mut self,
        rows: impl IntoIterator<Item = anyhow::Result<R>>,
    ) -> anyhow::Result<()> {
        let writer = &mut *self.writer;
        match self.format {
            Format::Text => {
                let mut table = Table::new(R::COLUMNS);
                for row in rows {
                    table.add(writer, row?.cells())?;
                }
                table.finish(writer)?;
            }
            Format::Json => json_list(writer, CompactFormatter, rows)?,
            Format::Pretty => json_list(writer, PrettyFormatter::new(), rows)?,
        }
        Ok(())
    }

    /// Writes the next rows of a list without an end, in JSON as one document each, and hands them over at once.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn more<R: Row>(&mut self, table: &mut Table, rows: &[R]) -> io::Result<()> {
        if self.format == Format::Text {
            for row in rows {
                table.add(&mut self.writer, row.cells())?;
            }
            table.finish(&mut self.writer)?;
        } else {
            for row in rows {
                self.json(row)?;
            }
        }
        self.flush()
    }

    /// Writes an answer that is more than a list.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn document(&mut self, document: &impl Document) -> io::Result<()> {
        match self.format {
            Format::Text => document.text(&mut self.writer),
            Format::Json | Format::Pretty => self.json(document),
        }
    }

    /// Adds a line for people; programs do not get it.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn note(&mut self, line: &str) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.writer, "{line}"),
            Format::Json | Format::Pretty => Ok(()),
        }
    }

    /// Writes what is no answer and the same in any format: help, a script.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn raw(&mut self, text: &[u8]) -> io::Result<()> {
        self.writer.write_all(text)
    }

    /// Says why there is no answer: on standard error, or as a JSON object in its place.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn error(&mut self, message: &str) -> io::Result<()> {
        #[derive(Serialize)]
        struct Error<'a> {
            error: &'a str,
        }
        match self.format {
            Format::Text => {
                // What stands before the error comes before it, if it can be written at all.
                let _ = self.writer.flush();
                writeln!(io::stderr(), "error: {message}")
            }
            Format::Json | Format::Pretty => self.json(&Error { error: message }),
        }
    }

    /// Whether nobody reads any more, although nothing is being written.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub(super) fn is_deserted(&self) -> io::Result<bool> {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let [fd] = fds;
        Ok(fd.revents().intersects(PollFlags::ERR | PollFlags::HUP))
    }

    /// Hands over everything that was written.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        if self.format == Format::Pretty {
            serde_json::to_writer_pretty(&mut self.writer, value)?;
        } else {
            serde_json::to_writer(&mut self.writer, value)?;
        }
        writeln!(self.writer)
    }
}

fn json_list<R: Row>(
    writer: &mut dyn Write,
    formatter: impl Formatter,
    rows: impl IntoIterator<Item = anyhow::Result<R>>,
) -> anyhow::Result<()> {
    let mut serializer = Serializer::with_formatter(&mut *writer, formatter);
    let mut list = serializer.serialize_seq(None).map_err(io::Error::from)?;
    for row in rows {
        match row {
            Ok(row) => list.serialize_element(&row).map_err(io::Error::from)?,
            Err(error) => {
                writeln!(writer)?;
                return Err(error);
            }
        }
    }
    list.end().map_err(io::Error::from)?;
    writeln!(writer)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pair {
        name: String,
        number: u16,
    }

    impl Row for Pair {
        const COLUMNS: &'static [&'static str] = &["NAME", "NUMBER"];
        fn cells(&self) -> Vec<String> {
            vec![self.name.clone(), self.number.to_string()]
        }
    }

    fn pair(name: &str, number: u16) -> anyhow::Result<Pair> {
        Ok(Pair { name: name.to_owned(), number })
    }

    fn list(format: Format, rows: Vec<anyhow::Result<Pair>>) -> (String, bool) {
        let mut text = Vec::new();
        let done = Out::to(format, &mut text).list(rows).is_ok();
        (String::from_utf8(text).unwrap(), done)
    }

    #[test]
    fn a_list_is_a_table_or_an_array() {
        let rows = || vec![pair("a", 1), pair("longer", 20)];
        assert_eq!(list(Format::Text, rows()).0, "NAME    NUMBER\na       1\nlonger  20\n");
        assert_eq!(
            list(Format::Json, rows()).0,
            "[{\"name\":\"a\",\"number\":1},{\"name\":\"longer\",\"number\":20}]\n"
        );
        assert!(list(Format::Pretty, rows()).0.starts_with("[\n  {\n    \"name\": \"a\""));
    }

    #[test]
    fn an_empty_list_is_a_title_or_an_empty_array() {
        assert_eq!(list(Format::Text, vec![]).0, "NAME  NUMBER\n");
        assert_eq!(list(Format::Json, vec![]).0, "[]\n");
    }

    #[test]
    fn a_list_that_breaks_off_is_not_taken_for_whole() {
        let (text, done) = list(Format::Json, vec![pair("a", 1), Err(anyhow::anyhow!("gone"))]);
        assert!(!done);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_err(), "{text}");
    }

    #[test]
    fn an_error_is_an_object_under_json() {
        let mut text = Vec::new();
        Out::to(Format::Json, &mut text).error("no \"such\" thing").unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "{\"error\":\"no \\\"such\\\" thing\"}\n");
    }

    #[test]
    fn notes_are_for_people() {
        let mut text = Vec::new();
        Out::to(Format::Json, &mut text).note("3 left out").unwrap();
        Out::to(Format::Text, &mut text).note("3 left out").unwrap();
        assert_eq!(text, b"3 left out\n");
    }
}
