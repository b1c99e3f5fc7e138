//! `cargo xtask bench`: all that it measures is read, whatever it is, and nothing is left.

use std::fs;
use std::process::Command;

use serde_json::Value;
use xtask::sh;

use crate::support::lab;

#[test]
fn packets_go_through_rules_that_kube_proxy_has_written() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_xtask"));
    bench.args([
        "bench",
        "veth-mpps",
        "--services",
        "5",
        "--endpoints",
        "2",
        "--rounds",
        "3",
        "--runs",
        "40",
        "-j",
    ]);
    let output = bench.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["versions"]["kube-proxy"].as_str().unwrap().contains("v1."), "{document:#}");
    let row = &document["rows"][0];
    assert_eq!(row["settings"]["kube_proxy_services"], 5, "{row:#}");
    for (figure, side) in [
        ("kube_proxy", "kube_proxy"),
        ("kube_proxy_over_forward", "kube_proxy"),
        ("tc_over_kube_proxy", "sluice"),
        ("xdp_over_kube_proxy", "sluice"),
        ("kube_proxy_few", "kube_proxy"),
        ("tc_few_over_kube_proxy", "sluice"),
        ("xdp_few_over_kube_proxy", "sluice"),
    ] {
        let found = row["figures"].as_array().unwrap().iter().find(|it| it["name"] == figure).unwrap();
        assert_eq!(found[side]["samples"].as_array().map(Vec::len), Some(3), "{found:#}");
        assert_eq!(found["verdict"].is_string(), figure.starts_with(['t', 'x']), "{found:#}");
    }
}

#[test]
fn endpoints_are_replaced_under_requests_to_both_proxies() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_xtask"));
    bench.args(["bench", "churn", "--services", "5", "--endpoints", "2", "--seconds", "4", "-j"]);
    let output = bench.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = document["rows"][0]["figures"].as_array().unwrap();
    let value = |name: &str, side: &str| {
        figures.iter().find(|it| it["name"] == name).and_then(|it| it[side]["value"].as_f64())
    };
    for side in ["sluice", "kube_proxy"] {
        assert!(value("answered", side) > Some(0.0), "{document:#}");
        // Not more often than is said.
        assert!(value("replaced", side).is_some_and(|rate| 0.0 < rate && rate <= 10.0), "{document:#}");
    }
    // How many that are is a matter of time.
    let lost = figures.iter().find(|it| it["name"] == "lost").unwrap();
    assert!(lost["verdict"].is_string(), "{document:#}");
}

#[test]
fn the_row_sync_reads_all_of_its_figures_of_both_proxies() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_xtask"));
    bench.args([
        "bench",
        "sync",
        "--services",
        "5",
        "--endpoints",
        "2",
        "--samples",
        "4",
        "--starts",
        "1",
        "-j",
    ]);
    let output = bench.output().unwrap();
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["versions"]["kube-proxy"].as_str().unwrap().contains("v1."), "{document:#}");
    let [row] = document["rows"].as_array().unwrap().as_slice() else { panic!("{document:#}") };
    for (figure, samples, controls) in [
        ("start", [2, 1], 3),
        ("restart", [2, 1], 0),
        ("restart_lost", [2, 1], 0),
        ("change_p50", [4, 1], 5),
        ("change_p99", [4, 1], 5),
        ("burst", [2, 1], 0),
        ("memory_idle", [1, 1], 0),
        ("memory", [2, 1], 0),
        ("memory_peak", [2, 1], 0),
        ("cpu", [2, 1], 0),
    ] {
        let found = row["figures"].as_array().unwrap().iter().find(|it| it["name"] == figure).unwrap();
        let count = |side: &str| found[side]["samples"].as_array().map_or(0, Vec::len);
        assert_eq!(["sluice", "kube_proxy"].map(count), samples, "{found:#}");
        assert_eq!(count("control"), controls, "{found:#}");
        // What is to be reached is said for another size.
        assert!(found["goal"].is_null() && found["verdict"].is_null(), "{found:#}");
    }
    told_again(&output.stdout);
}

/// What `-j` has printed is told again in all forms, by whoever did not measure it.
fn told_again(document: &[u8]) {
    let folder = lab().dir().join("told");
    fs::create_dir_all(&folder).unwrap();
    let [json, html, page] = ["bench.json", "bench.html", "results.md"].map(|name| folder.join(name));
    fs::write(&json, document).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_xtask"));
    bench.args(["bench", "-j", "--from"]).arg(&json).arg("--html").arg(&html).arg("--page").arg(&page);
    assert_eq!(sh::read(&mut bench).unwrap().as_bytes(), document);
    let [html, page] = [html, page].map(|file| fs::read_to_string(file).unwrap());
    for title in ["start -&gt; first answer through the last Service", "<svg "] {
        assert!(html.starts_with("<!doctype html>") && html.contains(title), "{html}");
    }
    assert!(
        page.starts_with("# Results\n")
            && page.contains("| start -> first answer through the last Service |")
    );
    fs::remove_dir_all(&folder).unwrap();
}
