//! The row `veth-mpps`: packets a second that come in by the uplink, for a node port, and go back by it to an endpoint on
//! another node.
//!
//! One processor makes the frames, and carries them all the way: what is counted is what it has got through with.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_bench::{Figure, Progress, Rounds, Unit};
use lb_common::{Proto, UPLINK_XDP};

use super::datapath::{BACKEND_PORT, Bench, NODE_PORT};
use super::frame::{Flows, Frames, Segment};
use super::node::{self, Interfaces, Plan};
use super::{Extent, pin, space};
use crate::bpf::attach::Class;
use crate::bpf::driver::{Attached, Driver, Kind};
use crate::bpf::size::Sizes;

/// What has to be known to read the figures.
const NOTES: &[&str] = &[
    "Frames of 64 bytes (IPv6: 80), UDP, made by the processor that also carries them, over a veth pair without offloads: in by",
    "the uplink, out by it again. Millions a second by the clock on the wall, with the kernel's set-up of each run, some 15 ms.",
    "An XDP program that does nothing stands on the uplink where no other does, since a veth takes such frames only then.",
    "The control is kernel forwarding measured twice; quotients are medians of those within a round.",
];

/// Frames of a round for each run that is asked for.
const FRAMES: u32 = 25;
/// The most flows: each is masqueraded, to one endpoint.
const FLOWS: u32 = 10_000;
/// How long frames may be under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// How frames get back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// They do not: XDP drops them as they come in.
    Floor,
    /// XDP sends them back as they are.
    BounceXdp,
    /// tc sends them back as they are.
    BounceTc,
    /// The kernel forwards them: they have the endpoint's address.
    Forward,
    /// Sluice in tc.
    Tc,
    /// Sluice in XDP.
    Xdp,
}

/// Each is measured once in a round; forwarding twice.
const VARIANTS: [(Way, &str, &str); 7] = [
    (Way::Floor, "floor", "XDP drops on the way in: the generator and the wire"),
    (Way::BounceXdp, "xdp_tx", "XDP back as it came (XDP_TX)"),
    (Way::BounceTc, "tc_redirect", "tc back as it came (redirect)"),
    (Way::Forward, "forward", "kernel forwarding, no rule"),
    (Way::Forward, "", ""),
    (Way::Tc, "tc", "Sluice in tc"),
    (Way::Xdp, "xdp", "Sluice in XDP"),
];

/// What is compared: numbers of variants.
const QUOTIENTS: [(usize, usize, &str, &str); 5] = [
    (4, 3, "control", "kernel forwarding over itself"),
    (5, 3, "tc_over_forward", "Sluice in tc over kernel forwarding"),
    (5, 2, "tc_over_ceiling", "Sluice in tc over tc back as it came"),
    (6, 3, "xdp_over_forward", "Sluice in XDP over kernel forwarding"),
    (6, 1, "xdp_over_ceiling", "Sluice in XDP over XDP back as it came"),
];

/// The wire, and what is on it.
struct Stage {
    driver: Driver,
    bench: Bench,
    plan: Plan,
    interfaces: Interfaces,
    flows: u32,
    frames: u32,
}

/// Measures all of it.
///
/// # Errors
/// What the machine lacks; frames that do not arrive.
pub(super) fn run(
    extent: &Extent,
    progress: impl FnOnce(u64) -> Progress + Send,
) -> Result<(Vec<Figure>, &'static [&'static str])> {
    let figures = space()?.run(|| {
        pin()?;
        let progress = progress(u64::from(extent.rounds) * VARIANTS.len() as u64);
        progress.say("filling the tables");
        let mut stage = Stage::set(extent)?;
        let rounds = Rounds::take(VARIANTS.len(), extent.rounds as usize, |variant| {
            let (way, name, _) = VARIANTS.get(variant).context("no such variant")?;
            progress.say(name);
            let rate = stage.rate(*way).with_context(|| format!("{way:?}"))?;
            progress.step();
            Ok(rate)
        })?;
        Ok::<_, anyhow::Error>(figures(&rounds))
    })?;
    Ok((figures, NOTES))
}

fn figures(rounds: &Rounds) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (number, (way, name, title)) in VARIANTS.into_iter().enumerate().filter(|(_, it)| !it.1.is_empty()) {
        let reading = rounds.median(number);
        let figure = Figure::new(name, title, Unit::Mpps);
        figures.push(match way {
            Way::Tc | Way::Xdp => Figure { sluice: reading, ..figure },
            Way::Forward => Figure { control: reading, ..figure },
            Way::Floor | Way::BounceXdp | Way::BounceTc => Figure { ceiling: reading, ..figure },
        });
    }
    for (one, other, name, title) in QUOTIENTS {
        let reading = rounds.over(one, other);
        let figure = Figure::new(name, title, Unit::Ratio);
        let control = name == "control";
        figures.push(if control {
            Figure { control: reading, ..figure }
        } else {
            Figure { sluice: reading, ..figure }
        });
    }
    figures
}

impl Stage {
    fn set(extent: &Extent) -> Result<Self> {
        let plan = Plan::of(extent.ipv6);
        let interfaces = node::lay(&plan)?;
        let services = extent.services;
        let room = Sizes {
            flows: Some(1 << 16),
            services: Some(services.saturating_add(64)),
            backends: Some(services.saturating_mul(2).saturating_add(64)),
        };
        let mut bench = Bench::load(plan, Proto::Udp, &interfaces.known(), &room)?;
        bench.serve(services)?;
        let driver = Driver::load()?;
        let (flows, frames) = (extent.flows.min(FLOWS), extent.runs.saturating_mul(FRAMES));
        Ok(Self { driver, bench, plan, interfaces, flows, frames })
    }

    /// Millions of frames a second that go this way.
    fn rate(&mut self, way: Way) -> Result<f64> {
        let Interfaces { uplink, far, mac, .. } = self.interfaces;
        let direct = way == Way::Forward;
        let frames = Frames {
            link: [mac, node::BEHIND],
            client: self.plan.outside,
            server: if direct { self.plan.backends } else { self.plan.node },
            servers: 1,
            port: if direct { BACKEND_PORT } else { NODE_PORT },
            segment: Segment::Datagram,
            reversed: false,
        };
        let mut generator = frames.generator(Flows::in_turn(0, self.flows), far)?;
        let _on = self.attach(way)?;
        // The first packets of flows are another figure.
        self.carry(&mut generator, self.flows)?;
        let (arrived, took) = self.carry(&mut generator, self.frames)?;
        let detach = || self.bench.datapath().detach_interface(Class::Outward, uplink);
        if matches!(way, Way::Tc | Way::Xdp) {
            detach()?;
        }
        ensure!(arrived > 0, "none of {} frames arrived", self.frames);
        Ok(arrived as f64 / took.as_secs_f64() / 1e6)
    }

    /// Puts on both ends of the wire what `way` takes.
    fn attach(&self, way: Way) -> Result<Vec<Attached>> {
        let Interfaces { uplink, far, .. } = self.interfaces;
        let own = |kind, name, interface| self.driver.attach(kind, name, interface);
        let datapath = self.bench.datapath();
        Ok(match way {
            Way::Floor => vec![own(Kind::Xdp, "count_xdp", uplink)?],
            Way::BounceXdp => {
                vec![own(Kind::Xdp, "count_xdp", far)?, own(Kind::Xdp, "bounce_xdp", uplink)?]
            }
            Way::BounceTc => vec![
                own(Kind::Tc, "count_tc", far)?,
                own(Kind::Xdp, "empty_xdp", uplink)?,
                own(Kind::Tc, "bounce_tc", uplink)?,
            ],
            Way::Forward => vec![own(Kind::Tc, "count_tc", far)?, own(Kind::Xdp, "empty_xdp", uplink)?],
            Way::Tc => {
                datapath.attach_interface(Class::Outward, uplink, "uplink")?;
                vec![own(Kind::Tc, "count_tc", far)?, own(Kind::Xdp, "empty_xdp", uplink)?]
            }
            Way::Xdp => {
                datapath.attach_interface(Class::Outward, uplink, "uplink")?;
                let program = datapath.program(UPLINK_XDP)?;
                vec![own(Kind::Xdp, "count_xdp", far)?, Driver::attach_program(Kind::Xdp, program, uplink)?]
            }
        })
    }

    /// Sends `count` frames: how many have arrived once no more do, and how long that took.
    fn carry(
        &mut self,
        generator: &mut lb_common::generator::Generator,
        count: u32,
    ) -> Result<(u64, Duration)> {
        let (before, begun) = (self.driver.counted()?, Instant::now());
        self.driver.send(generator, count)?;
        let mut took = begun.elapsed();
        let mut arrived = self.driver.counted()?;
        // What is on its way when the last frame was made may still be carried.
        while begun.elapsed() < took + PATIENCE && arrived - before < u64::from(count) {
            thread::sleep(Duration::from_millis(1));
            let now = self.driver.counted()?;
            if now == arrived {
                break;
            }
            (arrived, took) = (now, begun.elapsed());
        }
        Ok((arrived - before, took))
    }
}
