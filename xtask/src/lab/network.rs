//! Several machines, an outside client and a place for a control plane, on one switch.
//!
//! ```text
//! outside .1 (their gateway)   machine 1 .2   machine 2 .3   …   control .10      172.18.0.0/24, fd00:172:18::/64
//!    └── to Services by machine 1   └ pods 10.244.1.0/24, fd00:10:244:1::/64; every member has a route to them
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::machine::{Source, addresses, pod_cidrs};
use super::switch::set_up;
use super::{Lab, Machine, Space, Switch};
use crate::sh;

/// The numbers of the outside client, the first machine and the control plane. Those of the others lie between.
const OUTSIDE: u8 = 1;
const FIRST: u8 = OUTSIDE + 1;
const CONTROL: u8 = 10;

/// The table of routes for what the outside itself sends.
const OWN: &str = "100";

/// Machines and their surroundings.
#[derive(Debug)]
pub struct Network {
    lab: Arc<Lab>,
    machines: Vec<Machine>,
    outside: Space,
    switch: Switch,
}

impl Network {
    /// The ranges that addresses of Services are from, IPv4 first.
    pub const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];

    /// Makes a network without machines.
    ///
    /// # Errors
    /// When this run has one of this `name`, or a command fails.
    pub fn new(lab: &Arc<Lab>, name: &str) -> Result<Self> {
        let (switch, outside) = (format!("{name}-switch"), format!("{name}-outside"));
        let switch = Switch::new(lab, &switch)?;
        let outside = Space::new(lab, &outside, &lab.cgroup().join(&outside))?;
        switch.connect(&outside, OUTSIDE)?;
        outside.forward()?;
        outside.ip(&to_pods(OUTSIDE))?;
        for family in ["-4", "-6"] {
            let rule = [family, "rule", "add", "iif", "lo", "lookup", OWN];
            sh::run(outside.command("ip").args(rule))?;
        }
        let network = Self { lab: Arc::clone(lab), machines: Vec::new(), outside, switch };
        network.route_outside(Self::SERVICES, addresses(FIRST))?;
        Ok(network)
    }

    /// Has the outside reach the `ranges` through the machine with the addresses `via`, IPv4 first. Machines do not, by
    /// way of their gateway, the outside: what no proxy of theirs has translated must not find another machine's.
    ///
    /// # Errors
    /// When a command fails.
    pub fn route_outside(&self, ranges: [&str; 2], via: [IpAddr; 2]) -> Result<()> {
        let route = |(range, via)| format!("route replace {range} via {via} table {OWN}\n");
        self.outside.ip(&ranges.into_iter().zip(via).map(route).collect::<String>())
    }

    /// Connects the space of a control plane under [`Network::control_ips`].
    ///
    /// # Errors
    /// When there is one, or a command fails.
    pub fn connect_control(&self, space: &Space) -> Result<()> {
        self.switch.connect(space, CONTROL)?;
        space.ip(&to_pods(CONTROL))
    }

    /// Adds a machine whose agent reads `source` (the flag, and its value).
    ///
    /// # Errors
    /// When the name is taken in this run, there is no room for another machine, or a command fails.
    pub fn add(&mut self, name: &str, source: Source) -> Result<&Machine> {
        let number = FIRST + u8::try_from(self.machines.len())?;
        ensure!(number < CONTROL, "a network has room for {} machines", CONTROL - FIRST);
        let machine = Machine::new(&self.lab, name, number - OUTSIDE, source)?;
        self.switch.connect(machine.host(), number)?;
        machine.host().ip(&ways(number))?;
        self.machines.push(machine);
        self.machines.last().context("the machine that was added")
    }

    /// Pulls the cable of the machine with this index, or puts it in again.
    ///
    /// # Errors
    /// When a command fails.
    pub fn plug(&self, machine: usize, plugged: bool) -> Result<()> {
        self.switch.plug(FIRST + u8::try_from(machine)?, plugged)
    }

    /// Makes every frame reach everybody, whomever it is for, as a switch does that has just forgotten who is where.
    ///
    /// # Errors
    /// When a command fails.
    pub fn flood(&self) -> Result<()> {
        self.switch.flood()
    }

    /// Takes the uplink of the machine with this index down, by which it loses routes and addresses, or up again, with
    /// all that it had.
    ///
    /// # Errors
    /// When a command fails.
    pub fn set_uplink(&self, machine: usize, up: bool) -> Result<()> {
        let number = FIRST + u8::try_from(machine)?;
        let host = self.machines.get(machine).context("a machine of the network")?.host();
        if up { host.ip(&(set_up(number) + &ways(number))) } else { host.ip("link set up0 down\n") }
    }

    /// Makes the ways of the outside client and of the machines wires, for native XDP.
    ///
    /// # Errors
    /// When a command fails.
    pub fn wire(&self) -> Result<()> {
        self.switch.wire(&self.outside, OUTSIDE)?;
        (FIRST..)
            .zip(&self.machines)
            .try_for_each(|(number, machine)| self.switch.wire(machine.host(), number))
    }

    /// The machines, in the order in which they came.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The addresses of the control plane, IPv4 first.
    #[must_use]
    pub fn control_ips() -> [IpAddr; 2] {
        addresses(CONTROL)
    }

    /// A client that is neither node nor pod. It reaches Services through the first machine.
    #[must_use]
    pub fn outside(&self) -> &Space {
        &self.outside
    }

    /// The addresses of [`Network::outside`], IPv4 first.
    #[must_use]
    pub fn outside_ips() -> [IpAddr; 2] {
        addresses(OUTSIDE)
    }
}

fn route(to: &str, via: IpAddr) -> String {
    format!("route replace {to} via {via}\n")
}

/// The routes of the machine `number`.
fn ways(number: u8) -> String {
    addresses(OUTSIDE).map(|gateway| route("default", gateway)).concat() + &to_pods(number)
}

/// Routes to the pods of all machines that there may be, but for the member `own`.
fn to_pods(own: u8) -> String {
    let others = (FIRST..CONTROL).filter(|number| *number != own);
    let each = |number| pod_cidrs(number - OUTSIDE).into_iter().zip(addresses(number));
    others.flat_map(each).map(|(range, via)| route(&range, via)).collect()
}
