//! What the programs are told of interfaces.

use std::collections::BTreeMap;

use lb_common::InterfaceValue;
use lb_common::maps::INTERFACES;
use tracing::warn;

use crate::bpf::map::{Hash, Insert, MapError};
use crate::bpf::pin::PinDir;

/// [`lb_common::interface_flags`] by interface.
pub(super) type Flags = BTreeMap<u32, u32>;

/// The map `interfaces` in the kernel.
#[derive(Debug)]
pub(super) struct Facts {
    map: Hash<u32, InterfaceValue>,
    /// What it holds.
    told: Flags,
}

impl Facts {
    /// The map with what a former agent has told.
    ///
    /// # Errors
    /// The map is not there.
    pub(super) fn open(pins: &PinDir) -> Result<Self, MapError> {
        let map: Hash<u32, InterfaceValue> = Hash::open(pins, INTERFACES)?;
        let told = map.entries().map(|entry| entry.map(|(index, value)| (index, value.flags)));
        let told = told.collect::<Result<_, _>>()?;
        Ok(Self { map, told })
    }

    /// Tells `wanted`, and nothing else. What fails is tried again in the next call.
    pub(super) fn tell(&mut self, wanted: &Flags) {
        if let Err(error) = self.try_tell(wanted) {
            warn!("what is masqueraded may be out of date: {error}");
        }
    }

    fn try_tell(&mut self, wanted: &Flags) -> Result<(), MapError> {
        let gone: Vec<u32> = self.told.keys().filter(|index| !wanted.contains_key(index)).copied().collect();
        for index in gone {
            self.map.delete(&index)?;
            self.told.remove(&index);
        }
        for (index, flags) in wanted {
            if self.told.get(index) != Some(flags) {
                self.map.insert(index, &InterfaceValue { flags: *flags }, Insert::Any)?;
                self.told.insert(*index, *flags);
            }
        }
        Ok(())
    }
}
