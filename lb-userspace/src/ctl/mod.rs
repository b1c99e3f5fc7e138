//! The command line of `sluice`.
//!
//! Every object has a module that reads, a row or document that is both text and JSON, and nothing that writes the
//! tables: they are pinned, so all of this works while no agent runs.
//!
//! ```text
//! args ──> object module ──> view, counts, bpf::inspect (read pinned tables into plain values)
//!                       └──> rows, documents ──> out (text | JSON)
//! ```

mod affinity;
mod args;
mod backend;
mod bench;
mod cleanup;
mod completion;
mod crowd;
mod doctor;
mod event;
mod event_names;
mod event_row;
mod flow;
mod flow_row;
mod generate;
mod link;
mod map;
mod out;
mod prog;
mod service;
mod shadowed;
mod stats;
mod status;
mod target;
mod text;
mod unserved;
mod version;
mod view;

#[cfg(test)]
mod tests;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use crate::bpf::pin::PinDir;

use args::{Agent, Cli, Object, format_of_refused};
use out::{Format, Out};

/// Exit status for a command line that makes no sense.
const WRONG_USAGE: u8 = 2;

/// What every command is told.
struct Context {
    pins: PinDir,
}

impl Context {
    /// The pin directory, in which there is a datapath.
    fn datapath(&self) -> anyhow::Result<&PinDir> {
        let (root, base) = (self.pins.root(), self.pins.base());
        match fs::metadata(base) {
            Ok(_) => Ok(&self.pins),
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "no datapath is installed under {}: is an agent running with this --pin-dir?",
                root.display()
            ),
            Err(error) => Err(error).with_context(|| format!("look into {}", base.display())),
        }
    }
}

/// Runs the command that this process was started with.
///
/// `agent` is what `sluice agent` runs, `A` its flags.
///
/// Exit status: 0 done, 1 failed, 2 wrong usage. A reader that closes the pipe is no failure.
pub fn run<A: clap::Args>(agent: impl FnOnce(A, &PinDir) -> anyhow::Result<()>) -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let cli = match Cli::<A>::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(refusal) => return refuse(&refusal, format_of_refused(&args)),
    };
    let mut out = Out::stdout(cli.global.format());
    let result = answer(cli, agent, &mut out).and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&mut out, &told(&error));
            ExitCode::FAILURE
        }
    }
}

fn answer<A: clap::Args>(
    cli: Cli<A>,
    agent: impl FnOnce(A, &PinDir) -> anyhow::Result<()>,
    out: &mut Out<'_>,
) -> anyhow::Result<()> {
    let context = Context { pins: PinDir::new(cli.global.pin_dir) };
    match cli.object {
        Object::Service(args) => service::run(&args, &context, out),
        Object::Backend(args) => backend::run(&args, &context, out),
        Object::Flow(args) => args.run(&context, out),
        Object::Affinity(args) => args.run(&context, out),
        Object::Event(args) => args.run(&context, out),
        Object::Stats(args) => args.run(&context, out),
        Object::Map(args) => map::run(&args, &context, out),
        Object::Prog(args) => prog::run(&args, &context, out),
        Object::Link(args) => link::run(&args, &context, out),
        Object::Status(args) => args.run(&context, out),
        Object::Doctor(args) => args.run(&context, out),
        Object::Bench(bench::Args { command: Some(bench::Command::Help), .. }) => help::<A>("bench", out),
        Object::Bench(args) => args.run(out),
        Object::Cleanup(cleanup::Args { help: Some(_) }) => help::<A>("cleanup", out),
        Object::Cleanup(args) => args.run(&context, out),
        Object::Version(args) => args.run(out),
        Object::Completion(args) => args.run(Cli::<A>::command(), out),
        Object::Man(args) => args.run(Cli::<A>::command(), out),
        Object::Agent(Agent { flags, help: None }) => agent(flags, &context.pins),
        Object::Agent(_) => help::<A>("agent", out),
    }
}

/// Prints the help of an object that has no other commands.
fn help<A: clap::Args>(object: &str, out: &mut Out<'_>) -> anyhow::Result<()> {
    let mut command = Cli::<A>::command();
    command.build();
    let object = command.find_subcommand_mut(object).context("no such object")?;
    Ok(out.raw(object.render_help().to_string().as_bytes())?)
}

/// Answers a command line that clap has refused, or that asks for help or the version.
fn refuse(refusal: &clap::Error, format: Format) -> ExitCode {
    if !refusal.use_stderr() {
        let _ = refusal.print();
        return ExitCode::SUCCESS;
    }
    if format == Format::Text {
        let _ = refusal.print();
    } else {
        report(&mut Out::stdout(format), &message_of(refusal));
    }
    ExitCode::from(WRONG_USAGE)
}

/// What a refusal says, without the usage that follows it.
fn message_of(refusal: &clap::Error) -> String {
    use ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, MissingSubcommand};
    if matches!(refusal.kind(), DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand) {
        return "no object is named: see `sluice help`".to_owned();
    }
    let text = refusal.render().to_string();
    let paragraphs = text.split("\n\n");
    let said = paragraphs
        .take_while(|paragraph| !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more"));
    let said: Vec<_> = said.map(str::trim).collect();
    said.join("; ").trim_start_matches("error: ").to_owned()
}

/// Says why there is no answer. Whoever does not listen to that either gets the exit status alone.
fn report(out: &mut Out<'_>, message: &str) {
    let _ = out.error(message).and_then(|()| out.flush());
}

/// The error and its causes, without those that it has named already.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        match (told.is_empty(), told.contains(&cause)) {
            (true, _) => cause,
            (false, true) => told,
            (false, false) => format!("{told}: {cause}"),
        }
    })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
