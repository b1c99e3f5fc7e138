//! What the kernel offers and lacks.

use std::fs;

use super::{Finding, Level};
use crate::bpf::probe;

const CHECK: &str = "kernel";

pub(super) fn look() -> anyhow::Result<Vec<Finding>> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut findings = vec![match probe::kernel() {
        Ok(()) => {
            Finding::new(Level::Ok, CHECK, format!("{release} has what the programs need, tcx among it"))
        }
        Err(error) => Finding::new(Level::Error, CHECK, format!("{release}: {error}"))
            .follows("no agent can start here")
            .remedy("what the message says, or another kernel"),
    }];
    findings.extend(setting("net/core/bpf_jit_enable", "0").then(|| {
        Finding::new(
            Level::Warning,
            CHECK,
            "the compiler of eBPF programs is off (net.core.bpf_jit_enable = 0)",
        )
        .follows("every packet costs several times as much")
        .remedy("sysctl -w net.core.bpf_jit_enable=1")
    }));
    findings.extend(setting("kernel/bpf_stats_enabled", "1").then(|| {
        Finding::new(Level::Note, CHECK, "runs of eBPF programs are counted (kernel.bpf_stats_enabled = 1)")
            .follows("`sluice prog` shows them, and every run costs some 20 ns more")
            .remedy("sysctl -w kernel.bpf_stats_enabled=0, when done")
    }));
    Ok(findings)
}

/// Whether a setting has this value; one that cannot be read has not.
fn setting(name: &str, value: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|text| text.trim() == value)
}
