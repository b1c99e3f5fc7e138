//! What the programs are told of interfaces.

use std::collections::BTreeMap;

use lb_common::InterfaceValue;
use lb_common::maps::INTERFACES;
use tracing::warn;

use crate::bpf::map::{Hash, Insert, MapError};
use crate::bpf::pin::PinDir;

/// What is said of interfaces, by index.
pub(super) type Told = BTreeMap<u32, InterfaceValue>;

/// The map `interfaces` in the kernel.
#[derive(Debug)]
pub(super) struct Facts {
    map: Hash<u32, InterfaceValue>,
    /// What it holds.
    told: Told,
}

impl Facts {
    /// The map with what a former agent has told.
    ///
    /// # Errors
    /// The map is not there.
    pub(super) fn open(pins: &PinDir) -> Result<Self, MapError> {
        let map: Hash<u32, InterfaceValue> = Hash::open(pins, INTERFACES)?;
        let told = map.entries().collect::<Result<_, _>>()?;
        Ok(Self { map, told })
    }

    /// Tells `wanted`, and nothing else. What fails is tried again in the next call.
    pub(super) fn tell(&mut self, wanted: &Told) {
        if let Err(error) = self.try_tell(wanted) {
            warn!("what is masqueraded may be out of date: {error}");
        }
    }

    fn try_tell(&mut self, wanted: &Told) -> Result<(), MapError> {
        let gone: Vec<u32> = self.told.keys().filter(|index| !wanted.contains_key(index)).copied().collect();
        for index in gone {
            self.map.delete(&index)?;
            self.told.remove(&index);
        }
        for (index, value) in wanted {
            if self.told.get(index) != Some(value) {
                self.map.insert(index, value, Insert::Any)?;
                self.told.insert(*index, *value);
            }
        }
        Ok(())
    }
}
