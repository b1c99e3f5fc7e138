//! `cargo xtask VERB`: everything a contributor types.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::lab::helper::HelperVerb;
use xtask::{build, setup};

/// Set-up, build, demo, tests and lint of this repository.
///
/// Every verb installs what it lacks and says so.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install all that the other verbs need
    Setup,
    /// Build target/release/sluice with its eBPF programs in it
    Build,
    /// What the lab runs inside its namespaces
    #[command(hide = true, subcommand)]
    LabHelper(HelperVerb),
}

fn main() -> ExitCode {
    match run(Args::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup => setup::everything(),
        Verb::Build => build::sluice(&setup::build_tools()?).map(drop),
        Verb::LabHelper(verb) => verb.run(),
    }
}
