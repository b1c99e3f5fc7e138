//! The rows of conversations: real sockets that talk through a Service, beside the same without a proxy.
//!
//! Client, server and what is between them share a processor, or the machine's scheduler would be what is measured.

mod scene;
mod talk;

use anyhow::{Context as _, Result};
use lb_bench::{Figure, Goal, Progress, Reading, Rounds, Unit};

use self::scene::{Scene, Way};
use super::{Extent, pin, space};

pub(super) use self::talk::Talk;

/// What has to be known to read the figures.
const NOTES: &[&str] = &[
    "Threads of one process in namespaces of their own, on one processor, from an address in each round that has never called",
    "before. Each TCP connection by ClusterIP goes to another Service, of kube-proxy's as of Sluice's, of ten endpoints where there",
    "are many; a node port (of as many endpoints in Sluice, of one in kube-proxy's rules) and all datagrams have one, beside as many",
    "as there are. kube-proxy's rules are those of all its Services, also where one of Sluice's is called. Who calls waits for an",
    "answer before the next call: p50 and p99 are without queues. Rates and times are medians by round, of ratios the medians of",
    "those within a round. The server is on the node. The control is the server's own address, by way of a node that no proxy has",
    "touched, in ratios over itself; the ceiling is a wire between client and server, or programs that do nothing where Sluice has",
    "its own: who is in tc and sends by the host's routes is no faster. Sluice is in tc, at pods and uplink. Beside a ClusterIP",
    "stands kube-proxy's, whichever way Sluice takes; what must be reached over it is said where it has as many Services.",
    "Past the host stack: with --redirect-peer, which a node with rules of netfilter for forwarded packets refuses.",
];

/// Services that are measured with, as far as they are asked for.
const SERVICES: u32 = 10_000;

/// What is told of: Sluice's way, name and title, and the one that it is compared with.
const WAYS: [(Way, &str, &str, Way); 6] = [
    (Way::Through, "direct", "the server's own address", Way::BesideThrough),
    (Way::Socket, "socket", "ClusterIP, at the socket", Way::BesideCluster),
    (Way::Packet, "packet", "ClusterIP, on the way", Way::BesideCluster),
    (Way::SocketPast, "socket_past", "ClusterIP, at the socket, past the host stack", Way::BesideCluster),
    (Way::PacketPast, "packet_past", "ClusterIP, on the way, past the host stack", Way::BesideCluster),
    (Way::NodePort, "node_port", "node port from outside", Way::BesideNodePort),
];

/// One Service, and as many as there are.
fn sizes(extent: &Extent) -> [u32; 2] {
    [1, extent.services.min(SERVICES)]
}

/// Measures `talks`, one after the other.
///
/// # Errors
/// What the machine lacks; calls that fail, or do not go the way that is measured.
pub(super) fn run(
    talks: &[Talk],
    extent: &Extent,
    progress: impl FnOnce(u64) -> Progress + Send,
) -> Result<(Vec<Figure>, &'static [&'static str])> {
    let first = *talks.first().context("nothing to measure")?;
    let [one, many] = sizes(extent);
    let phases = talks.iter().flat_map(|talk| match talk {
        Talk::Streams(_) => vec![(*talk, many)],
        Talk::Kept | Talk::Anew | Talk::Datagrams => vec![(*talk, one), (*talk, many)],
    });
    let phases: Vec<_> = phases.collect();
    let node = space()?;
    let figures = node.run(|| {
        pin()?;
        // The first of them measures twice.
        let mut variants =
            vec![Way::Direct, Way::Direct, Way::Wire, Way::Idle, Way::Through, Way::Packet, Way::NodePort];
        variants.push(Way::PacketPast);
        if first != Talk::Datagrams {
            // Pods' datagrams are translated on the way alone.
            variants.extend([Way::Socket, Way::SocketPast]);
        }
        if extent.beside.is_some() {
            variants.extend([Way::BesideThrough, Way::BesideCluster, Way::BesideNodePort]);
        }
        let progress = progress(u64::from(extent.rounds) * (phases.len() * variants.len()) as u64);
        progress.say("filling the tables");
        let mut scene = Scene::set(first, extent, &node)?;
        let mut figures = Vec::new();
        for (talk, services) in phases {
            scene.serve(talk, services)?;
            progress.say(&format!("{services} Services"));
            let rounds = Rounds::take_all(variants.len(), extent.rounds as usize, |variant| {
                let way = *variants.get(variant).context("no such variant")?;
                let told = scene.talk(talk, way).with_context(|| format!("{way:?}"))?;
                progress.step();
                let [half, most] = told.latency;
                Ok([told.rate, half, most])
            })?;
            figures.extend(tell(talk, services, extent.beside_services, &variants, &rounds));
        }
        Ok::<_, anyhow::Error>(figures)
    })?;
    Ok((figures, NOTES))
}

/// What must be reached through a ClusterIP over the direct way, and over kube-proxy.
fn goals(talk: Talk) -> [Option<Goal>; 2] {
    let goals = |direct, over| [Some(Goal::at_least(0.97, Some(direct))), over];
    let over = |must, aim| Some(Goal::at_least(must, Some(aim)));
    match talk {
        Talk::Kept => goals(1.05, over(1.1, 1.2)),
        Talk::Anew => goals(1.1, over(1.15, 1.35)),
        Talk::Datagrams => goals(1.05, over(1.05, 1.2)),
        Talk::Streams(1) => goals(1.0, None),
        Talk::Streams(_) => [None; 2],
    }
}

/// What `rounds` of rates and latencies of `variants` say, of so many Services, beside rules of so many.
fn tell(talk: Talk, services: u32, others: u32, variants: &[Way], rounds: &[Rounds; 3]) -> Vec<Figure> {
    let mut read =
        vec![("", "", Unit::Rate), ("_p50", ", p50", Unit::Micros), ("_p99", ", p99", Unit::Micros)];
    let mut about = (services.to_string(), format!("{services} Services"));
    if let Talk::Streams(count) = talk {
        read = vec![("", "", Unit::Gbits)];
        about = (count.to_string(), format!("{count} streams, {services} Services"));
    }
    let number = |way| variants.iter().position(|variant| *variant == way);
    let over = |one: Option<usize>, other: Option<usize>| rounds[0].over(one?, other?);
    // Twice, side by side.
    let direct = number(Way::Direct);
    let again = direct.map(|direct| direct + 1);
    let idle = number(Way::Idle);
    let [over_direct, over_kube_proxy] = goals(talk);
    let mut figures = Vec::new();
    for (way, name, title, other) in WAYS {
        let Some(sluice) = number(way) else { continue };
        let (sluice, wire, beside) = (Some(sluice), number(Way::Wire), number(other));
        // Goals are said of ClusterIPs.
        let goal = |goal: Option<Goal>| goal.filter(|_| !matches!(way, Way::Through | Way::NodePort));
        let figure = |kind: &str, what: &str, unit| {
            let (number, text) = &about;
            Figure::new(format!("{name}{kind}_{number}"), format!("{title}{what}: {text}"), unit)
        };
        for ((kind, what, unit), rounds) in read.iter().zip(rounds) {
            let median = |variant: Option<usize>| -> Option<Reading> { rounds.median(variant?) };
            figures.push(Figure {
                sluice: median(sluice),
                kube_proxy: median(beside),
                control: median(direct),
                ceiling: median(wire),
                ..figure(kind, what, *unit)
            });
        }
        figures.push(Figure {
            goal: goal(over_direct),
            sluice: over(sluice, direct),
            kube_proxy: over(beside, direct),
            control: over(again, direct),
            ceiling: over(wire, direct),
            ..figure("_over_direct", ", over a node without a proxy", Unit::Ratio)
        });
        if beside.is_some() {
            figures.push(Figure {
                // Said of this many Services on both sides.
                goal: goal(over_kube_proxy).filter(|_| [services, others] == [SERVICES; 2]),
                sluice: over(sluice, beside),
                control: over(again, direct),
                ceiling: over(wire, beside),
                ..figure("_over_kube_proxy", ", over kube-proxy", Unit::Ratio)
            });
        }
    }
    let (number, text) = &about;
    figures.push(Figure {
        control: over(again, direct),
        ceiling: over(idle, direct),
        ..Figure::new(
            format!("idle_over_direct_{number}"),
            format!("programs that do nothing, over a node without a proxy: {text}"),
            Unit::Ratio,
        )
    });
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_reached_over_others_is_said_of_as_many_services() {
        let variants = [Way::Direct, Way::Direct, Way::Socket, Way::BesideCluster];
        let rounds = Rounds::take_all(variants.len(), 3, |_| Ok([1.0; 3])).unwrap();
        let judged = |services, others| {
            let figures = tell(Talk::Anew, services, others, &variants, &rounds);
            let over = figures.iter().find(|it| it.name.contains("_over_kube_proxy")).unwrap();
            over.goal.is_some()
        };
        assert!(judged(SERVICES, SERVICES));
        for (services, others) in [(SERVICES, 0), (SERVICES, 5), (1, 1), (1, SERVICES)] {
            assert!(!judged(services, others), "{services} beside {others}");
        }
    }
}
