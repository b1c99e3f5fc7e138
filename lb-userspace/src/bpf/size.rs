//! How many entries the tables get when they are made.

use lb_common::maps::{BACKENDS, FLOWS, MapSpec, SERVICES, Sizing};

/// Memory for one entry in each of the two flow tables. Such a pair takes about 400 bytes: 1.2 % of the memory.
const MEMORY_PER_FLOW: u64 = 32 << 10;
/// Least and most entries of a flow table by default.
const FLOW_BOUNDS: (u64, u64) = (65_536, 4_194_304);

/// Sizes that flags ask for; `None` means the default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Entries of each flow table. The LRU tables beside them get an eighth.
    pub flows: Option<u32>,
    /// Service ports per family.
    pub services: Option<u32>,
    /// Endpoints of all Service ports. The slot arrays get two slots for each.
    pub backends: Option<u32>,
}

impl Sizes {
    /// Entries for a new map of this kind, on a machine with so many bytes of memory.
    #[must_use]
    pub fn entries(&self, spec: &MapSpec, memory: u64) -> u32 {
        let (default, wanted) = match spec.sizing {
            Sizing::Fixed => return spec.entries,
            Sizing::Flows => (FLOWS, self.flows.unwrap_or_else(|| flows(memory))),
            Sizing::Services => (SERVICES, self.services.unwrap_or(SERVICES)),
            Sizing::Backends => (BACKENDS, self.backends.unwrap_or(BACKENDS)),
        };
        // The table of maps says how a map's size relates to what it is counted by.
        let entries = u64::from(spec.entries) * u64::from(wanted) / u64::from(default);
        u32::try_from(entries).unwrap_or(u32::MAX)
    }

    /// The flag that sizes maps of this kind, and whether it was given.
    pub(super) fn flag(&self, spec: &MapSpec) -> Option<&'static str> {
        match spec.sizing {
            Sizing::Fixed => None,
            Sizing::Flows => self.flows.and(Some("--max-flows")),
            Sizing::Services => self.services.and(Some("--max-services")),
            Sizing::Backends => self.backends.and(Some("--max-backends")),
        }
    }
}

/// One entry for so much memory, rounded down to a power of two, within bounds.
fn flows(memory: u64) -> u32 {
    let (least, most) = FLOW_BOUNDS;
    let fit = (memory / MEMORY_PER_FLOW).clamp(least, most);
    // At most 2^22.
    1 << fit.ilog2()
}

#[cfg(test)]
mod tests {
    use lb_common::maps;

    use super::*;

    fn entries(sizes: Sizes, name: &str, memory: u64) -> u32 {
        let spec = maps::ALL.iter().find(|spec| spec.name == name).unwrap();
        sizes.entries(spec, memory)
    }

    #[test]
    fn flow_tables_follow_the_memory() {
        let auto = Sizes::default();
        for (gib, flows) in
            [(0, 65_536), (1, 65_536), (2, 65_536), (8, 262_144), (15, 262_144), (1024, 4_194_304)]
        {
            assert_eq!(entries(auto, maps::FLOWS4, gib << 30), flows, "{gib} GiB");
            assert_eq!(entries(auto, maps::FLOWS_LRU6, gib << 30), flows / 8, "{gib} GiB");
        }
    }

    #[test]
    fn flags_size_everything_that_is_counted_alike() {
        let sizes = Sizes { flows: Some(1000), services: Some(64), backends: Some(128) };
        for (name, size) in [
            (maps::FLOWS6, 1000),
            (maps::FLOWS_LRU4, 125),
            (maps::FRONTENDS4, 64),
            (maps::SERVICE_STATS, 64),
            (maps::BACKENDS_MAP, 128),
            (maps::SLOTS6, 256),
            (maps::SOCK_UDP4, maps::SOCK_UDP),
            (maps::CONFIG, 1),
        ] {
            assert_eq!(entries(sizes, name, 0), size, "{name}");
        }
    }
}
