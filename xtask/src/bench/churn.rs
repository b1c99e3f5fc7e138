//! The row `churn`: requests to a Service of which a fifth of the endpoints is replaced each second.
//!
//! A replaced pod is as one that is deleted: its endpoint says that it terminates, it serves for a second at least, and then
//! nobody is at its address.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_bench::{Choice, Figure, Goal, Reading, Unit};
use serde_json::{Value, json};

use super::BenchArgs;
use super::measure::{OFTEN, reach, sent_again};
use super::objects::{self, Size};
use super::proxy::Proxy;
use super::scene::{Scene, serving};
use super::steps::Steps;
use crate::kube::{Api, Binaries};
use crate::lab::helper::wire::Load;
use crate::lab::{Lab, Pod};

/// What has to be known to read the figures.
pub(super) const NOTES: &[&str] = &[
    "Of 50 endpoints 10 are replaced at each turn, a second after the turn before. A pod that is replaced says that it terminates",
    "and serves until the next turn.",
    "Each request is an HTTP request by a TCP connection of its own, by eight clients at once; lost is one that is not answered",
    "within 4 s. Segments that had to be sent again are all of the client's.",
];

/// Services besides, at most.
const SERVICES: u32 = 1_000;
/// Endpoints, and how many of them are replaced at once.
const ENDPOINTS: usize = 50;
const REPLACED: usize = ENDPOINTS / 5;
/// How long until the next are, after all is said of these, and how long one that is replaced goes on.
const TURN: Duration = Duration::from_secs(1);
/// Where they all are, and the first of them.
const RANGE: &str = "10.127.64.0/18";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 127, 64, 1);
/// The Service.
const NAME: &str = "churn";
/// Clients at once, and their requests a second.
const CLIENTS: u32 = 8;
const RATE: u32 = 1_000;

/// What became of the requests.
#[derive(Clone, Copy, Debug)]
struct Taken {
    answered: f64,
    lost: f64,
    again: f64,
    /// Endpoints that were replaced a second.
    replaced: f64,
}

/// The cluster that it is measured in.
pub(super) fn size(args: &BenchArgs) -> Size {
    Size { services: args.services.min(SERVICES), endpoints: args.endpoints }
}

/// Measures both proxies.
///
/// # Errors
/// When the cluster does not start, or a proxy does not do its work at all.
pub(super) fn run(lab: &Arc<Lab>, binaries: &Binaries, size: Size, turns: u32) -> Result<Vec<Figure>> {
    let steps = Steps::new();
    steps.say("starting etcd and an API server");
    let scene = Scene::new(lab, binaries, NAME)?;
    steps.say(&format!("creating {} Services x {} endpoints", size.services, size.endpoints));
    objects::create(scene.plane(), size, &steps)?;
    let mut crowd = Crowd::new(scene.plane().client()?);
    let [sluice, kube_proxy] = Proxy::ALL.map(|proxy| crowd.churn(&scene, proxy, turns, size, &steps));
    Ok(figures(sluice?, kube_proxy?))
}

fn figures(sluice: Taken, kube_proxy: Taken) -> Vec<Figure> {
    let figure = |name, title, unit, goal, read: fn(&Taken) -> f64| Figure {
        goal,
        sluice: Reading::of(Choice::Worst, &[read(&sluice)]),
        kube_proxy: Reading::of(Choice::Worst, &[read(&kube_proxy)]),
        ..Figure::new(name, title, unit)
    };
    let count = Unit::Count;
    vec![
        figure("answered", "requests answered", count, None, |taken| taken.answered),
        figure("lost", "requests lost", count, Some(Goal::at_most(0.0, None)), |taken| taken.lost),
        figure("again", "segments sent again", count, None, |taken| taken.again),
        figure("replaced", "endpoints replaced", Unit::Rate, None, |taken| taken.replaced),
    ]
}

/// The endpoints.
struct Crowd {
    api: Api,
    /// How many there have been.
    count: u32,
    live: VecDeque<Ipv4Addr>,
    /// Those that terminate.
    leaving: Vec<Ipv4Addr>,
}

impl Crowd {
    fn new(api: Api) -> Self {
        let mut crowd = Self { api, count: 0, live: VecDeque::new(), leaving: Vec::new() };
        crowd.grow(ENDPOINTS);
        crowd
    }

    /// Adds so many, and says which.
    fn grow(&mut self, count: usize) -> Vec<Ipv4Addr> {
        let fresh = (0..count).map(|_| {
            self.count += 1;
            Ipv4Addr::from(u32::from(FIRST) + self.count - 1)
        });
        let fresh: Vec<_> = fresh.collect();
        self.live.extend(&fresh);
        fresh
    }

    /// Replaces endpoints so often under requests, through `proxy`.
    fn churn(&mut self, scene: &Scene, proxy: Proxy, turns: u32, size: Size, steps: &Steps) -> Result<Taken> {
        let (name, side) = (proxy.name(), scene.side(proxy)?);
        let pod = serving(scene.machine(proxy)?, NAME, RANGE)?;
        lives(&pod, "add", self.live.iter())?;
        // Those that terminated on the machine before have never been here.
        self.leaving.clear();
        let address = SocketAddr::new(size.spare(), objects::PORT);
        scene.plane().space().within(|| {
            let [service, slice] = [service(size), self.slice()];
            self.api.apply(&service)?;
            self.api.apply(&slice)
        })?;
        let running = proxy.start(scene)?;
        running.ready()?;
        reach(&side.prober, vec![address], None, OFTEN)
            .with_context(|| running.told("does not make the Service answer"))?;
        steps.say(&format!("{name}: endpoints are replaced {turns} times"));
        let again = sent_again(&side.traffic)?;
        side.traffic.start_load(Load { to: address, clients: CLIENTS, rate: RATE })?;
        let begun = Instant::now();
        let turned = (0..turns).try_for_each(|_| {
            // From the end of the turn before, however late that was: who has just said that he terminates still serves.
            thread::sleep(TURN);
            scene.plane().space().within(|| self.turn(&pod))
        });
        let replaced = f64::from(turns) * REPLACED as f64 / begun.elapsed().as_secs_f64();
        thread::sleep(TURN);
        let load = side.traffic.stop_load()?;
        turned?;
        for (_, told) in load.failed.iter().take(3) {
            steps.say(&format!("{name}: lost: {told}"));
        }
        let again = (sent_again(&side.traffic)? - again) as f64;
        running.stop()?;
        Ok(Taken { answered: load.answered.len() as f64, lost: load.failed.len() as f64, again, replaced })
    }

    /// Ends those that have terminated for a turn, and replaces as many.
    fn turn(&mut self, pod: &Pod) -> Result<()> {
        let dead = mem::take(&mut self.leaving);
        lives(pod, "del", dead.iter())?;
        self.leaving = self.live.drain(..REPLACED).collect();
        let fresh = self.grow(REPLACED);
        lives(pod, "add", fresh.iter())?;
        let patch = json!({ "endpoints": self.endpoints() });
        self.api.merge(&format!("{}/{NAME}", objects::slices()), &patch).map(|_| ())
    }

    fn endpoints(&self) -> Vec<Value> {
        let leaving = self.leaving.iter().map(|address| {
            let mut endpoint = objects::endpoint(*address, false);
            endpoint["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
            endpoint
        });
        let live = self.live.iter().map(|address| objects::endpoint(*address, true));
        live.chain(leaving).collect()
    }

    fn slice(&self) -> Value {
        let port = json!({ "name": "tcp", "protocol": "TCP", "port": objects::TARGET });
        objects::slice(NAME, &[port], &self.endpoints())
    }
}

fn service(size: Size) -> Value {
    let port = json!({ "name": "tcp", "protocol": "TCP", "port": objects::PORT });
    objects::service(NAME, &json!({ "clusterIP": size.spare(), "ports": [port] }))
}

/// Has somebody be at these addresses, or nobody.
fn lives<'a>(pod: &Pod, what: &str, addresses: impl Iterator<Item = &'a Ipv4Addr>) -> Result<()> {
    let mut lines = String::new();
    for address in addresses {
        let _ = writeln!(lines, "addr {what} {address}/32 dev lo");
    }
    pod.ip(&lines)
}
