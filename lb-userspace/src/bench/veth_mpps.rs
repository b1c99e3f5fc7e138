//! The row `veth-mpps`: packets a second that come in by the uplink, for a node port, and go back by it to an endpoint on
//! another node.
//!
//! One processor makes the frames, and carries them all the way: what is counted is what it has got through with.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_bench::{Figure, Goal, Progress, Rounds, Unit};
use lb_common::{Proto, UPLINK_XDP};

use super::datapath::{BACKEND_PORT, Bench, NODE_PORT, PORT};
use super::frame::{Flows, Frames, Segment};
use super::node::{self, Interfaces, Plan};
use super::{Extent, pin, settled, space};
use crate::bpf::attach::Class;
use crate::bpf::driver::{Attached, Driver, Kind};
use crate::bpf::size::Sizes;
use crate::bpf::space::Space;

/// What has to be known to read the figures.
const NOTES: &[&str] = &[
    "Frames of 64 bytes (IPv6: 80), UDP, made by the processor that also carries them, over a veth pair without offloads: in by",
    "the uplink, out by it again. Millions a second by the clock on the wall. Each way has as many as it carries in the same time,",
    "so that of all of them the kernel's set-up of a run takes the same share: some 15 ms.",
    "An XDP program that does nothing stands on the uplink where no other does, since a veth takes such frames only then.",
    "The control is kernel forwarding measured twice; quotients are medians of those within a round. kube-proxy's rules are those",
    "that it has itself written, of a machine that it has served, for the same node port. Flows take turns: 10 000, or a tenth of",
    "them, whose entries stay in a cache near the processor.",
];

/// Frames of a way's first round for each run that is asked for; and microseconds of each later one, about.
const FRAMES: u32 = 25;
/// The most flows: each is masqueraded, to one endpoint.
const FLOWS: u32 = 10_000;

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
    /// Sluice in XDP, for the ClusterIP of the only Service there is.
    One,
    /// Sluice in XDP, for those of as many Services as there are flows.
    Many,
    /// The rules that there are beside.
    KubeProxy,
}

/// The same with fewer flows: their entries, unlike those of all, stay in a cache near the processor.
const FEW: u32 = 1_000;

/// Way, of how many flows, name, title. Each is measured once in a round; forwarding twice.
const VARIANTS: [(Way, u32, &str, &str); 13] = [
    (Way::Floor, FLOWS, "floor", "XDP drops on the way in: the generator and the wire"),
    (Way::BounceXdp, FLOWS, "xdp_tx", "XDP back as it came (XDP_TX)"),
    (Way::BounceTc, FLOWS, "tc_redirect", "tc back as it came (redirect)"),
    (Way::Forward, FLOWS, "forward", "kernel forwarding, no rule"),
    (Way::Forward, FLOWS, "", ""),
    (Way::Tc, FLOWS, "tc", "Sluice in tc"),
    (Way::Xdp, FLOWS, "xdp", "Sluice in XDP"),
    (Way::One, FLOWS, "xdp_one", "Sluice in XDP, ClusterIP of the only Service"),
    (Way::Many, FLOWS, "xdp_many", "Sluice in XDP, ClusterIPs of all Services"),
    (Way::Tc, FEW, "tc_few", "Sluice in tc, a tenth of the flows"),
    (Way::Xdp, FEW, "xdp_few", "Sluice in XDP, a tenth of the flows"),
    // The last two are left out where there is nothing beside.
    (Way::KubeProxy, FEW, "kube_proxy_few", "kube-proxy, nftables, a tenth of the flows"),
    (Way::KubeProxy, FLOWS, "kube_proxy", "kube-proxy, nftables"),
];

/// How many variants there are without what is beside.
const ALONE: usize = VARIANTS.len() - 2;

/// What tc must reach over kube-proxy.
const TC: Option<Goal> = Some(Goal::at_least(2.0, None));
/// What XDP must.
const XDP: Option<Goal> = Some(Goal::at_least(3.5, None));

/// What is compared: numbers of variants, and what is to be reached.
const QUOTIENTS: [(usize, usize, &str, &str, Option<Goal>); 11] = [
    (4, 3, "control", "kernel forwarding over itself", None),
    (5, 3, "tc_over_forward", "Sluice in tc over kernel forwarding", None),
    (5, 2, "tc_over_ceiling", "Sluice in tc over tc back as it came", None),
    (6, 3, "xdp_over_forward", "Sluice in XDP over kernel forwarding", None),
    (6, 1, "xdp_over_ceiling", "Sluice in XDP over XDP back as it came", None),
    (8, 7, "xdp_many_over_one", "Sluice in XDP, all Services over the only one", None),
    (5, 12, "tc_over_kube_proxy", "Sluice in tc over kube-proxy", TC),
    (6, 12, "xdp_over_kube_proxy", "Sluice in XDP over kube-proxy", XDP),
    (9, 11, "tc_few_over_kube_proxy", "Sluice in tc over kube-proxy, a tenth of the flows", TC),
    (10, 11, "xdp_few_over_kube_proxy", "Sluice in XDP over kube-proxy, a tenth of the flows", XDP),
    (12, 3, "kube_proxy_over_forward", "kube-proxy over kernel forwarding", None),
];

/// What is to be reached with many Services is said of so many.
const MANY: u32 = 100_000;
/// Where the datapath with one Service is pinned.
const ONE: &str = "/sys/fs/bpf/sluice-bench-one";

/// The wires, and what is on them.
struct Stage {
    driver: Driver,
    bench: Bench,
    /// A datapath with one Service.
    one: Bench,
    plan: Plan,
    interfaces: Interfaces,
    beside: Option<Beside>,
    services: u32,
    flows: u32,
    /// How many frames each variant is sent in the next round, and at least: where they take less than the set-up, they would
    /// become fewer with each round.
    frames: [u32; VARIANTS.len()],
    least: u32,
    /// How long a round of each is to take, seconds.
    span: f64,
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
        let variants = if extent.beside.is_some() { VARIANTS.len() } else { ALONE };
        let progress = progress(u64::from(extent.rounds) * variants as u64);
        progress.say("filling the tables");
        let mut stage = Stage::set(extent)?;
        let rounds = Rounds::take(variants, extent.rounds as usize, |variant| {
            let (way, _, name, _) = VARIANTS[variant];
            progress.say(name);
            let rate = stage.rate(variant).with_context(|| format!("{way:?}"))?;
            progress.step();
            Ok(rate)
        })?;
        Ok::<_, anyhow::Error>(figures(&rounds, variants, extent.services))
    })?;
    Ok((figures, NOTES))
}

fn figures(rounds: &Rounds, variants: usize, services: u32) -> Vec<Figure> {
    let mut figures = Vec::new();
    let named = VARIANTS.into_iter().take(variants).enumerate().filter(|(_, it)| !it.2.is_empty());
    for (number, (way, _, name, title)) in named {
        let reading = rounds.median(number);
        let figure = Figure::new(name, title, Unit::Mpps);
        figures.push(match way {
            Way::Tc | Way::Xdp | Way::One | Way::Many => Figure { sluice: reading, ..figure },
            Way::KubeProxy => Figure { kube_proxy: reading, ..figure },
            Way::Forward => Figure { control: reading, ..figure },
            Way::Floor | Way::BounceXdp | Way::BounceTc => Figure { ceiling: reading, ..figure },
        });
    }
    let there = QUOTIENTS.into_iter().filter(|it| it.0.max(it.1) < variants);
    for (one, other, name, title, goal) in there {
        let reading = rounds.over(one, other);
        let figure = Figure::new(name, title, Unit::Ratio);
        figures.push(match VARIANTS.map(|it| it.0).get(one) {
            Some(Way::Forward) => Figure { control: reading, ..figure },
            Some(Way::KubeProxy) => Figure { kube_proxy: reading, ..figure },
            Some(Way::Many) => {
                let goal = (services >= MANY).then(|| Goal::at_least(0.95, Some(1.0)));
                Figure { goal, sluice: reading, ..figure }
            }
            _ => Figure { goal, sluice: reading, ..figure },
        });
    }
    figures
}

impl Stage {
    fn set(extent: &Extent) -> Result<Self> {
        let plan = Plan::of(extent.ipv6);
        let interfaces = node::lay(&plan)?;
        let services = extent.services;
        let room = |services: u32| Sizes {
            // Nothing is answered: of such flows half of the table is taken at most.
            flows: Some(1 << 17),
            services: Some(services.saturating_add(64)),
            backends: Some(services.saturating_mul(2).saturating_add(64)),
        };
        let mut bench = Bench::load(plan, Proto::Udp, &interfaces.known(), &room(services))?;
        bench.serve(services)?;
        let mut one = Bench::another(ONE, plan, Proto::Udp, &interfaces.known(), &room(1))?;
        one.serve(1)?;
        let beside = extent.beside.as_deref().map(|name| Beside::enter(name, &plan)).transpose()?;
        let (flows, frames) = (extent.flows.min(FLOWS), extent.runs.saturating_mul(FRAMES));
        let driver = Driver::load()?;
        let (frames, least, span) = ([frames; VARIANTS.len()], extent.runs, f64::from(frames) / 1e6);
        Ok(Self { driver, bench, one, plan, interfaces, beside, services, flows, frames, least, span })
    }

    /// Millions of frames a second of this variant.
    fn rate(&mut self, variant: usize) -> Result<f64> {
        let (way, flows, ..) = VARIANTS[variant];
        let frames = self.frames[variant];
        let rate = match (way, self.beside.take()) {
            (Way::KubeProxy, Some(beside)) => {
                let rate = beside.space.run(|| self.rate_at(way, flows, frames, beside.interfaces));
                self.beside = Some(beside);
                rate
            }
            (_, beside) => {
                self.beside = beside;
                self.rate_at(way, flows, frames, self.interfaces)
            }
        }?;
        self.frames[variant] = self.least.max((rate * 1e6 * self.span) as u32);
        Ok(rate)
    }

    /// The same in the namespace of this thread, with these interfaces, by so many frames.
    fn rate_at(&mut self, way: Way, flows: u32, frames: u32, interfaces: Interfaces) -> Result<f64> {
        let Interfaces { uplink, far, mac, .. } = interfaces;
        let Plan { node, backends, services, outside, .. } = self.plan;
        let (server, servers, port) = match way {
            Way::Forward => (backends, 1, BACKEND_PORT),
            Way::One => (services, 1, PORT),
            Way::Many => (services, self.services, PORT),
            _ => (node, 1, NODE_PORT),
        };
        let kind = Frames {
            link: [mac, node::BEHIND],
            client: outside,
            server,
            servers,
            port,
            segment: Segment::Datagram,
            reversed: false,
        };
        let flows = flows.min(self.flows);
        let mut generator = kind.generator(Flows::in_turn(0, flows), far)?;
        let _on = self.attach(way, interfaces)?;
        // The first packets of flows are another figure.
        self.carry(&mut generator, flows)?;
        let (arrived, took) = self.carry(&mut generator, frames)?;
        if way == Way::Tc {
            self.bench.datapath().detach_interface(Class::Outward, uplink)?;
        }
        Ok(arrived as f64 / took.as_secs_f64() / 1e6)
    }

    /// Whose programs the frames meet.
    fn datapath(&self, way: Way) -> Option<&Bench> {
        match way {
            Way::Tc | Way::Xdp | Way::Many => Some(&self.bench),
            Way::One => Some(&self.one),
            Way::Floor | Way::BounceXdp | Way::BounceTc | Way::Forward | Way::KubeProxy => None,
        }
    }

    /// Puts on both ends of the wire what `way` takes.
    fn attach(&self, way: Way, Interfaces { uplink, far, .. }: Interfaces) -> Result<Vec<Attached>> {
        let own = |kind, name, interface| self.driver.attach(kind, name, interface);
        // Beside XDP tc would carry, unseen, what XDP leaves to the host.
        if way == Way::Tc {
            self.bench.datapath().attach_interface(Class::Outward, uplink, "uplink")?;
        }
        Ok(match (way, self.datapath(way)) {
            (Way::Tc, _) => vec![own(Kind::Tc, "count_tc", far)?, own(Kind::Xdp, "empty_xdp", uplink)?],
            (_, Some(bench)) => {
                let program = bench.datapath().program(UPLINK_XDP)?;
                vec![own(Kind::Xdp, "count_xdp", far)?, Driver::attach_program(Kind::Xdp, program, uplink)?]
            }
            (Way::Floor, _) => vec![own(Kind::Xdp, "count_xdp", uplink)?],
            (Way::BounceXdp, _) => {
                vec![own(Kind::Xdp, "count_xdp", far)?, own(Kind::Xdp, "bounce_xdp", uplink)?]
            }
            (Way::BounceTc, _) => vec![
                own(Kind::Tc, "count_tc", far)?,
                own(Kind::Xdp, "empty_xdp", uplink)?,
                own(Kind::Tc, "bounce_tc", uplink)?,
            ],
            // The host forwards.
            _ => vec![own(Kind::Tc, "count_tc", far)?, own(Kind::Xdp, "empty_xdp", uplink)?],
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
        let (arrived, took) = settled(begun, count, || Ok(self.driver.counted()? - before))?;
        // What answers that nobody is there arrives as well, but seldom.
        ensure!(arrived >= u64::from(count / 2), "only {arrived} of {count} frames arrived");
        Ok((arrived, took))
    }
}

/// Rules of somebody else, in a namespace that has got a wire of the bench's.
struct Beside {
    space: Space,
    interfaces: Interfaces,
}

impl Beside {
    fn enter(name: &str, plan: &Plan) -> Result<Self> {
        let space = Space::named(name).with_context(|| format!("open the network namespace {name}"))?;
        let interfaces = space.run(|| {
            node::clear()?;
            node::lay(plan)
        })?;
        Ok(Self { space, interfaces })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // What stays goes with the namespace, and the next one takes it away.
        let _ = self.space.run(node::clear);
    }
}
