//! What the maps say, read at once.

use std::time::Duration;

use lb_common::maps;
use lb_common::{Config, ServiceStats, StateRecord};

use crate::bpf::inspect;
use crate::bpf::map::Array;
use crate::bpf::pin::PinDir;
use crate::counts::flows::{Living, now, read_living};
use crate::counts::{self, PortName, add};

/// A map.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) name: &'static str,
    /// Entries in use; `None` where they cannot be counted.
    pub(super) entries: Option<u64>,
    pub(super) capacity: u32,
    /// Bytes.
    pub(super) memory: Option<u64>,
}

/// What the maps say.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// By number of the reason.
    pub(super) reasons: Vec<u64>,
    pub(super) maps: Vec<Map>,
    /// With the traffic of living flows.
    pub(super) services: Vec<(PortName, ServiceStats)>,
    pub(super) state: StateRecord,
    pub(super) config: Config,
    /// By the clock of the flow tables.
    pub(super) now: Duration,
}

impl Reading {
    /// Reads everything. What ends meanwhile may be in neither counters nor flows, never in both.
    ///
    /// # Errors
    /// A map is not there.
    pub(super) fn of(pins: &PinDir) -> anyhow::Result<Self> {
        // The counters first: a flow that ends later was still alive then.
        let mut counted = counters(pins)?;
        let (living, fills) = read_living(pins)?;
        for (id, _, stats) in &mut counted {
            living.services.get(id).into_iter().for_each(|traffic| add(stats, traffic));
        }
        drop::<Living>(living);
        let entries = |spec: &maps::MapSpec| match fills.iter().find(|fill| fill.name == spec.name) {
            Some(fill) => Ok(Some(fill.entries)),
            None => counts::maps::entries(pins, spec.name).map(|entries| entries.map(|count| count as u64)),
        };
        let hashes = maps::ALL.iter().map(|spec| {
            let map = inspect::map(pins, spec.name)?;
            let (name, capacity, memory) = (spec.name, map.capacity, map.memory);
            Ok(Map { name, entries: entries(spec)?, capacity, memory })
        });
        Ok(Self {
            reasons: counts::maps::reasons(pins)?,
            maps: hashes.collect::<anyhow::Result<_>>()?,
            services: counted.into_iter().map(|(_, name, stats)| (name, stats)).collect(),
            state: Array::<StateRecord>::open(pins, maps::STATE)?.get(0)?,
            config: Array::<Config>::open(pins, maps::CONFIG)?.get(0)?,
            now: now(),
        })
    }
}

/// The counters of all Service ports, by id.
fn counters(pins: &PinDir) -> anyhow::Result<Vec<(u32, PortName, ServiceStats)>> {
    let stats = Array::<ServiceStats>::open(pins, maps::SERVICE_STATS)?;
    let names = counts::names(pins)?;
    names.into_iter().map(|(id, meta)| Ok((id, PortName::of(&meta), stats.get(id)?))).collect()
}
