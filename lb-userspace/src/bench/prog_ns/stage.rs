//! What is set before anything is driven: programs, frames, connections.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use lb_common::generator::FIRST_PORT;
use lb_common::{Point, Proto};

use super::{FRESH, NEW, PROGRAMS, Size, Stage};
use crate::bench::Extent;
use crate::bench::connect::Caller;
use crate::bench::datapath::{Bench, NODE_PORT, PORT};
use crate::bench::established;
use crate::bench::frame::{Flows, Frames, Segment};
use crate::bench::node::{self, Plan};
use crate::bpf::driver::{Driver, TargetNumber};
use crate::bpf::size::Sizes;

impl Stage {
    /// Sets one for `sizes`, one after the other.
    pub(super) fn set(extent: &Extent, sizes: &[Size]) -> Result<Self> {
        let plan = Plan::of(extent.ipv6);
        // First, since it is what most often cannot be had.
        let callers = Caller::both(&plan)?;
        let interfaces = node::lay(&plan)?;
        let fresh = NEW.saturating_mul(extent.rounds).saturating_mul(sizes.len() as u32);
        let flows = sizes.iter().map(|size| size.flows).max().unwrap_or(0);
        let pairs = flows.saturating_add(fresh);
        let room = Sizes {
            // Two entries each, and some to spare.
            flows: Some(pairs.saturating_mul(2).saturating_add(pairs / 8).max(1 << 14)),
            services: Some(extent.services.saturating_add(64)),
            backends: Some(extent.services.saturating_mul(2).saturating_add(64)),
        };
        let bench = Bench::load(plan, Proto::Tcp, &interfaces.known(), &room)?;
        let mut driver = Driver::load()?;
        driver.open(interfaces.uplink)?;
        let mut targets = BTreeMap::new();
        for (kind, name) in PROGRAMS {
            targets.insert(name, driver.add(kind, bench.datapath().program(name)?)?);
        }
        let [_, hooked] = &callers;
        hooked.hook(bench.datapath())?;
        let fresh = FRESH;
        Ok(Self {
            driver,
            bench,
            callers,
            plan,
            interfaces,
            targets,
            masqueraded: 0,
            extent: extent.clone(),
            fresh,
        })
    }

    /// The program called `name`.
    pub(super) fn target(&self, name: &str) -> Result<TargetNumber> {
        self.targets.get(name).copied().with_context(|| format!("{name} is not driven"))
    }

    /// From clients in pods to the Services.
    pub(super) fn of_pods(&self, size: Size, segment: Segment) -> Frames {
        established::of_pods(&self.plan, self.interfaces.mac, size.services, segment)
    }

    /// From the endpoints of the Services to clients in pods.
    pub(super) fn to_pods(&self, size: Size, segment: Segment) -> Frames {
        established::to_pods(&self.plan, self.interfaces.mac, size.services, segment)
    }

    /// From a client outside to the node port.
    pub(super) fn to_node_port(&self, segment: Segment) -> Frames {
        let Plan { outside, node, .. } = self.plan;
        let size = Size { flows: 1, services: 1 };
        Frames { client: outside, server: node, port: NODE_PORT, ..self.of_pods(size, segment) }
    }

    /// Through the address of the first Service, from clients outside.
    pub(super) fn of_outsiders(&self, segment: Segment) -> Frames {
        Frames { server: self.plan.services, port: PORT, ..self.to_node_port(segment) }
    }

    /// From the endpoint of the first Service to the node, in answer to the client outside.
    pub(super) fn to_node(&self, segment: Segment) -> (Frames, Flows) {
        let frames = self.to_pods(Size { flows: 1, services: 1 }, segment);
        let number = self.masqueraded.saturating_sub(FIRST_PORT);
        (Frames { client: self.plan.node, ..frames }, Flows::in_turn(number.into(), 1))
    }

    /// Gives each frame of `flows` to a program once.
    pub(super) fn drive(
        &mut self,
        frames: &Frames,
        flows: Flows,
        program: Point,
        interface: u32,
    ) -> Result<()> {
        let TargetNumber { kind, number } = self.target(program.program())?;
        let mut generator = frames.generator(flows, number)?;
        self.driver.drive(kind, &mut generator, interface, flows.count)?;
        Ok(())
    }

    /// Begins the connection through the node port, and has it confirmed.
    pub(super) fn masquerade(&mut self) -> Result<()> {
        let (one, uplink) = (Flows::in_turn(0, 1), self.interfaces.uplink);
        self.drive(&self.to_node_port(Segment::Syn), one, Point::OutwardIngress, uplink)?;
        self.masqueraded = self.bench.masqueraded()?;
        let (answer, flows) = self.to_node(Segment::SynAck);
        self.drive(&answer, flows, Point::OutwardIngress, uplink)?;
        self.drive(&self.to_node_port(Segment::Ack), one, Point::OutwardIngress, uplink)
    }

    /// Has the table hold the connections of `size`, confirmed.
    pub(super) fn fill(&mut self, size: Size) -> Result<()> {
        let targets = [self.target(Point::PodIngress.program())?, self.target(Point::PodEgress.program())?];
        let (driver, interfaces) = (&mut self.driver, self.interfaces);
        established::establish(driver, targets, interfaces, &self.plan, size.services, 0..size.flows)
    }
}
