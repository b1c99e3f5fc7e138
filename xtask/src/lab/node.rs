//! A node: a space with an uplink to a router, a folder of manifests, a pin directory and pods.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Lab, Pod, Space, manifest};
use crate::sh;

/// The subnets of pods, third byte of the IPv4 and fourth word of the IPv6 address: the node's, and the other nodes'.
const OWN_PODS: u8 = 1;
const OTHER_PODS: u8 = 2;
/// That of the pods on the node's bridge.
const BRIDGED_PODS: u8 = 3;

/// The bridge of a node: its name is one that pods' interfaces have.
const BRIDGE: &str = "vethbr0";

/// A node of the lab, and a router behind its uplink `up0` with which the pods of other nodes are connected.
#[derive(Debug)]
pub struct Node {
    name: String,
    host: Space,
    router: Space,
    cgroup: PathBuf,
    manifests: PathBuf,
    pin_dir: PathBuf,
    pods: AtomicU8,
}

impl Node {
    /// The node's address behind its uplink.
    pub const IPV4: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);
    /// The node's address behind its uplink.
    pub const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x18, 0, 0, 0, 0, 2);

    /// Makes a node without pods and without an agent; its Node object lies in the folder of manifests.
    ///
    /// # Errors
    /// When the name is taken in this run, or a command fails.
    pub fn new(lab: &Arc<Lab>, name: &str) -> Result<Self> {
        let cgroup = lab.cgroup().join(name);
        let outside = lab.cgroup().join(format!("{name}-router"));
        let node = Self {
            name: name.to_owned(),
            host: Space::new(lab, name, &cgroup.join("host"))?,
            router: Space::new(lab, &format!("{name}-router"), &outside)?,
            cgroup,
            manifests: lab.dir().join(name).join("manifests"),
            pin_dir: lab.pin_dir(name),
            pods: AtomicU8::new(1),
        };
        for space in [&node.host, &node.router] {
            space.forward()?;
        }
        node.connect_uplink()?;
        fs::create_dir_all(&node.manifests).with_context(|| format!("make {}", node.manifests.display()))?;
        node.write("node.json", &manifest::node(name, &Self::addresses()))?;
        Ok(node)
    }

    fn connect_uplink(&self) -> Result<()> {
        let (v4, v6) = (Self::IPV4, Self::IPV6);
        self.host.ip(&format!("link add up0 type veth peer name node0 netns {}\n", self.router.netns()))?;
        self.router.ip(&format!(
            "link set node0 up\n\
             addr add 172.18.0.1/24 dev node0\n\
             addr add fd00:172:18::1/64 dev node0 nodad\n\
             route add 10.244.{OWN_PODS}.0/24 via {v4}\n\
             route add fd00:10:244:{OWN_PODS}::/64 via {v6}\n"
        ))?;
        self.host.ip(&format!(
            "link set up0 up\n\
             addr add {v4}/24 dev up0\n\
             addr add {v6}/64 dev up0 nodad\n\
             route add default via 172.18.0.1\n\
             route add default via fd00:172:18::1\n"
        ))
    }

    /// The node's addresses, IPv4 first.
    #[must_use]
    pub fn addresses() -> [IpAddr; 2] {
        [Self::IPV4.into(), Self::IPV6.into()]
    }

    /// The node's name, as its Node object has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node itself, where processes of the host run.
    #[must_use]
    pub fn host(&self) -> &Space {
        &self.host
    }

    /// The control group of the node, above those of its host and its pods.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The folder of manifests that the node's agent watches.
    #[must_use]
    pub fn manifests(&self) -> &Path {
        &self.manifests
    }

    /// The pin directory of the node's agent.
    #[must_use]
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Makes a pod of this node.
    ///
    /// # Errors
    /// When a command fails.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        Pod::new(&self.host, &self.cgroup, name, OWN_PODS, self.next_pod())
    }

    /// Makes a bridge for [`Node::bridged_pod`], the gateway of the pods on it. The node goes on using its own address
    /// as a source: IPv6 would take the bridge's, which looks more like those of its pods.
    ///
    /// # Errors
    /// When a command fails, or there is one.
    pub fn bridge(&self) -> Result<()> {
        let (v4, v6) = Pod::gateway(BRIDGED_PODS);
        self.host.ip(&format!(
            "link add {BRIDGE} type bridge\n\
             link set {BRIDGE} up\n\
             addr add {v4}/24 dev {BRIDGE}\n\
             addr add {v6}/64 dev {BRIDGE} nodad preferred_lft 0\n"
        ))
    }

    /// Makes a pod of this node on its bridge.
    ///
    /// # Errors
    /// When a command fails.
    pub fn bridged_pod(&self, name: &str) -> Result<Pod> {
        Pod::bridged(&self.host, &self.cgroup, name, BRIDGED_PODS, self.next_pod(), BRIDGE)
    }

    /// Makes a pod of another node, which is reached through the uplink.
    ///
    /// # Errors
    /// When a command fails.
    pub fn remote_pod(&self, name: &str) -> Result<Pod> {
        Pod::new(&self.router, self.router.cgroup(), name, OTHER_PODS, self.next_pod())
    }

    /// Addresses are not used twice: a pod that comes back has a new one.
    fn next_pod(&self) -> u8 {
        self.pods.fetch_add(1, Ordering::Relaxed)
    }

    /// `sluice ARGS` with this node's pin directory, run on the node.
    #[must_use]
    pub fn sluice(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(binary());
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
    /// As for [`Node::sluice_json`].
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

    /// Puts `manifest` into the folder under the name `file`, at once as a whole.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &str, manifest: &Value) -> Result<()> {
        self.write_text(file, &serde_json::to_string_pretty(manifest)?)
    }

    /// As [`Node::write`], for text that need not be JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_text(&self, file: &str, text: &str) -> Result<()> {
        let temporary = self.manifests.join(format!(".{file}.new"));
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, self.manifests.join(file)))
            .with_context(|| format!("write the manifest {file}"))
    }

    /// Takes `file` out of the folder.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.manifests.join(file)).with_context(|| format!("remove the manifest {file}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.host.lab().is_kept() {
            // Failures here leave things for the reaper, which removes the whole run.
            let _ = super::cgroup::remove(&self.cgroup);
            let _ = super::cgroup::remove(self.router.cgroup());
            super::run::remove_pins(&self.pin_dir);
        }
    }
}

/// The binary under test: what `SLUICE_BIN` names, or the release build of this tree.
#[must_use]
pub fn binary() -> PathBuf {
    std::env::var_os("SLUICE_BIN").map_or_else(|| sh::root().join("target/release/sluice"), PathBuf::from)
}
