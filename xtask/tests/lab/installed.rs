//! The binary alone, as it is installed: nothing of the source tree is there.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use xtask::lab::binary;
use xtask::sh;

use crate::support::lab;

/// Runs `$2 ...` where the folder `$1` is empty.
const WITHOUT: &str = "mount -t tmpfs none \"$1\" && cd / && shift && exec \"$@\"";

#[test]
fn the_bench_takes_no_more_than_its_binary() {
    let folder = lab().dir().join("installed");
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("sluice");
    fs::copy(binary(), &program).unwrap();
    let mut bench = Command::new("unshare");
    bench.args(["--mount", "sh", "-c", WITHOUT, "sh"]).arg(sh::root()).arg(&program);
    bench.args(["-j", "bench", "crr", "--rounds", "1", "--runs", "20", "--services", "2"]);
    bench.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    let answer: Value = serde_json::from_str(&sh::read(&mut bench).unwrap()).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let figures = answer["rows"][0]["figures"].as_array().unwrap();
    let rate = figures.iter().find(|figure| figure["name"] == "socket_2").unwrap();
    assert!(rate["sluice"]["value"].as_f64() > Some(0.0), "{answer:#}");
}
