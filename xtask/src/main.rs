//! `cargo xtask VERB`: everything a contributor types.

use clap::Parser;

/// Set-up, build, demo, tests and lint of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {}

fn main() {
    Args::parse();
}
