//! A pod: a space behind a veth pair of its own, on a bridge or without one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::path::Path;

use anyhow::Result;

use super::Space;

/// A pod, of the node or of the other side of its uplink. Its interface vanishes when it is dropped.
#[derive(Debug)]
pub struct Pod {
    name: String,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    interface: String,
    space: Space,
}

impl Pod {
    /// Makes the `index`-th pod of `subnet` behind `host`, its group below `cgroup`. The pod reaches everything through
    /// 169.254.1.1 and fe80::1, which stand for the other end of the veth; `host` has a route to each of its addresses.
    pub(super) fn new(host: &Space, cgroup: &Path, name: &str, subnet: u8, index: u8) -> Result<Self> {
        let pod = Self::detached(host, cgroup, name, subnet, index)?;
        pod.attach(host, index)?;
        Ok(pod)
    }

    /// As [`Pod::new`], with the node's end of the veth on `bridge`, which has the address [`Pod::gateway`].
    pub(super) fn bridged(
        host: &Space,
        cgroup: &Path,
        name: &str,
        subnet: u8,
        index: u8,
        bridge: &str,
    ) -> Result<Self> {
        let pod = Self::detached(host, cgroup, name, subnet, index)?;
        let Self { ipv4, ipv6, interface, space, .. } = &pod;
        let (gateway4, gateway6) = Self::gateway(subnet);
        host.ip(&format!(
            "link add {interface} type veth peer name eth0 netns {}\n\
             link set {interface} master {bridge} up\n",
            space.netns()
        ))?;
        space.ip(&format!(
            "link set eth0 up\n\
             addr add {ipv4}/24 dev eth0\n\
             addr add {ipv6}/64 dev eth0 nodad\n\
             route add default via {gateway4}\n\
             route add default via {gateway6}\n"
        ))?;
        Ok(pod)
    }

    /// Where the pods of a bridge reach everything else.
    pub(super) fn gateway(subnet: u8) -> (Ipv4Addr, Ipv6Addr) {
        Self::addresses(subnet, u8::MAX - 1)
    }

    /// The addresses of the `index`-th pod of `subnet`.
    pub(super) fn addresses(subnet: u8, index: u8) -> (Ipv4Addr, Ipv6Addr) {
        let (subnet6, index6) = (u16::from(subnet), u16::from(index));
        let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, subnet6, 0, 0, 0, index6);
        (Ipv4Addr::new(10, 244, subnet, index), v6)
    }

    fn detached(host: &Space, cgroup: &Path, name: &str, subnet: u8, index: u8) -> Result<Self> {
        let (ipv4, ipv6) = Self::addresses(subnet, index);
        let space = Space::new(host.lab(), &format!("{}-{name}", cgroup_name(cgroup)), &cgroup.join(name))?;
        Ok(Self { name: name.to_owned(), ipv4, ipv6, interface: format!("veth{index}"), space })
    }

    fn attach(&self, host: &Space, index: u8) -> Result<()> {
        let Self { ipv4, ipv6, interface, space, .. } = self;
        let (host_mac, pod_mac) =
            (format!("02:00:00:00:00:{index:02x}"), format!("02:00:00:00:01:{index:02x}"));
        host.ip(&format!(
            "link add {interface} address {host_mac} type veth peer name eth0 address {pod_mac} netns {}\n",
            space.netns()
        ))?;
        space.ip(&format!(
            "link set eth0 up\n\
             addr add {ipv4}/32 dev eth0\n\
             addr add {ipv6}/128 dev eth0 nodad\n\
             neigh replace 169.254.1.1 lladdr {host_mac} dev eth0 nud permanent\n\
             neigh replace fe80::1 lladdr {host_mac} dev eth0 nud permanent\n\
             route add default via 169.254.1.1 dev eth0 onlink\n\
             route add default via fe80::1 dev eth0\n"
        ))?;
        host.ip(&format!(
            "link set {interface} up\n\
             route add {ipv4}/32 dev {interface}\n\
             route add {ipv6}/128 dev {interface}\n\
             neigh replace {ipv4} lladdr {pod_mac} dev {interface} nud permanent\n\
             neigh replace {ipv6} lladdr {pod_mac} dev {interface} nud permanent\n"
        ))
    }

    /// The pod's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pod's IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// The pod's IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        self.ipv6
    }

    /// Both addresses.
    #[must_use]
    pub fn ips(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }

    /// The name of the node's end of the veth pair.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }
}

impl Deref for Pod {
    type Target = Space;

    fn deref(&self) -> &Space {
        &self.space
    }
}

fn cgroup_name(cgroup: &Path) -> std::path::Display<'_> {
    Path::new(cgroup.file_name().unwrap_or_default()).display()
}
