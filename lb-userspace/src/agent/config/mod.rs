//! `--config`: flags that stand in a file.
//!
//! ```text
//! file ──> document (YAML, with lines) ──> kube_proxy, own (fields to flags) ──> Given
//! command line ──> clap ──> what was given there ─────────────────────────────────┴─> clap ──> Args, Effective
//! ```
//!
//! There is one declaration of every setting, [`Args`]: what a file says becomes the default of its flag, is checked by
//! the same parser, and gives way to the command line. The fields of a `SluiceConfiguration` are the names of flags, those
//! of a `KubeProxyConfiguration` are listed with what they mean here.
//!
//! The file is read once: whoever changes it starts the agent again.

mod document;
mod kube_proxy;
mod own;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches};
use serde::Serialize;

use super::args::Args;
use document::Document;

/// What the agent is told, by its command line and by the file that this names.
#[derive(Clone, Debug)]
pub struct Told {
    /// All of it.
    pub args: Args,
    /// The same, to be shown.
    pub effective: Effective,
    /// What of the file has no meaning here: a sentence each.
    pub ignored: Vec<String>,
}

/// Every flag of the agent with its value.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Effective {
    /// By name, without the dashes.
    pub flags: BTreeMap<String, Setting>,
}

/// The value of one flag.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// As it is written on a command line; `None`: it is found out while the agent runs.
    pub value: Option<String>,
    /// Who says so.
    pub from: Origin,
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody says anything else.
    Default,
    /// The file of `--config`.
    File,
    /// The command line.
    Flag,
}

/// What a file says about one flag.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Given {
    /// The flag, without the dashes.
    flag: String,
    /// The field, with those that it stands in.
    field: String,
    /// The line, counted from 1, that its value begins at.
    line: u64,
    /// As it would stand on a command line.
    value: String,
}

/// What a file says.
#[derive(Debug, Default)]
struct Reading {
    given: Vec<Given>,
    /// Fields without a meaning here, each with its line.
    ignored: Vec<(u64, String)>,
}

/// A line, counted from 1, and what is wrong there.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Fault {
    line: u64,
    text: String,
}

impl Fault {
    fn new(line: u64, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }
}

/// The flags of the agent alone, for values that are checked one by one.
fn command() -> Command {
    Args::augment_args(Command::new("sluice").no_binary_name(true)).mut_args(|arg| arg.required(false))
}

/// The flags that a file may set.
fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !matches!(arg.get_long(), None | Some("config" | "help")))
}

impl clap::Args for Told {
    fn group_id() -> Option<clap::Id> {
        Args::group_id()
    }

    fn augment_args(command: Command) -> Command {
        Args::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Args::augment_args_for_update(command)
    }
}

impl FromArgMatches for Told {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let wrong = |text: String| clap::Error::raw(ErrorKind::ValueValidation, text);
        let file = matches.get_one::<std::path::PathBuf>("config");
        let mut reading = match file {
            Some(path) => read(path).map_err(wrong)?,
            None => Reading::default(),
        };
        let mut command = command();
        let words = words(&command, matches);
        let beaten = |given: &Given| {
            let mut flags =
                command.get_arguments().filter(|arg| is_given(arg, matches)).filter_map(Arg::get_long);
            flags.any(|flag| exclude(&command, &given.flag, flag))
        };
        reading.given.retain(|given| !beaten(given));
        for Given { flag, value, .. } in &reading.given {
            let id =
                command.get_arguments().find(|arg| arg.get_long() == Some(flag)).map(Arg::get_id).cloned();
            if let Some(id) = id {
                command = command.mut_arg(id, |arg| arg.default_value(value.clone()));
            }
        }
        let matches = command.try_get_matches_from_mut(words)?;
        let args = Args::from_arg_matches(&matches)?;
        let in_file = |arg: &Arg| reading.given.iter().any(|given| arg.get_long() == Some(&given.flag));
        let effective = Effective::of(&command, &matches, in_file);
        let place = file.map(|path| path.display().to_string()).unwrap_or_default();
        let ignored = reading.ignored.iter().map(|(line, text)| format!("{place}:{line}: {text}")).collect();
        Ok(Self { args, effective, ignored })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What stood on the command line, as far as it is about the agent's flags.
fn words(command: &Command, matches: &ArgMatches) -> Vec<OsString> {
    let mut words = Vec::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let Some(long) = arg.get_long() else { continue };
        if !is_given(arg, matches) {
            continue;
        }
        if !arg.get_action().takes_values() {
            words.push(format!("--{long}").into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            words.push(word);
        }
    }
    words
}

/// Whether `arg` stood on the command line.
fn is_given(arg: &Arg, matches: &ArgMatches) -> bool {
    let id = arg.get_id().as_str();
    matches!(matches.try_contains_id(id), Ok(true))
        && matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// Whether only one of these flags can be given.
fn exclude(command: &Command, one: &str, other: &str) -> bool {
    let excluded = |one: &str, other: &str| {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(one));
        let all = arg.into_iter().flat_map(|arg| command.get_arg_conflicts_with(arg));
        all.into_iter().any(|arg| arg.get_long() == Some(other))
    };
    excluded(one, other) || excluded(other, one)
}

/// Reads the file at `path`. The error names the line and says what to do.
fn read(path: &Path) -> Result<Reading, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("--config {}: {error}", path.display()))?;
    parse(&text).map_err(|Fault { line, text }| format!("{}:{line}: {text}", path.display()))
}

fn parse(text: &str) -> Result<Reading, Fault> {
    let command = command();
    let mut reading = Reading::default();
    let mut seen = Vec::new();
    for Document { line, version, kind, fields } in Document::all(text)? {
        if seen.contains(&kind) {
            return Err(Fault::new(line, format!("a second {kind}: put the fields of both into one")));
        }
        match (version.as_str(), kind.as_str()) {
            (kube_proxy::VERSION, kube_proxy::KIND) => kube_proxy::read(fields, &mut reading)?,
            (own::VERSION, own::KIND) => own::read(fields, &command, &mut reading)?,
            _ => {
                let wanted = [(kube_proxy::VERSION, kube_proxy::KIND), (own::VERSION, own::KIND)]
                    .map(|(version, kind)| format!("a {kind} of {version}"));
                let text =
                    format!("`{kind}` of `{version}` is not understood here: {} is", wanted.join(" or "));
                return Err(Fault::new(line, text));
            }
        }
        seen.push(kind);
    }
    reading.given = merged(reading.given);
    for (position, given) in reading.given.iter().enumerate() {
        check(&command, given)?;
        let mut others = reading.given.iter().take(position);
        if let Some(other) = others.find(|other| exclude(&command, &other.flag, &given.flag)) {
            let text = format!("{} and {} exclude each other: take one out", given.field, other.field);
            return Err(Fault::new(given.line, text));
        }
    }
    Ok(reading)
}

/// One for each flag: what several fields say about one is a list.
fn merged(all: Vec<Given>) -> Vec<Given> {
    let mut merged: Vec<Given> = Vec::new();
    for given in all {
        match merged.iter_mut().find(|other| other.flag == given.flag) {
            Some(other) => other.value = format!("{},{}", other.value, given.value),
            None => merged.push(given),
        }
    }
    merged
}

/// Has the parser of the flag read the value.
fn check(command: &Command, given: &Given) -> Result<(), Fault> {
    let Given { flag, field, line, value } = given;
    let takes_values =
        settable(command).any(|arg| arg.get_long() == Some(flag) && arg.get_action().takes_values());
    let result = match (takes_values, value.as_str()) {
        (false, "true" | "false") => return Ok(()),
        (false, _) => Err(format!("`{value}` is neither true nor false")),
        (true, _) => {
            let tried = command.clone().try_get_matches_from([format!("--{flag}={value}")]);
            tried.map(drop).map_err(|error| {
                let text = error.render().to_string();
                let said = text.split("\n\n").next().unwrap_or_default();
                said.trim_start_matches("error: ").replace('\n', " ")
            })
        }
    };
    result.map_err(|text| Fault::new(*line, format!("{field}: {text}")))
}

impl Effective {
    fn of(command: &Command, matches: &ArgMatches, in_file: impl Fn(&Arg) -> bool) -> Self {
        let setting = |arg: &Arg| {
            let id = arg.get_id().as_str();
            let values: Option<Vec<_>> = match arg.get_action() {
                ArgAction::SetTrue => Some(vec![matches.get_flag(id).to_string().into()]),
                _ => matches.get_raw(id).map(|values| values.map(|value| value.to_string_lossy()).collect()),
            };
            let from = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => Origin::Flag,
                _ if in_file(arg) => Origin::File,
                _ => Origin::Default,
            };
            let value = values.map(|values| values.join(",")).filter(|value| !value.is_empty());
            Some((arg.get_long()?.to_owned(), Setting { value, from }))
        };
        let all = command.get_arguments().filter(|arg| arg.get_long() != Some("help"));
        Self { flags: all.filter_map(setting).collect() }
    }
}

#[cfg(test)]
mod tests;
