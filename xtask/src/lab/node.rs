//! A node by itself: a machine with a router behind its uplink, and a folder of manifests that its agent reads.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Lab, Machine, Pod, Space, manifest};

/// The number of the one machine, and the subnet of the pods of other nodes.
const NUMBER: u8 = 1;
const OTHER_PODS: u8 = 2;

/// A node of the lab, and a router behind its uplink `up0` with which the pods of other nodes are connected.
#[derive(Debug)]
pub struct Node {
    machine: Machine,
    router: Space,
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
        let manifests = lab.dir().join(name).join("manifests");
        fs::create_dir_all(&manifests).with_context(|| format!("make {}", manifests.display()))?;
        let outside = lab.cgroup().join(format!("{name}-router"));
        let node = Self {
            machine: Machine::new(lab, name, NUMBER, ("--manifests", manifests))?,
            router: Space::new(lab, &format!("{name}-router"), &outside)?,
        };
        node.router.forward()?;
        node.connect_uplink()?;
        node.write("node.json", &manifest::node(name, &Self::addresses()))?;
        Ok(node)
    }

    fn connect_uplink(&self) -> Result<()> {
        let (v4, v6) = (Self::IPV4, Self::IPV6);
        let [pods4, pods6] = self.pod_cidrs();
        self.host().ip(&format!("link add up0 type veth peer name node0 netns {}\n", self.router.netns()))?;
        self.router.ip(&format!(
            "link set node0 up\n\
             addr add 172.18.0.1/24 dev node0\n\
             addr add fd00:172:18::1/64 dev node0 nodad\n\
             route add {pods4} via {v4}\n\
             route add {pods6} via {v6}\n"
        ))?;
        self.host().ip(&format!(
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

    /// The router behind the uplink: a client that is neither node nor pod.
    #[must_use]
    pub fn router(&self) -> &Space {
        &self.router
    }

    /// The folder of manifests that the node's agent watches.
    #[must_use]
    pub fn manifests(&self) -> &Path {
        &self.source().1
    }

    /// Makes a pod of another node, which is reached through the uplink.
    ///
    /// # Errors
    /// When a command fails.
    pub fn remote_pod(&self, name: &str) -> Result<Pod> {
        Pod::new(&self.router, self.router.cgroup(), name, OTHER_PODS, self.next_pod())
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
        let temporary = self.manifests().join(format!(".{file}.new"));
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, self.manifests().join(file)))
            .with_context(|| format!("write the manifest {file}"))
    }

    /// Takes `file` out of the folder.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.manifests().join(file)).with_context(|| format!("remove the manifest {file}"))
    }
}

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}
