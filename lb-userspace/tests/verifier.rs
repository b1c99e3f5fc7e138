//! What each program costs the kernel's verifier: under the limit everywhere, and not more than the committed
//! baseline where compiler and kernel are the baseline's. Needs root; run by `cargo xtask test prog`.
//!
//! `cargo xtask test prog --bless` makes what this machine measures the baseline.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use aya::EbpfLoader;
use aya::programs::{Program, ProgramInfo};
use lb_common::maps::{self, Sizing};
use serde::{Deserialize, Serialize};

/// Verified instructions that no program may need more than: an eighth of the kernel's own limit.
const LIMIT: u32 = 125_000;

/// Instructions that the verifier walked through, by program.
type Costs = BTreeMap<String, u32>;

#[derive(Serialize, Deserialize)]
struct Baseline {
    compiler: String,
    kernel: String,
    programs: Costs,
}

#[test]
fn programs_stay_within_the_verifier_baseline() -> Result<()> {
    let object = env::var("SLUICE_EBPF_OBJECT").context("this test is run by `cargo xtask test prog`")?;
    let costs = measure(&fs::read(&object).with_context(|| format!("read {object}"))?)?;
    let table: String = costs.iter().map(|(name, cost)| format!("  {name} {cost}\n")).collect();
    say(&format!("verified instructions:\n{table}"))?;
    let over: Vec<_> = costs.iter().filter(|(_, cost)| **cost > LIMIT).collect();
    assert!(over.is_empty(), "more than {LIMIT} verified instructions: {over:?}");

    let here = Baseline {
        compiler: env::var("SLUICE_EBPF_COMPILER").context("SLUICE_EBPF_COMPILER is not set")?,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        programs: costs,
    };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../xtask/verifier-baseline.toml");
    if env::var_os("SLUICE_BLESS").is_some() {
        return fs::write(&path, toml::to_string(&here)?).context("write the baseline");
    }
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (lines, worse) = compare(&toml::from_str(&text).context("read the baseline")?, &here);
    say(&lines)?;
    assert!(!worse, "more than the baseline; if that must be, `cargo xtask test prog --bless`:\n{lines}");
    Ok(())
}

/// Loads every program, with small tables: their sizes do not change what the verifier walks through.
fn measure(object: &[u8]) -> Result<Costs> {
    let mut loader = EbpfLoader::new();
    loader.allow_unsupported_maps();
    for spec in maps::ALL.iter().filter(|spec| spec.sizing != Sizing::Fixed) {
        loader.map_max_entries(spec.name, 64);
    }
    let mut ebpf = loader.load(object).context("create the maps")?;
    let mut costs = Costs::new();
    for (name, program) in ebpf.programs_mut() {
        let info = load(program).with_context(|| format!("load the program {name}"))?;
        let cost = info.verified_instruction_count();
        costs.insert(name.to_owned(), cost.with_context(|| format!("the kernel does not count for {name}"))?);
    }
    if costs.is_empty() {
        bail!("the object has no programs");
    }
    Ok(costs)
}

fn load(program: &mut Program) -> Result<ProgramInfo> {
    match program {
        Program::SchedClassifier(program) => program.load()?,
        Program::CgroupSockAddr(program) => program.load()?,
        Program::CgroupSock(program) => program.load()?,
        Program::RawTracePoint(program) => program.load()?,
        Program::Xdp(program) => program.load()?,
        other => bail!("programs of type {:?} are not expected", other.prog_type()),
    }
    Ok(program.info()?)
}

/// The test runner shows what a passing test prints only if it does not know of it.
fn say(text: &str) -> Result<()> {
    Ok(std::io::stderr().write_all(text.as_bytes())?)
}

/// One line per program that differs from the baseline, and whether any costs more where the numbers are
/// of the same compiler and kernel.
fn compare(baseline: &Baseline, here: &Baseline) -> (String, bool) {
    let same = baseline.compiler == here.compiler && baseline.kernel == here.kernel;
    let (mut lines, mut worse) = (String::new(), false);
    for (name, cost) in &here.programs {
        let before = baseline.programs.get(name);
        if before != Some(cost) {
            let before = before.map_or("nothing".to_owned(), u32::to_string);
            lines.push_str(&format!("  {name}: {before} in the baseline, {cost} here\n"));
        }
        worse |= before.is_none_or(|before| cost > before);
    }
    (lines, same && worse)
}

#[test]
fn the_baseline_binds_only_where_compiler_and_kernel_are_its_own() {
    let numbers = |kernel: &str, cost: u32| Baseline {
        compiler: "c".to_owned(),
        kernel: kernel.to_owned(),
        programs: Costs::from([("p".to_owned(), cost)]),
    };
    let baseline = numbers("6.18", 10);
    assert_eq!(compare(&baseline, &numbers("6.18", 10)), (String::new(), false));
    assert!(!compare(&baseline, &numbers("6.18", 9)).1);
    assert!(compare(&baseline, &numbers("6.18", 11)).1);
    let (lines, worse) = compare(&baseline, &numbers("6.12", 11));
    assert_eq!((lines.as_str(), worse), ("  p: 10 in the baseline, 11 here\n", false));
}
