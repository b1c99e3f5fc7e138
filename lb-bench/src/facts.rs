//! What figures depend on besides the programs: the machine, and what else it did.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use procfs::{ConfigSetting, CpuInfo, Current, CurrentSI, KernelStats, LoadAverage, Meminfo};
use serde::{Deserialize, Serialize};

const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

/// A machine that is being measured on.
#[derive(Debug)]
pub struct Machine {
    facts: Facts,
    /// Ticks that were stolen, and all.
    ticks: [u64; 2],
}

/// What is told of it.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// How many there are.
    pub cpus: usize,
    /// Mebibytes of memory.
    pub memory_mib: u64,
    /// The kernel's ticks per second, if its configuration can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hz: Option<u64>,
    /// `net.core.bpf_jit_enable`.
    pub jit: String,
    /// What the kernel does against which flaw of the processor.
    pub mitigations: Vec<String>,
    /// What the interfaces of a veth pair do for the host, by ethtool's names; empty if no row has asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offloads: Vec<String>,
    /// The mean number of processes that ran or were about to, in the minute before the first figure.
    pub load_before: f32,
    /// Percent of the processors' time that the hypervisor gave to others meanwhile.
    pub steal_percent: f64,
}

impl Machine {
    /// Looks at it before anything is measured.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn look() -> Result<Self> {
        let cpus = CpuInfo::current().context("read /proc/cpuinfo")?;
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let facts = Facts {
            kernel: release,
            cpu: cpus.model_name(0).unwrap_or("unknown").to_owned(),
            cpus: cpus.num_cores(),
            memory_mib: Meminfo::current().context("read /proc/meminfo")?.mem_total >> 20,
            hz: hz(),
            // Told in the first network namespace alone.
            jit: read("/proc/sys/net/core/bpf_jit_enable").unwrap_or_else(|_| "unknown".to_owned()),
            mitigations: mitigations(),
            offloads: Vec::new(),
            load_before: LoadAverage::current().context("read /proc/loadavg")?.one,
            steal_percent: 0.0,
        };
        Ok(Self { facts, ticks: ticks()? })
    }

    /// What it was, and what it did since.
    ///
    /// # Errors
    /// As [`Machine::look`].
    pub fn end(self) -> Result<Facts> {
        let [stolen, all] = ticks()?;
        let [stolen, all] = [stolen.saturating_sub(self.ticks[0]), all.saturating_sub(self.ticks[1])];
        Ok(Facts { steal_percent: 100.0 * stolen as f64 / all.max(1) as f64, ..self.facts })
    }
}

impl Facts {
    /// Names and values, for people.
    #[must_use]
    pub fn lines(&self) -> [(&'static str, String); 6] {
        let Self {
            kernel,
            cpu,
            cpus,
            memory_mib,
            hz,
            jit,
            mitigations,
            offloads,
            load_before,
            steal_percent,
        } = self;
        let offloads = if offloads.is_empty() { "unknown".to_owned() } else { offloads.join(", ") };
        let hz = hz.map_or_else(|| "unknown".to_owned(), |hz| hz.to_string());
        [
            ("kernel", kernel.clone()),
            ("machine", format!("{cpus} CPUs ({cpu}), {memory_mib} MiB")),
            ("settings", format!("HZ {hz}, bpf_jit_enable {jit}")),
            ("mitigations", mitigations.join("; ")),
            ("offloads", offloads),
            ("beside", format!("load before {load_before:.1}, steal {steal_percent:.1} %")),
        ]
    }
}

/// Stolen ticks and all ticks of all processors since the machine began.
fn ticks() -> Result<[u64; 2]> {
    let total = KernelStats::current().context("read /proc/stat")?.total;
    let stolen = total.steal.unwrap_or(0);
    let more = [total.iowait, total.irq, total.softirq].into_iter().flatten().sum::<u64>();
    Ok([stolen, total.user + total.nice + total.system + total.idle + more + stolen])
}

fn hz() -> Option<u64> {
    match procfs::kernel_config().ok()?.remove("CONFIG_HZ")? {
        ConfigSetting::Value(text) => text.parse().ok(),
        ConfigSetting::Yes | ConfigSetting::Module => None,
    }
}

/// `FLAW: what is done`, for each against which something is done.
fn mitigations() -> Vec<String> {
    let files = fs::read_dir(VULNERABILITIES).into_iter().flatten().flatten();
    let told = files.filter_map(|file| {
        let text = fs::read_to_string(file.path()).ok()?;
        let done = text.trim().strip_prefix("Mitigation: ")?;
        Some(format!("{}: {done}", file.file_name().display()))
    });
    let mut told: Vec<_> = told.collect();
    told.sort();
    told
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_by_what_its_kernel_says() {
        let facts = Machine::look().unwrap().end().unwrap();
        assert!(facts.cpus > 0 && facts.memory_mib > 0, "{facts:?}");
        assert!((0.0..=100.0).contains(&facts.steal_percent), "{facts:?}");
        assert!(facts.kernel.starts_with(|c: char| c.is_ascii_digit()), "{facts:?}");
        assert!(facts.lines().iter().all(|(name, _)| !name.is_empty()));
    }
}
