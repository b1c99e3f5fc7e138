//! The object as the kernel's own tools see it. Run by `cargo xtask test prog`.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_common::maps;

fn bpftool(arguments: &[&str]) -> Result<String> {
    let output = Command::new("bpftool").args(arguments).output().context("start bpftool")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bpftool {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// libbpf opens it, so what operators have at hand works with it.
#[test]
fn bpftool_lists_types_and_maps_of_the_object() -> Result<()> {
    let object = env::var("SLUICE_EBPF_OBJECT").context("this test is run by `cargo xtask test prog`")?;
    let types = bpftool(&["btf", "dump", "file", &object])?;
    assert!(types.contains("STRUCT '__sk_buff'"), "no type of the kernel's in the object's BTF");
    let skeleton = bpftool(&["gen", "skeleton", &object, "name", "sluice"])?;
    let lacking = |name: &&str| !skeleton.contains(&format!("struct bpf_map *{name};"));
    let lacking: Vec<&str> = maps::ALL.iter().map(|spec| spec.name).filter(lacking).collect();
    assert!(lacking.is_empty(), "maps that libbpf does not see: {lacking:?}");
    Ok(())
}
