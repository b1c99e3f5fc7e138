//! Several machines, an outside client and a place for a control plane, on one switch.
//!
//! ```text
//! outside .1 (their gateway)   machine 1 .2   machine 2 .3   …   control .10      172.18.0.0/24, fd00:172:18::/64
//!    └── to Services by machine 1   └ pods 10.244.1.0/24, fd00:10:244:1::/64; every member has a route to them
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::machine::{Source, addresses};
use super::{Lab, Machine, Space, Switch};

/// The number of the outside client, and of the control plane. Those of machines lie between.
const OUTSIDE: u8 = 1;
const CONTROL: u8 = 10;

/// Machines and their surroundings.
#[derive(Debug)]
pub struct Network {
    lab: Arc<Lab>,
    machines: Vec<Machine>,
    control: Space,
    outside: Space,
    switch: Switch,
}

impl Network {
    /// The ranges that addresses of Services are from, IPv4 first.
    pub const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
    /// The ranges that addresses of pods are from, IPv4 first.
    pub const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];

    /// Makes a network without machines.
    ///
    /// # Errors
    /// When this run has one of this `name`, or a command fails.
    pub fn new(lab: &Arc<Lab>, name: &str) -> Result<Self> {
        let space = |part: &str| {
            let name = format!("{name}-{part}");
            Space::new(lab, &name, &lab.cgroup().join(&name))
        };
        let switch = Switch::new(lab, &format!("{name}-switch"))?;
        let (control, outside) = (space("control")?, space("outside")?);
        switch.connect(&control, CONTROL)?;
        switch.connect(&outside, OUTSIDE)?;
        outside.forward()?;
        Ok(Self { lab: Arc::clone(lab), machines: Vec::new(), control, outside, switch })
    }

    /// Adds a machine whose agent reads `source`, and routes to its pods.
    ///
    /// # Errors
    /// When the name is taken in this run, there is no room for another machine, or a command fails.
    pub fn add(&mut self, name: &str, source: Source) -> Result<&Machine> {
        let number = u8::try_from(self.machines.len())? + 1;
        ensure!(OUTSIDE + number < CONTROL, "a network has room for {} machines", CONTROL - OUTSIDE - 1);
        let machine = Machine::new(&self.lab, name, number, source)?;
        self.switch.connect(machine.host(), OUTSIDE + number)?;
        let gateways = addresses(OUTSIDE);
        let mut own = gateways.map(|gateway| route("default", gateway)).concat();
        for other in &self.machines {
            own += &routes(&other.pod_cidrs(), other.ips());
            other.host().ip(&routes(&machine.pod_cidrs(), machine.ips()))?;
        }
        machine.host().ip(&own)?;
        self.control.ip(&routes(&machine.pod_cidrs(), machine.ips()))?;
        self.outside.ip(&routes(&machine.pod_cidrs(), machine.ips()))?;
        if self.machines.is_empty() {
            self.outside.ip(&routes(&Self::SERVICES.map(str::to_owned), machine.ips()))?;
        }
        self.machines.push(machine);
        self.machines.last().context("the machine that was added")
    }

    /// The machines, in the order in which they came.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Where a control plane runs.
    #[must_use]
    pub fn control(&self) -> &Space {
        &self.control
    }

    /// The addresses of [`Network::control`], IPv4 first.
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
    format!("route add {to} via {via}\n")
}

/// Routes to one range of each family.
fn routes(to: &[String; 2], via: [IpAddr; 2]) -> String {
    to.iter().zip(via).map(|(to, via)| route(to, via)).collect()
}
