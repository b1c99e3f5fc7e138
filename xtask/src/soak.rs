//! `cargo xtask soak`: Services, endpoints, pods and the agent come and go for minutes, under traffic that must not
//! notice. At the end the tables are those that a fresh agent makes of the same manifests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::demo::line;
use crate::lab::helper::wire::{Load, Transport};
use crate::lab::manifest::{Endpoint, Port, list, service, slice};
use crate::lab::{Agent, Lab, Node, Pod, wait_for};
use crate::{build, sh};

/// Flags of the soak.
#[derive(Debug, Args)]
pub struct SoakArgs {
    /// How long things come and go
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Where the random choices begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const AGENT_FLAGS: &[&str] = &["--max-flows", "65536", "--socket-lb", "all"];
/// The port at which pods serve.
const TARGET: u16 = 8000;
/// Services that come and go, beside the one that stays.
const SERVICES: u8 = 40;
/// Pods that come and go, beside the two that stay.
const PODS: usize = 6;
/// One turn of the churn.
const TURN: Duration = Duration::from_millis(100);
/// Addresses of pods are not used twice, and there are 250.
const MOST_PODS: u64 = 230;

/// Builds what it needs and runs it. With `SLUICE_BIN` set, that binary is used and nothing is built.
///
/// # Errors
/// When a request was lost, or the tables at the end are not what they should be.
pub fn run(args: &SoakArgs) -> Result<()> {
    build::for_lab("the soak")?;
    let lab = Lab::own()?;
    let node = Node::new(&lab, "soak")?;
    let client = node.pod("client")?;
    let stay = [serving(&node, "stay-1")?, serving(&node, "stay-2")?];
    publish(&node, "steady", 200, &stay.iter().collect::<Vec<_>>(), 0)?;
    let agent = Agent::start(&node, AGENT_FLAGS)?;
    let over = AtomicBool::new(false);
    let steady = addresses(200);
    for space in [&*client, node.host()] {
        space.start_load(Load { to: SocketAddr::new(steady[0], 80), clients: 4, rate: 300 })?;
    }
    let (churned, asked) = thread::scope(|scope| {
        let askers = [&*client, node.host()].map(|space| {
            steady.map(|addr| {
                scope.spawn({
                    let over = &over;
                    move || space.ask_until(0, SocketAddr::new(addr, 80), over)
                })
            })
        });
        let churned = churn(&node, agent, args);
        over.store(true, Ordering::Relaxed);
        (churned, askers.map(|pair| pair.map(thread::ScopedJoinHandle::join)))
    });
    let agent = churned?;
    for space in [&*client, node.host()] {
        let report = space.stop_load()?;
        line(&format!("TCP: {} requests, {} failed", report.sent(), report.failed.len()));
        ensure!(report.failed.is_empty(), "requests were lost: {:?}", report.failed.first());
    }
    for asked in asked.into_iter().flatten() {
        let Ok(asked) = asked else { anyhow::bail!("a client panicked") };
        line(&format!("UDP: {} datagrams, all answered", asked?.len()));
    }
    compare(&node, agent)
}

/// Turns the scene over, again and again.
fn churn(node: &Node, agent: Agent, args: &SoakArgs) -> Result<Agent> {
    let (mut agent, mut random, start) = (agent, fastrand::Rng::with_seed(args.seed), Instant::now());
    let (mut pods, mut turns, mut made): (Vec<Pod>, u64, u64) = (Vec::new(), 0, 0);
    // So that the addresses last.
    let pod_turns = (args.seconds * 1000 / (TURN.as_millis() as u64) / MOST_PODS).max(10);
    while start.elapsed() < Duration::from_secs(args.seconds) {
        turns += 1;
        if turns % pod_turns == 0 || pods.len() < 2 {
            if pods.len() >= PODS {
                pods.remove(0);
            }
            made += 1;
            pods.push(serving(node, &format!("pod-{made}"))?);
        }
        let number = random.u8(..SERVICES);
        let name = format!("churn-{number}");
        if random.u8(..5) == 0 {
            // It may not be there.
            let _ = node.remove(&format!("{name}.json"));
        } else {
            let chosen: Vec<&Pod> = pods.iter().filter(|_| random.bool()).collect();
            publish(node, &name, number, &chosen, random.u64(..3))?;
        }
        if turns % 600 == 0 {
            agent.kill()?;
            thread::sleep(Duration::from_millis(500));
            agent = Agent::start(node, AGENT_FLAGS)?;
        }
        thread::sleep(TURN);
    }
    line(&format!("{turns} turns, {made} pods in {:.0} s", start.elapsed().as_secs_f32()));
    Ok(agent)
}

/// The tables of the agent that went through all of it, and those of one that begins with the manifests as they are.
fn compare(node: &Node, agent: Agent) -> Result<()> {
    let settled = || shown(node).ok().filter(|shown| shown.as_array().is_some_and(|ports| !ports.is_empty()));
    let mut last = settled();
    // Until nothing moves any more.
    wait_for(Duration::from_secs(20), || {
        thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut last, settled());
        before.is_some() && before == last
    })?;
    agent.stop()?;
    let churned = (shown(node)?, entries(node)?);
    sh::read(&mut node.sluice(&["cleanup"]))?;
    let agent = Agent::start(node, AGENT_FLAGS)?;
    let fresh = (shown(node)?, entries(node)?);
    agent.stop()?;
    ensure!(churned.0 == fresh.0, "Services differ:\n{:#}\n{:#}", churned.0, fresh.0);
    ensure!(churned.1 == fresh.1, "numbers of entries differ: {:?}, {:?}", churned.1, fresh.1);
    line(&format!("{} Service ports, as a fresh agent has them", fresh.0.as_array().map_or(0, Vec::len)));
    Ok(())
}

/// What `sluice service show` says, without ids and counters.
fn shown(node: &Node) -> Result<Value> {
    node.services(&["id", "generation"])
}

/// How many entries the tables have that the agent alone writes.
fn entries(node: &Node) -> Result<Vec<(String, Value)>> {
    let maps = node.sluice_json(&["map"])?;
    let own = ["addresses4", "addresses6", "frontends4", "frontends6", "service_meta"];
    let maps = maps.as_array().into_iter().flatten();
    Ok(maps
        .filter(|map| map["name"].as_str().is_some_and(|name| own.contains(&name)))
        .map(|map| (map["name"].to_string(), map["entries"].clone()))
        .collect())
}

fn serving(node: &Node, name: &str) -> Result<Pod> {
    let pod = node.pod(name)?;
    for transport in [Transport::Tcp, Transport::Udp] {
        pod.serve(transport, TARGET, name)?;
    }
    Ok(pod)
}

fn addresses(number: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(10, 96, 3, number).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0x96, 3, 0, 0, 0, number.into()).into(),
    ]
}

/// Writes a Service with these endpoints; `state` 1: they terminate, 2: they are not ready.
fn publish(node: &Node, name: &str, number: u8, pods: &[&Pod], state: u64) -> Result<()> {
    let ports = [Transport::Tcp, Transport::Udp].map(|transport| Port::new(transport, 80, TARGET));
    let mut items = vec![service(name, &addresses(number), &ports)];
    items.extend([0, 1].map(|family| {
        let endpoints = pods.iter().map(|pod| Endpoint {
            addr: pod.ips()[family],
            ready: state == 0,
            serving: state < 2,
            terminating: state == 1,
        });
        slice(&format!("{name}-{family}"), name, &ports, &endpoints.collect::<Vec<_>>())
    }));
    node.write(&format!("{name}.json"), &list(&items))
}
