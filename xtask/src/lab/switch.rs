//! The network between machines: a bridge in a namespace of its own.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;

use super::machine::addresses;
use super::{Lab, Space};
use crate::sh;

/// An Ethernet switch. Its members are in 172.18.0.0/24 and fd00:172:18::/64.
#[derive(Debug)]
pub struct Switch(Space);

impl Switch {
    /// Makes a switch without members; its namespace is called `name`.
    ///
    /// # Errors
    /// When the name is taken in this run, or a command fails.
    pub fn new(lab: &Arc<Lab>, name: &str) -> Result<Self> {
        let space = Space::new(lab, name, &lab.cgroup().join(name))?;
        // Without a querier, snooping would lose neighbour solicitations.
        space.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up\n")?;
        Ok(Self(space))
    }

    /// Connects `space` by an interface `up0` as the member `number`: 172.18.0.number and fd00:172:18::number (in
    /// hexadecimal).
    ///
    /// # Errors
    /// When the number is taken, or a command fails.
    pub fn connect(&self, space: &Space, number: u8) -> Result<[IpAddr; 2]> {
        let [v4, v6] = addresses(number);
        let port = format!("port{number}");
        self.0.ip(&format!(
            "link add {port} type veth peer name up0 netns {}\nlink set {port} master br0 up\n",
            space.netns()
        ))?;
        space.ip(&set_up(number))?;
        Ok([v4, v6])
    }

    /// Pulls the cable of the member `number`, or puts it in again.
    pub(super) fn plug(&self, number: u8, plugged: bool) -> Result<()> {
        self.0.ip(&format!("link set port{number} {}\n", if plugged { "up" } else { "down" }))
    }

    /// Forgets who is where and learns no more: what a member sends reaches all others, whomever it is for.
    pub(super) fn flood(&self) -> Result<()> {
        let links = sh::read(self.0.command("ip").args(["-o", "link", "show", "master", "br0"]))?;
        let names = links.lines().filter_map(|line| line.split([':', '@']).nth(1)).map(str::trim);
        let lines = |name| format!("link set {name} type bridge_slave learning off fdb_flush\n");
        self.0.ip(&names.map(lines).collect::<String>())
    }

    /// Makes the way of `space`, the member `number`, a wire.
    ///
    /// # Errors
    /// When it is not connected, or a command fails.
    pub fn wire(&self, space: &Space, number: u8) -> Result<()> {
        wire((space, "up0"), (&self.0, &format!("port{number}")))
    }
}

/// Makes a veth pair a wire, as native XDP at its `near` end needs it: what either end sends is whole, checksums and all, and
/// no longer than the MTU, also where the `far` end's space has merged packets; and what XDP sends out of it arrives.
///
/// # Errors
/// When there are no such interfaces, or a command fails.
pub fn wire(near: (&Space, &str), far: (&Space, &str)) -> Result<()> {
    let set = |(space, interface): (&Space, &str), features: &[&str]| {
        sh::read(space.command("ethtool").args(["-K", interface]).args(features)).map(drop)
    };
    set(near, &["tx", "off"])?;
    set(far, &["gro", "on", "tx", "off"])
}

/// The lines of `ip` that make a member's interface what it is to be.
pub(super) fn set_up(number: u8) -> String {
    let [v4, v6] = addresses(number);
    format!("link set up0 up\naddr replace {v4}/24 dev up0\naddr replace {v6}/64 dev up0 nodad\n")
}
