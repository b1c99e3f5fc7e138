//! `cargo xtask fuzz`: the targets of the crate `fuzz` under libFuzzer, by hand for as long as one likes, and for some
//! seconds each in the tests of layer host.
//!
//! ```text
//! target/fuzz/seeds/TARGET    what a target begins with, written by the target itself
//! target/fuzz/corpus/TARGET   what it has found to lead anywhere new; kept for the next time
//! target/fuzz/found/          inputs that failed
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::tally::Tally;
use crate::{build, setup, sh};

/// Flags of the fuzzing.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// Only this target
    target: Option<Target>,
    /// How long
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Run this one input, such as one of target/fuzz/found, and say what fails
    #[arg(long, requires = "target")]
    replay: Option<PathBuf>,
}

/// What is fuzzed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Target {
    /// One packet of any bytes through the datapath
    Packets,
    /// Packets, changes of tables and time, played by the datapath and by the reference
    Stories,
    /// Manifests of any text
    Manifests,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Stories => "stories",
            Self::Manifests => "manifests",
        }
    }
}

/// Whether a run can be repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Chance {
    /// Tries the same each time, as far as it comes.
    Fixed,
    /// Tries something else each time.
    Random,
}

/// Fuzzes by hand.
///
/// # Errors
/// A missing tool, a failed build, or a failure that was found.
pub fn run(args: &FuzzArgs) -> Result<()> {
    let targets: Vec<_> = args.target.map_or_else(|| Target::value_variants().to_vec(), |one| vec![one]);
    let engine = Engine::build()?;
    if let (Some(target), Some(input)) = (args.target, &args.replay) {
        return sh::run(Command::new(engine.binary(target)).arg(input));
    }
    if engine.fuzz(&targets, args.seconds, Chance::Random)?.failed > 0 {
        bail!("fuzzing found failures");
    }
    Ok(())
}

/// The targets, built with the engine.
pub struct Engine {
    /// Where cargo puts what it builds.
    built: PathBuf,
}

impl Engine {
    /// Builds the targets; of the workspace's crates alone with what counts coverage, the other ones are built already.
    ///
    /// # Errors
    /// A missing C++ compiler, or cargo's own.
    pub fn build() -> Result<Self> {
        setup::need(setup::ENGINE)?;
        sh::say("building the fuzzing targets");
        let mut cargo = sh::cargo();
        cargo.args(["build", "--package", "fuzz", "--features", "engine", "--bins"]);
        sh::run(cargo.env("RUSTC_WORKSPACE_WRAPPER", sh::root().join("fuzz/instrument.sh")))?;
        Ok(Self { built: build::target_folder()? })
    }

    /// Runs all targets at once for so many seconds and says what came of each. A target that fails counts as a failed test.
    ///
    /// # Errors
    /// A target that does not start.
    pub fn all(&self, seconds: u64, chance: Chance) -> Result<Tally> {
        self.fuzz(Target::value_variants(), seconds, chance)
    }

    fn fuzz(&self, targets: &[Target], seconds: u64, chance: Chance) -> Result<Tally> {
        let started: Vec<_> =
            targets.iter().map(|target| self.start(*target, seconds, chance)).collect::<Result<_>>()?;
        let mut tally = Tally::default();
        for (target, (mut child, log)) in targets.iter().zip(started) {
            let name = target.name();
            let status = child.wait().with_context(|| format!("wait for the target {name}"))?;
            let said = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
            let said = String::from_utf8_lossy(&said);
            if status.success() {
                tally.passed += 1;
                sh::say(&format!("fuzz {name}: {} inputs, no failure", inputs(&said)));
            } else {
                tally.failed += 1;
                eprint!("{}", failure(&said));
                sh::say(&format!("fuzz {name} FAILED, {status}; all that it said is in {}", log.display()));
                let file = said.rsplit("Test unit written to ").next().and_then(|rest| rest.lines().next());
                sh::say(&format!("again: cargo xtask fuzz {name} --replay {}", file.unwrap_or("FILE")));
            }
        }
        Ok(tally)
    }

    fn binary(&self, target: Target) -> PathBuf {
        self.built.join(format!("debug/fuzz-{}", target.name()))
    }

    fn start(&self, target: Target, seconds: u64, chance: Chance) -> Result<(Child, PathBuf)> {
        let (name, home) = (target.name(), self.built.join("fuzz"));
        let folder = |kind: &str| make(&home.join(kind).join(name));
        let (corpus, seeds, found) = (folder("corpus")?, folder("seeds")?, make(&home.join("found"))?);
        let path = home.join(format!("{name}.log"));
        let log = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        let mut command = Command::new(self.binary(target));
        command.args([&corpus, &seeds]).env("SLUICE_FUZZ_SEEDS", &seeds).env("RUST_BACKTRACE", "0");
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/{name}-", found.display()));
        // A slow machine is no finding, an endless loop is.
        command.args(["-timeout=60", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"]);
        if chance == Chance::Fixed {
            command.arg("-seed=1");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Ok((child.with_context(|| format!("start the target {name}"))?, path))
    }
}

fn make(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// How many inputs were tried, from the engine's closing words.
fn inputs(said: &str) -> &str {
    let count = said.rsplit("stat::number_of_executed_units:").next().and_then(|rest| rest.lines().next());
    count.unwrap_or_default().trim()
}

/// What the engine said from the failure on, without its own account of the stack and the input.
fn failure(said: &str) -> &str {
    let from = said.find("\nthread '").or_else(|| said.find("\n==")).map_or(0, |at| at + 1);
    let rest = &said[from..];
    &rest[..rest.find("\n==").map_or(rest.len(), |at| at + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_are_understood() {
        let said = "#1 NEW\n\nthread '<unnamed>' panicked at fuzz/src/stories.rs:12:9:\nevent 0: …\n==1== ERROR: libFuzzer\n";
        assert_eq!(failure(said), "thread '<unnamed>' panicked at fuzz/src/stories.rs:12:9:\nevent 0: …\n");
        assert_eq!(inputs("Done\nstat::number_of_executed_units: 11176\nstat::x: 3\n"), "11176");
    }
}
