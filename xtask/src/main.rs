//! `cargo xtask VERB`: everything a contributor types.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::bench::{self, BenchArgs};
use xtask::demo::{self, DemoArgs};
use xtask::fuzz::{self, FuzzArgs};
use xtask::kube::KubeVerb;
use xtask::lab::helper::HelperVerb;
use xtask::soak::{self, SoakArgs};
use xtask::{build, image, lint, setup, test};

/// Set-up, build, demo, tests, figures and lint of this repository.
///
/// Every verb installs what it lacks and says so.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install all that the other verbs need
    Setup,
    /// Build target/release/sluice with its eBPF programs in it, its man pages and completions
    Build,
    /// Make the container image: target/image/sluice.tar, and its files in target/image/root
    Image,
    /// Run the tests, layer by layer: host, prog, lab and kube
    Test {
        /// Only this layer; or all of them and the long tests
        layer: Option<test::Choice>,
        /// Make what this machine's verifier counts the baseline
        #[arg(long)]
        bless: bool,
        /// Words for the test programs, such as a part of a test's name
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// Fuzz the datapath and the reader of manifests
    Fuzz(FuzzArgs),
    /// Check format, lints, imports between layers, and the licences of dependencies
    Lint,
    /// Show what Sluice does: a node, pods, Services, in well under a minute
    Demo(DemoArgs),
    /// A cluster to play with: a real control plane, nodes and pods as network namespaces
    #[command(subcommand)]
    Kube(KubeVerb),
    /// Let Services, endpoints, pods and the agent come and go for minutes, under traffic that must not notice
    Soak(SoakArgs),
    /// Measure Sluice beside kube-proxy
    Bench(BenchArgs),
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
        Verb::Build => build::share(&build::sluice(&setup::build_tools()?)?),
        Verb::Image => image::run(),
        Verb::Test { layer, bless, words } => test::run(layer, bless, &words),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Lint => lint::run(),
        Verb::Demo(args) => demo::run(&args),
        Verb::Kube(verb) => verb.run(),
        Verb::Soak(args) => soak::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::LabHelper(verb) => verb.run(),
    }
}
