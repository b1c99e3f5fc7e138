//! `sluice doctor`: what of this kernel, host and datapath is not as it should be, what follows from that, and what to
//! do.
//!
//! Each module reads one part of the machine into plain values and judges those. A part that cannot be looked at is a
//! finding, not the end of the examination.

mod agent;
mod filters;
mod hooks;
mod host;
mod kernel;
mod ports;
mod shortcut;
mod sockets;
mod tables;
mod xdp;

use std::io::{self, Write};

use serde::Serialize;

use super::Context;
use super::args::OnlyShow;
use super::out::{Document, Out};
use crate::net::watch;

const EXAMPLES: &str = "\
Examples:
  sluice doctor                                      findings, the worst first
  sluice doctor --all                                what is well as well
  nsenter --net=/proc/PID/ns/net sluice doctor       of the node whose network namespace that process is in

It changes nothing. The exit status tells whether it could look, not what it found.";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What is well as well
    #[arg(short, long, global = true)]
    all: bool,
    #[command(subcommand)]
    command: Option<OnlyShow>,
}

/// How bad a finding is; the worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Traffic that should flow does not.
    Error,
    /// Something is lost under conditions that the finding names.
    Warning,
    /// Worth knowing.
    Note,
    /// As it should be.
    Ok,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Note => "NOTE",
            Self::Ok => "OK",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Finding {
    level: Level,
    /// The part of the machine.
    check: &'static str,
    /// What it is like.
    found: String,
    /// What follows from that; absent if nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    follows: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn new(level: Level, check: &'static str, found: impl Into<String>) -> Self {
        Self { level, check, found: found.into(), follows: None, remedy: None }
    }

    fn follows(mut self, text: impl Into<String>) -> Self {
        self.follows = Some(text.into());
        self
    }

    fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = Some(text.into());
        self
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Examination {
    findings: Vec<Finding>,
}

impl Examination {
    /// Adds what `look` finds; a part that cannot be looked at is a finding too.
    fn look(&mut self, check: &'static str, look: impl FnOnce() -> anyhow::Result<Vec<Finding>>) {
        match look() {
            Ok(findings) => self.findings.extend(findings),
            Err(error) => {
                self.findings.push(Finding::new(
                    Level::Warning,
                    check,
                    format!("cannot be looked at: {error:#}"),
                ));
            }
        }
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// `n` of a thing.
fn counted(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

impl Document for Examination {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        for finding in &self.findings {
            writeln!(writer, "{:8} {}: {}", finding.level.name(), finding.check, plain(&finding.found))?;
            for (title, text) in [("so:", &finding.follows), ("do:", &finding.remedy)] {
                if let Some(text) = text {
                    writeln!(writer, "         {title} {}", plain(text))?;
                }
            }
        }
        let errors = counted(self.count(Level::Error), "error");
        let warnings = counted(self.count(Level::Warning), "warning");
        writeln!(writer, "{errors}, {warnings}, {}", counted(self.count(Level::Note), "note"))
    }
}

/// Names come from outside: neither may they break the line nor steer the terminal.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

impl Args {
    pub(super) fn run(&self, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
        let pins = &context.pins;
        let mut examination = Examination { findings: Vec::new() };
        examination.look("kernel", kernel::look);
        examination.look("agent", || agent::look(pins));
        examination.look("host", host::look);
        let network = watch::list_once();
        let network = || network.as_ref().map_err(|error| anyhow::anyhow!("{error}"));
        examination.look("filters", || filters::look(network()?));
        if pins.base().exists() {
            examination.look("sockets", || sockets::look(pins));
            examination.look("hooks", || hooks::look(pins, network()?));
            examination.look("xdp", || xdp::look(pins, network()?));
            examination.look("redirect-peer", || shortcut::look(pins));
            examination.look("ports", || ports::look(pins));
            examination.look("tables", || tables::look(pins));
        }
        examination.findings.retain(|finding| self.all || finding.level != Level::Ok);
        // Stable: within a level the order stays that of the parts.
        examination.findings.sort_by_key(|finding| finding.level);
        Ok(out.document(&examination)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::out::Format;

    #[test]
    fn findings_say_what_follows_and_what_to_do() {
        let mut examination = Examination { findings: Vec::new() };
        examination.look("a", || {
            Ok(vec![Finding::new(Level::Error, "a", "bro\u{1b}ken").follows("no traffic").remedy("mend it")])
        });
        examination.look("b", || anyhow::bail!("no such file"));
        let mut text = Vec::new();
        Out::to(Format::Text, &mut text).document(&examination).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "ERROR    a: bro ken\n         so: no traffic\n         do: mend it\n\
             WARNING  b: cannot be looked at: no such file\n1 error, 1 warning, 0 notes\n"
        );
        let mut text = Vec::new();
        Out::to(Format::Json, &mut text).document(&examination).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["findings"][0]["level"], "error");
        assert_eq!(json["findings"][1].get("remedy"), None);
    }
}
