//! The row `mem`: bytes per flow, Service and endpoint, in the kernel and in this process, beside the sizes of what is stored.

use anyhow::{Context as _, Result};
use lb_bench::{Choice, Figure, Goal, Progress, Reading, Unit};
use lb_common::Proto;
use lb_common::maps::{self, MapKind, MapSpec, NO_PREALLOC, SLOTS_PER_BACKEND};
use procfs::process::Process;

use super::datapath::Bench;
use super::node::{self, Plan};
use super::{Extent, space};
use crate::bpf::inspect;
use crate::bpf::pin::PinDir;
use crate::bpf::size::Sizes;

/// What has to be known to read the figures.
const NOTES: &[&str] = &[
    "Bytes of the kernel are what it says of a map itself (`memlock` in fdinfo, from Linux 6.4 on what the map has), by its",
    "entries: flow tables, records of Services and endpoints and their slots are made whole when the agent starts, for as many",
    "as its flags say, used or not; addresses, ports and names of Services come and go with them. The ceiling are the keys and",
    "values alone. Bytes of the process are by how much more of it was resident once they were served, without what is mapped of",
    "maps: desired state and mirror of the tables, not what an API server said of them. Other rows come later, since what they",
    "freed would be taken again, unseen.",
];

/// Entries of a flow table.
const FLOWS: u32 = 1 << 18;
/// Services that are served at most, and then endpoints that each has more.
const SERVICES: u32 = 20_000;
/// See there.
const MORE: u32 = 10;

/// Measures all of it.
///
/// # Errors
/// What the machine lacks; a kernel that does not say what maps take.
pub(super) fn run(
    extent: &Extent,
    progress: impl FnOnce(u64) -> Progress + Send,
) -> Result<(Vec<Figure>, &'static [&'static str])> {
    let figures = space()?.run(|| {
        let progress = progress(3);
        let plan = Plan::of(extent.ipv6);
        let interfaces = node::lay(&plan)?;
        let services = extent.services.min(SERVICES);
        let endpoints = services.saturating_mul(1 + MORE);
        let sizes = Sizes {
            flows: Some(FLOWS),
            services: Some(services.saturating_add(64)),
            backends: Some(endpoints.saturating_mul(2).saturating_add(64)),
        };
        let mut bench = Bench::load(plan, Proto::Tcp, &interfaces.known(), &sizes)?;
        let mut takes = Vec::new();
        for endpoints in [0, 1, 1 + MORE] {
            progress.say(&format!("{services} Services with {endpoints} endpoints"));
            bench.serve_each(if endpoints == 0 { 0 } else { services }, endpoints)?;
            takes.push(Takes::read(bench.datapath().pins())?);
            progress.step();
        }
        figures(bench.datapath().pins(), &takes, services, extent.ipv6)
    })?;
    Ok((figures, NOTES))
}

/// What is taken, bytes.
struct Takes {
    /// By maps that grow.
    kernel: f64,
    /// By this process.
    user: f64,
}

impl Takes {
    fn read(pins: &PinDir) -> Result<Self> {
        let growing = maps::ALL.iter().filter(|spec| grows(spec));
        let kernel = growing.map(|spec| memory(pins, spec.name)).sum::<Result<f64>>()?;
        let status =
            Process::myself().and_then(|process| process.status()).context("read /proc/self/status")?;
        Ok(Self { kernel, user: status.rssanon.unwrap_or(0) as f64 * 1024.0 })
    }
}

/// Whether a map takes memory as its entries come.
fn grows(spec: &MapSpec) -> bool {
    matches!(spec.kind, MapKind::Hash | MapKind::LpmTrie) && spec.flags & NO_PREALLOC != 0
}

/// Bytes that the map `name` takes.
fn memory(pins: &PinDir, name: &str) -> Result<f64> {
    let memory = inspect::map(pins, name)?.memory;
    Ok(memory.context("the kernel does not say what a map takes")? as f64)
}

/// Bytes of an entry of the map `name`: those of the kernel, and those of key and value. The keys of arrays are nowhere.
fn entry(pins: &PinDir, name: &str) -> Result<[f64; 2]> {
    let spec = maps::ALL.iter().find(|spec| spec.name == name).context("no such map")?;
    let key = if spec.kind == MapKind::Array { 0 } else { spec.key_size };
    let capacity = f64::from(inspect::map(pins, name)?.capacity);
    Ok([memory(pins, name)? / capacity, (key + spec.value_size) as f64])
}

fn figures(pins: &PinDir, takes: &[Takes], services: u32, v6: bool) -> Result<Vec<Figure>> {
    let [none, one, more] = takes else { return Ok(Vec::new()) };
    let of = |name: &str, times: u32| {
        Ok::<_, anyhow::Error>(entry(pins, name)?.map(|bytes| bytes * f64::from(times)))
    };
    let sum = |parts: &[[f64; 2]]| [0, 1].map(|side| parts.iter().map(|part| part[side]).sum::<f64>());
    let services = f64::from(services);
    let user_endpoint = (more.user - one.user) / (services * f64::from(MORE));
    let user_service = (one.user - none.user) / services - user_endpoint;
    let grown = (one.kernel - none.kernel) / services;
    let family = |v4, v6_name| if v6 { v6_name } else { v4 };
    let named = sum(&[
        of(family(maps::ADDRESSES4, maps::ADDRESSES6), 1)?,
        of(family(maps::FRONTENDS4, maps::FRONTENDS6), 1)?,
        of(maps::SERVICE_META, 1)?,
    ]);
    let records = sum(&[of(maps::SERVICES_MAP, 1)?, of(maps::SERVICE_STATS, 1)?]);
    let endpoint = sum(&[
        of(maps::BACKENDS_MAP, 1)?,
        of(maps::BACKEND_STATS, 1)?,
        of(family(maps::SLOTS4, maps::SLOTS6), SLOTS_PER_BACKEND)?,
    ]);
    let figure = |name: &str, title: &str, bytes: f64, least: Option<f64>| Figure {
        sluice: Reading::of(Choice::Median, &[bytes]),
        ceiling: least.and_then(|least| Reading::of(Choice::Median, &[least])),
        ..Figure::new(name, title, Unit::Bytes)
    };
    let flow = |name, title, map| {
        let [bytes, least] = of(map, 2)?;
        Ok::<_, anyhow::Error>(figure(name, title, bytes, Some(least)))
    };
    Ok(vec![
        Figure {
            goal: Some(Goal::at_most(400.0, Some(300.0))),
            ..flow("flow4", "IPv4 flow, both entries: kernel", maps::FLOWS4)?
        },
        flow("flow6", "IPv6 flow, both entries: kernel", maps::FLOWS6)?,
        flow("flow_lru4", "IPv4 flow that may be evicted, both entries: kernel", maps::FLOWS_LRU4)?,
        figure("service", "Service: kernel", records[0] + grown, Some(records[1] + named[1])),
        figure("service_user", "Service: process", user_service, None),
        figure("endpoint", "endpoint: kernel", endpoint[0], Some(endpoint[1])),
        figure("endpoint_user", "endpoint: process", user_endpoint, None),
    ])
}
