//! A machine with pods and an agent: what every node is, whatever it is connected with and wherever its agent reads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Lab, Pod, Space};
use crate::{build, sh};

/// How far the subnet of the pods on a node's bridge is from that of its other pods: third byte of the IPv4 and fourth word
/// of the IPv6 address.
const BRIDGED: u8 = 100;

/// The bridge of a node: its name is one that pods' interfaces have.
const BRIDGE: &str = "vethbr0";

/// What the agent of a machine reads: the flag, and its value.
pub(crate) type Source = (&'static str, PathBuf);

/// A node's space with an uplink `up0`, its control group, pin directory and pods.
#[derive(Debug)]
pub struct Machine {
    name: String,
    number: u8,
    host: Space,
    cgroup: PathBuf,
    pin_dir: PathBuf,
    source: Source,
    pods: AtomicU8,
}

impl Machine {
    /// Makes a machine that is not connected yet, without pods and without an agent. `number`: it has the addresses
    /// [`addresses`]`(number + 1)`, and its pods those of the subnet `number`.
    pub(crate) fn new(lab: &Arc<Lab>, name: &str, number: u8, source: Source) -> Result<Self> {
        let cgroup = lab.cgroup().join(name);
        let host = Space::new(lab, name, &cgroup.join("host"))?;
        host.forward()?;
        let (name, pin_dir) = (name.to_owned(), lab.pin_dir(name));
        Ok(Self { name, number, host, cgroup, pin_dir, source, pods: AtomicU8::new(0) })
    }

    /// The machine's name, as its Node object has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's addresses, IPv4 first.
    #[must_use]
    pub fn ips(&self) -> [IpAddr; 2] {
        addresses(self.number + 1)
    }

    /// The ranges of its pods' addresses, IPv4 first.
    #[must_use]
    pub fn pod_cidrs(&self) -> [String; 2] {
        pod_cidrs(self.number)
    }

    /// The machine itself, where processes of the host run.
    #[must_use]
    pub fn host(&self) -> &Space {
        &self.host
    }

    /// The control group of the machine, above those of its host and its pods.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The pin directory of its agent.
    #[must_use]
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// What its agent reads.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Makes a pod of this machine.
    ///
    /// # Errors
    /// When a command fails.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        Pod::new(&self.host, &self.cgroup, name, self.number, self.next_pod())
    }

    /// Makes a bridge for [`Machine::bridged_pod`], the gateway of the pods on it. The machine goes on using its own
    /// address as a source: IPv6 would take the bridge's, which looks more like those of its pods.
    ///
    /// # Errors
    /// When a command fails, or there is one.
    pub fn bridge(&self) -> Result<()> {
        let [v4, v6] = self.bridge_ips();
        self.host.ip(&format!(
            "link add {BRIDGE} type bridge\n\
             link set {BRIDGE} up\n\
             addr add {v4}/24 dev {BRIDGE}\n\
             addr add {v6}/64 dev {BRIDGE} nodad preferred_lft 0\n"
        ))
    }

    /// The addresses of its bridge, IPv4 first.
    #[must_use]
    pub fn bridge_ips(&self) -> [IpAddr; 2] {
        let (v4, v6) = Pod::gateway(self.number + BRIDGED);
        [v4.into(), v6.into()]
    }

    /// The ranges of the addresses of the pods on its bridge, IPv4 first.
    #[must_use]
    pub fn bridged_cidrs(&self) -> [String; 2] {
        pod_cidrs(self.number + BRIDGED)
    }

    /// Makes a pod of this machine on its bridge.
    ///
    /// # Errors
    /// When a command fails.
    pub fn bridged_pod(&self, name: &str) -> Result<Pod> {
        Pod::bridged(&self.host, &self.cgroup, name, self.number + BRIDGED, self.next_pod(), BRIDGE)
    }

    /// A pod that comes back has a new address. After 254 pods those of the first are used again.
    pub(super) fn next_pod(&self) -> u8 {
        self.pods.fetch_add(1, Ordering::Relaxed) % 254 + 1
    }

    /// How many frames native XDP has sent from its uplink: back, or to another interface.
    ///
    /// # Errors
    /// When it has no uplink.
    pub fn xdp_frames(&self) -> Result<u64> {
        let counters = sh::read(self.host.command("ethtool").args(["-S", "up0"]))?;
        let of = |line: &str| {
            let (name, count) = line.split_once(": ")?;
            let is_sent = name.ends_with("xdp_tx") || name.ends_with("xdp_redirect");
            if is_sent { count.parse::<u64>().ok() } else { None }
        };
        Ok(counters.lines().filter_map(of).sum())
    }

    /// `sluice ARGS` with this machine's pin directory, run on it.
    #[must_use]
    pub fn sluice(&self, args: &[&str]) -> Command {
        self.sluice_as(&binary(), args)
    }

    /// As [`Machine::sluice`], of the build whose binary is `program`.
    pub(super) fn sluice_as(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = self.host.command(program);
        command.arg("--pin-dir").arg(&self.pin_dir).args(args);
        command
    }

    /// What `sluice ARGS -j` prints.
    ///
    /// # Errors
    /// When it fails or prints no JSON document.
    pub fn sluice_json(&self, args: &[&str]) -> Result<Value> {
        let output = sh::read(self.sluice(args).arg("-j"))?;
        serde_json::from_str(&output).with_context(|| format!("output of sluice {args:?} -j"))
    }

    /// What `sluice service show` says of all Services, one after the other, but for the counters and `without` these
    /// keys.
    ///
    /// # Errors
    /// As for [`Machine::sluice_json`].
    pub fn services(&self, without: &[&str]) -> Result<Value> {
        const COUNTERS: [&str; 5] = ["connections", "packets_in", "bytes_in", "packets_out", "bytes_out"];
        let strip = |value: &mut Value| {
            if let Some(fields) = value.as_object_mut() {
                fields.retain(|key, _| !COUNTERS.contains(&key.as_str()) && !without.contains(&key.as_str()));
            }
        };
        let ports = self.sluice_json(&["service"])?;
        let name = |port: &Value| Some(format!("{}/{}", port["namespace"].as_str()?, port["name"].as_str()?));
        let names: Option<Vec<_>> = ports.as_array().and_then(|ports| ports.iter().map(name).collect());
        let mut names = names.context("sluice service -j: ports without a name")?;
        names.dedup();
        let mut all = Vec::new();
        for name in names {
            let shown = self.sluice_json(&["service", "show", &name])?;
            all.extend(shown.as_array().cloned().with_context(|| format!("{name}: no array"))?);
        }
        for port in &mut all {
            port["backends"].as_array_mut().context("a port without backends")?.iter_mut().for_each(strip);
            strip(port);
        }
        Ok(all.into())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !self.host.lab().is_kept() {
            // Failures here leave things for the reaper, which removes the whole run.
            let _ = super::cgroup::remove(&self.cgroup);
            super::run::remove_pins(&self.pin_dir);
        }
    }
}

/// The addresses of the member `number` of the network between machines, IPv4 first.
#[must_use]
pub(crate) fn addresses(number: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(172, 18, 0, number).into(),
        Ipv6Addr::new(0xfd00, 0x172, 0x18, 0, 0, 0, 0, number.into()).into(),
    ]
}

/// The ranges of the addresses of the pods of `subnet`, IPv4 first.
#[must_use]
pub(crate) fn pod_cidrs(subnet: u8) -> [String; 2] {
    let (v4, v6) = Pod::addresses(subnet, 0);
    [format!("{v4}/24"), format!("{v6}/64")]
}

/// The binary under test: what `SLUICE_BIN` names, or the release build of this tree.
#[must_use]
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    match std::env::var_os("SLUICE_BIN") {
        Some(named) => named.into(),
        // Whoever builds it has asked cargo the same before, and fails where cargo does not answer.
        None => {
            BUILT.get_or_init(|| build::target_folder().unwrap_or_default().join("release/sluice")).clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_where_cargo_puts_it() {
        let own = std::env::current_exe().unwrap();
        assert!(own.starts_with(build::target_folder().unwrap()), "{}", own.display());
        if std::env::var_os("SLUICE_BIN").is_none() {
            assert_eq!(binary(), build::target_folder().unwrap().join("release/sluice"));
        }
    }
}
