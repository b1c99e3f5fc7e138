//! The datapath in a BPF file system of its own, with tables that the product's own code fills.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use bytemuck::Pod;
use lb_common::generator::FIRST_PORT;
use lb_common::maps::{CONFIG, FLOWS4, FLOWS6, INTERFACES, REASONS};
use lb_common::{
    Addr4, Addr6, Address, Config, FlowKey, FlowValue, FrontendKind, InterfaceValue, PortRange, Prefix,
    Proto, Reason, config_flags,
};

use super::frame::nth;
use super::node::Plan;
use crate::bpf::load::Datapath;
use crate::bpf::map::{Array, Hash, Insert, MapError, PerCpuArray};
use crate::bpf::pin::PinDir;
use crate::bpf::size::Sizes;
use crate::bpf::space::own_bpffs;
use crate::bpf::{object, probe};
use crate::model::{External, Family, Frontend, ServicePort, ServicePortKey};
use crate::plan::Own;
use crate::reconcile::{Change, Reconciler};
use crate::tables::Kernel;

/// The pin directory.
const PINS: &str = "/sys/fs/bpf/sluice-bench";

/// Port of all Services, of all endpoints, and the node port of the first Service.
pub(super) use lb_bench::target::{ENDPOINT_PORT as BACKEND_PORT, NODE_PORT, PORT};

/// A datapath that is taken away with the thread that loaded it.
pub(super) struct Bench {
    datapath: Datapath,
    tables: Reconciler<Kernel>,
    reasons: PerCpuArray<u64>,
    plan: Plan,
    proto: Proto,
}

impl Bench {
    /// Loads the programs, with room for so many flows, Service ports of `proto` and endpoints, for the node in the
    /// namespace of this thread, which from here on has mounts of its own. `interfaces` are what it is told of those.
    ///
    /// # Errors
    /// What the kernel lacks or refused; a build without programs.
    pub(super) fn load(
        plan: Plan,
        proto: Proto,
        interfaces: &[(u32, InterfaceValue)],
        sizes: &Sizes,
    ) -> Result<Self> {
        own_bpffs().context("mount a BPF file system of its own")?;
        Self::another(PINS, plan, proto, interfaces, sizes)
    }

    /// One more, pinned at `pins` in the BPF file system of the first.
    ///
    /// # Errors
    /// As [`Bench::load`].
    pub(super) fn another(
        pins: &str,
        plan: Plan,
        proto: Proto,
        interfaces: &[(u32, InterfaceValue)],
        sizes: &Sizes,
    ) -> Result<Self> {
        let pins = PinDir::new(pins);
        let lock = pins.lock()?;
        let datapath = Datapath::load(&pins, lock, object::embedded()?, sizes)?;
        Array::open(&pins, CONFIG)?.set(0, &config(&plan)?)?;
        let known = Hash::<u32, InterfaceValue>::open(&pins, INTERFACES)?;
        for (index, value) in interfaces {
            known.insert(index, value, Insert::Any)?;
        }
        let reasons = PerCpuArray::open(&pins, REASONS)?;
        let mut tables = Reconciler::adopt(Kernel::open(&pins)?, "bench")?;
        let own = BTreeSet::from([plan.node]);
        let node_ports = Some(own.clone());
        tables.desire(Change::Own(Own { held: own, node_ports, node: vec![plan.node] }));
        Ok(Self { datapath, tables, reasons, plan, proto })
    }

    /// The programs.
    pub(super) const fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// Has the tables hold `count` Services of one endpoint each.
    ///
    /// # Errors
    /// There is no room for them.
    pub(super) fn serve(&mut self, count: u32) -> Result<()> {
        self.serve_each(count, 1)
    }

    /// The same, of so many endpoints each.
    ///
    /// # Errors
    /// As [`Bench::serve`].
    pub(super) fn serve_each(&mut self, count: u32, endpoints: u32) -> Result<()> {
        let services = (0..count).map(|number| service(&self.plan, self.proto, number, endpoints)).collect();
        self.tables.desire(Change::Replace(services));
        self.tables.step(Instant::now());
        while let Some(grace) = self.tables.begin_grace() {
            grace();
            self.tables.end_grace();
        }
        if let Some(problem) = self.tables.report().problems.first() {
            bail!("{problem}");
        }
        Ok(())
    }

    /// The node's port that the answers of a masqueraded flow come to, of which there is one.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn masqueraded(&self) -> Result<u16> {
        let pins = self.datapath.pins();
        let port = match self.plan.node {
            IpAddr::V4(node) => port_of(&Hash::open(pins, FLOWS4)?, Addr4(node.octets()))?,
            IpAddr::V6(node) => port_of(&Hash::open(pins, FLOWS6)?, Addr6(node.octets()))?,
        };
        port.context("no flow was masqueraded")
    }

    /// How often a packet or call left for `reason`.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(super) fn count(&self, reason: Reason) -> Result<u64> {
        Ok(self.reasons.get(reason as u32)?.iter().sum())
    }
}

/// The destination port of an entry for packets of endpoints to `node`.
fn port_of<A: Address>(flows: &Hash<FlowKey<A>, FlowValue<A>>, node: A) -> Result<Option<u16>, MapError>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    let found = flows.entries().find_map(|entry| match entry {
        Ok((FlowKey { tuple, .. }, _)) if tuple.dst == node && tuple.sport.number() == BACKEND_PORT => {
            Some(Ok(tuple.dport.number()))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    found.transpose()
}

fn config(plan: &Plan) -> Result<Config> {
    let flags = if probe::csum_ipv6_flag()? { config_flags::CSUM_IPV6_FLAG } else { 0 };
    let mut config = Config {
        flags,
        netns_cookie: probe::netns_cookie()?,
        // As many as there are: what is measured is a refusal, not its limit. Nobody sweeps.
        reject_rate: 100_000_000,
        patience: u32::MAX,
        tick: probe::tick(),
        // Those of the frames that a generator makes, as answers come to them.
        snat_ports: [
            PortRange { first: FIRST_PORT, last: 29_999 },
            PortRange { first: 61_000, last: 61_999 },
        ],
        ..Config::DEFAULT
    };
    let (range, bits) = plan.range;
    match plan.node {
        IpAddr::V4(node) => config.node4 = Addr4(node.octets()),
        IpAddr::V6(node) => config.node6 = Addr6(node.octets()),
    }
    match range {
        IpAddr::V4(addr) => config.service_ranges4[0] = prefix(Addr4(addr.octets()), bits),
        IpAddr::V6(addr) => config.service_ranges6[0] = prefix(Addr6(addr.octets()), bits),
    }
    Ok(config)
}

fn prefix<A: Address>(addr: A, bits: u8) -> Prefix<A> {
    Prefix { addr, bits, pad: [0; 3] }
}

/// Service number `number`: a ClusterIP, so many endpoints on another node; the first has a node port, too.
fn service(
    plan: &Plan,
    proto: Proto,
    number: u32,
    endpoints: u32,
) -> (ServicePortKey, Option<Arc<ServicePort>>) {
    let addr = nth(plan.services, number);
    let first = number.saturating_mul(endpoints);
    let backend: Vec<_> = (first..first.saturating_add(endpoints))
        .map(|number| SocketAddr::new(nth(plan.backends, number), BACKEND_PORT))
        .collect();
    let key = ServicePortKey {
        namespace: "bench".into(),
        name: format!("service-{number}").into(),
        port_name: "".into(),
        proto,
        family: Family::of(&addr),
    };
    let node_port = NonZeroU16::new(NODE_PORT).filter(|_| number == 0);
    let external = node_port.map(|port| Box::new(External { node_port: Some(port), ..External::default() }));
    let port = ServicePort {
        port: PORT,
        frontends: vec![Frontend { addr, port: PORT, kind: FrontendKind::ClusterIp }],
        cluster: backend.clone(),
        local: Vec::new(),
        serving: backend,
        internal_local: false,
        affinity: None,
        new_flow_rate: None,
        external,
    };
    (key, Some(Arc::new(port)))
}
