//! `cargo xtask test`: the layers, one after the other, each counted and timed.
//!
//! A test that needs root is an integration test of its own file, declared in its crate's manifest with
//! `required-features = ["root-tests"]`: plain `cargo test` leaves it out. Those of `lb-userspace` are the
//! layer `prog`, `lab` and `kube` of `xtask` the layers of these names.

use std::env;
use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Deserialize;

use crate::fuzz::{Chance, Engine};
use crate::kube::{Binaries, binaries};
use crate::matrix::{self, Matrices};
use crate::setup::{self, Tools};
use crate::tally::Tally;
use crate::transcript::Transcript;
use crate::{build, machine, sh, titles};

/// The feature that the tests which need root require.
const ROOT: &str = "root-tests";

/// Which tests to run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Libraries, model, plan, layouts, command line; no root
    Host,
    /// The real programs by prog-test-run, and what they cost the verifier
    Prog,
    /// Nodes, pods and clients as network namespaces
    Lab,
    /// A real control plane, and nodes with agents that watch it
    Kube,
    /// All of them, the long tests too
    All,
}

/// One layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Host,
    Prog,
    Lab,
    Kube,
}

impl Layer {
    const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Prog => "prog",
            Self::Lab => "lab",
            Self::Kube => "kube",
        }
    }

    /// Whether the test `target` of `package`, which requires [`ROOT`], is part of this layer.
    fn has(self, package: &str, target: &str) -> bool {
        match self {
            Self::Host => false,
            Self::Prog => package == "lb-userspace",
            Self::Lab | Self::Kube => package == "xtask" && target == self.name(),
        }
    }
}

/// What layers may take once built.
const BUDGETS: &[(&[Layer], Duration)] = &[
    (&[Layer::Host, Layer::Prog], Duration::from_secs(180)),
    (&[Layer::Lab], Duration::from_secs(360)),
    (&[Layer::Kube], Duration::from_secs(360)),
];

/// What building the programs of a cluster may take where none are there, beside the compiler of everything else.
const CLUSTER: Duration = Duration::from_secs(1200);

/// What one layer did.
struct Outcome {
    layer: Layer,
    transcript: Transcript,
    took: Duration,
}

impl Outcome {
    /// That of a layer which could not be run.
    fn failed(layer: Layer) -> Self {
        let mut transcript = Transcript::default();
        transcript.tally.failed = 1;
        Self { layer, transcript, took: Duration::ZERO }
    }
}

/// Runs the chosen layers (all but the long tests where there is no choice), and says what ran.
///
/// `words` go to the test programs; `bless` makes the verifier's baseline what this machine measures.
///
/// # Errors
/// An unfit machine, a missing tool, a failed build; and after all layers: that a test failed.
pub fn run(choice: Option<Choice>, bless: bool, words: &[String]) -> Result<()> {
    let layers: &[Layer] = match choice {
        Some(Choice::Host) => &[Layer::Host],
        Some(Choice::Prog) => &[Layer::Prog],
        Some(Choice::Lab) => &[Layer::Lab],
        Some(Choice::Kube) => &[Layer::Kube],
        Some(Choice::All) | None => &[Layer::Host, Layer::Prog, Layer::Lab, Layer::Kube],
    };
    let mut surroundings: Vec<(&str, String)> = Vec::new();
    let mut cluster = None;
    if layers != [Layer::Host] {
        machine::check("every layer of the tests but `host`")?;
        cluster = layers.contains(&Layer::Kube).then(|| thread::spawn(cluster_programs));
        let tools = setup::build_tools()?;
        setup::need(setup::LAB)?;
        if layers.contains(&Layer::Kube) {
            // One test needs it, and fails without.
            if let Err(error) = setup::tutorial_python() {
                sh::say(&format!("no Python environment for the tutorial: {error:#}"));
            }
        }
        surroundings = programs(&tools, layers)?;
    }
    if choice == Some(Choice::All) {
        surroundings.push(("SLUICE_TEST_LONG", "1".to_owned()));
    }
    if bless {
        surroundings.push(("SLUICE_BLESS", "1".to_owned()));
    }
    let built: Vec<_> =
        layers.iter().map(|&layer| Built::new(layer, &surroundings)).collect::<Result<_>>()?;
    // Two compilers at once would count as the layers' own time.
    let cluster = cluster.map(|building| sh::joined(building.join()));
    let mut outcomes = Vec::new();
    for built in built {
        let layer = built.layer;
        sh::say(&format!("tests of layer {}", layer.name()));
        if let (Layer::Kube, Some(Err(error))) = (layer, &cluster) {
            sh::say(&format!("no programs of a cluster: {error:#}"));
            outcomes.push(Outcome::failed(layer));
            continue;
        }
        let mut outcome = built.run(words)?;
        if layer == Layer::Kube && words.is_empty() {
            titles(&mut outcome)?;
        }
        if layer == Layer::Host && words.is_empty() {
            fuzz(&mut outcome, choice == Some(Choice::All))?;
        }
        outcomes.push(outcome);
    }
    report(&outcomes, cluster.and_then(Result::ok))
}

/// Finds or builds what the tests of the layer `kube` run: how long that took.
fn cluster_programs() -> Result<Duration> {
    let begun = Instant::now();
    Binaries::get(binaries::ALL)?;
    Ok(begun.elapsed())
}

/// Builds what the tests with root run, and gives the variables that tell them where it is.
fn programs(tools: &Tools, layers: &[Layer]) -> Result<Vec<(&'static str, String)>> {
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let objects = build::objects(tools)?;
    let mut variables = vec![
        (build::OBJECT_VARIABLE, text(objects.datapath)),
        (build::BENCH_VARIABLE, text(objects.bench)),
        ("SLUICE_EBPF_COMPILER", tools.compiler.name.clone()),
    ];
    if layers.contains(&Layer::Lab) || layers.contains(&Layer::Kube) {
        variables.push(("SLUICE_BIN", text(build::sluice(tools)?)));
    }
    Ok(variables)
}

/// The test programs of a layer.
struct Built<'a> {
    layer: Layer,
    arguments: Vec<String>,
    /// What is run side by side: a program that needs root each, or (`None`) all that need none.
    programs: Vec<Option<String>>,
    variables: &'a [(&'static str, String)],
    works: bool,
}

impl<'a> Built<'a> {
    /// Builds them; a failure of the compiler is one of the layer.
    fn new(layer: Layer, variables: &'a [(&'static str, String)]) -> Result<Self> {
        let mut arguments = vec!["test".to_owned(), "--workspace".to_owned()];
        let mut programs = vec![None];
        if layer != Layer::Host {
            arguments.extend(["--features".to_owned(), format!("lb-userspace/{ROOT},xtask/{ROOT}")]);
            programs = root_tests(layer)?.into_iter().map(Some).collect();
        }
        let mut built = Self { layer, arguments, programs, variables, works: false };
        built.works = sh::run(built.command(&built.programs).arg("--no-run")).is_ok();
        Ok(built)
    }

    /// `cargo test` of these programs.
    fn command(&self, programs: &[Option<String>]) -> Command {
        let mut cargo = sh::cargo();
        // The plain `cargo test` of a contributor has no object to embed; the same here saves building twice.
        let seen = |name: &str| {
            self.layer != Layer::Host || ![build::OBJECT_VARIABLE, build::BENCH_VARIABLE].contains(&name)
        };
        let seen = self.variables.iter().filter(|(name, _)| seen(name));
        cargo.args(&self.arguments).envs(seen.map(|(name, value)| (name, value)));
        cargo.args(programs.iter().flatten().flat_map(|name| ["--test", name]));
        cargo
    }

    fn run(&self, words: &[String]) -> Result<Outcome> {
        if !self.works {
            return Ok(Outcome::failed(self.layer));
        }
        let begun = Instant::now();
        let matrices = Matrices::new();
        let run = |programs: &[Option<String>]| {
            let mut command = self.command(programs);
            if self.layer == Layer::Kube && env::var_os("RUST_TEST_THREADS").is_none() {
                // These wait for controllers, and for one another, more than they compute.
                command.env("RUST_TEST_THREADS", "6");
            }
            command.env(matrix::VARIABLE, matrices.path());
            read(command.arg("--no-fail-fast").arg("--").args(words))
        };
        let mut transcript = Transcript::default();
        thread::scope(|scope| {
            let running = self.programs.chunks(1).map(|program| scope.spawn(move || run(program)));
            let running: Vec<_> = running.collect();
            running.into_iter().try_for_each(|one| {
                transcript.append(sh::joined(one.join())?);
                Ok::<_, anyhow::Error>(())
            })
        })?;
        stdout().write_all(matrices.report()?.as_bytes())?;
        Ok(Outcome { layer: self.layer, transcript, took: begun.elapsed() })
    }
}

/// Says which titles of upstream's tests are mirrored; one whose test has not passed is a failure.
fn titles(outcome: &mut Outcome) -> Result<()> {
    let (text, lacking) = titles::report(&titles::read()?, &outcome.transcript.passed);
    stdout().write_all(text.as_bytes())?;
    for title in &lacking {
        sh::say(&format!("docs/upstream.md says that this is held, but its test did not pass: {title}"));
    }
    // A test that failed is counted already.
    let tally = &mut outcome.transcript.tally;
    if tally.failed == 0 && !lacking.is_empty() {
        tally.failed += 1;
    }
    Ok(())
}

/// Adds the fuzzing targets, each for a time that is known before.
fn fuzz(outcome: &mut Outcome, long: bool) -> Result<()> {
    let engine = Engine::build()?;
    let begun = Instant::now();
    outcome.transcript.tally +=
        if long { engine.all(60, Chance::Random) } else { engine.all(10, Chance::Fixed) }?;
    outcome.took += begun.elapsed();
    Ok(())
}

/// Runs `command`, hands its output on line by line, and reads it.
fn read(command: &mut Command) -> Result<Transcript> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let mut transcript = Transcript::default();
    let mut reader = BufReader::new(child.stdout.take().context("cargo test has no output")?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("read what cargo test says")? > 0 {
        stdout().write_all(&line)?;
        transcript.add(&String::from_utf8_lossy(&line));
        line.clear();
    }
    if !child.wait().context("wait for cargo test")?.success() && transcript.tally.failed == 0 {
        transcript.tally.failed += 1;
    }
    Ok(transcript)
}

/// The names of the integration tests that are `layer`.
fn root_tests(layer: Layer) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        #[serde(default, rename = "required-features")]
        required: Vec<String>,
    }
    let text = sh::read(sh::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("read the output of cargo metadata")?;
    let mut names = Vec::new();
    for Package { name: package, targets } in metadata.packages {
        let needs_root = targets.into_iter().filter(|it| it.required.iter().any(|name| name == ROOT));
        names.extend(needs_root.map(|it| it.name).filter(|name| layer.has(&package, name)));
    }
    Ok(names)
}

/// Says what ran, against its budget, and why tests failed, if any did: then it fails, too. `cluster`: what the
/// programs of a cluster took.
fn report(outcomes: &[Outcome], cluster: Option<Duration>) -> Result<()> {
    let mut total = Tally::default();
    let mut out = stdout().lock();
    writeln!(out)?;
    for failure in outcomes.iter().flat_map(|outcome| &outcome.transcript.failures) {
        writeln!(out, "{failure}")?;
    }
    for Outcome { layer, transcript: Transcript { tally, .. }, took } in outcomes {
        writeln!(
            out,
            "layer {}: {} tests, {tally}, in {:.0} s",
            layer.name(),
            tally.ran(),
            took.as_secs_f64()
        )?;
        total += *tally;
    }
    for (layers, budget) in BUDGETS {
        let of = |outcome: &&Outcome| layers.contains(&outcome.layer);
        let took: Duration = outcomes.iter().filter(of).map(|outcome| outcome.took).sum();
        let names: Vec<_> = outcomes.iter().filter(of).map(|outcome| outcome.layer.name()).collect();
        if !names.is_empty() {
            writeln!(out, "{}", compared(&names.join(" and "), took, *budget))?;
        }
    }
    if let Some(took) = cluster {
        writeln!(out, "{}", compared("programs of a cluster", took, CLUSTER))?;
    }
    writeln!(out, "{total}")?;
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    Ok(())
}

/// A time and its budget.
fn compared(what: &str, took: Duration, budget: Duration) -> String {
    let verdict = if took > budget { "OVER the budget" } else { "of a budget" };
    format!("{what}: {:.0} s {verdict} of {} s", took.as_secs_f64(), budget.as_secs())
}
