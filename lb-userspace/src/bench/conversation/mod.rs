//! The rows of conversations: requests and answers of real sockets through a Service, beside the same without a proxy.
//!
//! Client, server and what is between them share a processor, or the machine's scheduler would be what is measured.

mod scene;
mod talk;

use anyhow::Result;
use lb_bench::{Figure, Goal, Progress, Rounds, Unit};

use self::scene::{Scene, Way};
use super::{Extent, pin, space};

pub(super) use talk::Talk;

/// What has to be known to read the figures.
const NOTES: &[&str] = &[
    "Threads of one process in namespaces of their own, on one processor, ask for a byte and get a byte; every call goes to",
    "another Service, from an address that has never called before. Rates and times are medians by round, of ratios the medians",
    "of those within a round. The server is on the node. The control is the server's own address, by way of a node that no proxy",
    "has touched, in ratios over itself; the ceiling is a wire between client and server. Sluice is in tc, on pods and uplink.",
];

/// Services that are measured with, as far as they are asked for.
const SERVICES: u32 = 10_000;

/// Each is measured once in a round; the direct way twice.
const VARIANTS: [Way; 7] =
    [Way::Wire, Way::Direct, Way::Direct, Way::Through, Way::Socket, Way::Packet, Way::NodePort];
/// Numbers of variants.
const WIRE: usize = 0;
/// See there.
const DIRECT: usize = 1;
/// See there.
const AGAIN: usize = 2;

/// What is told of: numbers of variants.
const WAYS: [(usize, &str, &str); 4] = [
    (3, "direct", "the server's own address"),
    (4, "socket", "ClusterIP, at the socket"),
    (5, "packet", "ClusterIP, on the way"),
    (6, "node_port", "node port from outside"),
];

/// One Service, and as many as there are.
fn sizes(extent: &Extent) -> [u32; 2] {
    [1, extent.services.min(SERVICES)]
}

/// Measures all of it.
///
/// # Errors
/// What the machine lacks; calls that fail, or do not go the way that is measured.
pub(super) fn run(
    talk: Talk,
    extent: &Extent,
    progress: impl FnOnce(u64) -> Progress + Send,
) -> Result<(Vec<Figure>, &'static [&'static str])> {
    let node = space()?;
    let figures = node.run(|| {
        pin()?;
        let sizes = sizes(extent);
        let progress = progress(u64::from(extent.rounds) * (sizes.len() * VARIANTS.len()) as u64);
        progress.say("filling the tables");
        let mut scene = Scene::set(talk, extent, &node)?;
        let mut figures = Vec::new();
        for services in sizes {
            scene.serve(services)?;
            progress.say(&format!("{services} Services"));
            let rounds = Rounds::take_all(VARIANTS.len(), extent.rounds as usize, |variant| {
                let told = scene.talk(VARIANTS[variant])?;
                progress.step();
                let [half, most] = told.latency;
                Ok([told.rate, half, most])
            })?;
            figures.extend(tell(talk, services, &rounds));
        }
        Ok::<_, anyhow::Error>(figures)
    })?;
    Ok((figures, NOTES))
}

/// What `rounds` of rates and latencies say.
fn tell(talk: Talk, services: u32, rounds: &[Rounds; 3]) -> Vec<Figure> {
    const READ: [(&str, &str, Unit); 3] =
        [("", "", Unit::Rate), ("_p50", ", p50", Unit::Micros), ("_p99", ", p99", Unit::Micros)];
    let goal = match talk {
        Talk::Kept => Goal::at_least(0.97, Some(1.05)),
        Talk::Anew => Goal::at_least(0.97, Some(1.1)),
    };
    let mut figures = Vec::new();
    for (way, name, title) in WAYS {
        let figure = |kind: &str, what: &str, unit| {
            Figure::new(
                format!("{name}{kind}_{services}"),
                format!("{title}{what}: {services} Services"),
                unit,
            )
        };
        for ((kind, what, unit), rounds) in READ.into_iter().zip(rounds) {
            figures.push(Figure {
                sluice: rounds.median(way),
                control: rounds.median(DIRECT),
                ceiling: rounds.median(WIRE),
                ..figure(kind, what, unit)
            });
        }
        let [rates, ..] = rounds;
        figures.push(Figure {
            // Said of ClusterIPs.
            goal: matches!(VARIANTS[way], Way::Socket | Way::Packet).then_some(goal),
            sluice: rates.over(way, DIRECT),
            control: rates.over(AGAIN, DIRECT),
            ceiling: rates.over(WIRE, DIRECT),
            ..figure("_over_direct", ", over a node without a proxy", Unit::Ratio)
        });
    }
    figures
}
