//! The object against the table of maps.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use lb_common::maps;

use crate::kernel::object;

/// Every map of the table is in the object as the table has it, and no other.
#[test]
fn maps_are_those_of_the_table() -> Result<()> {
    let object = object()?;
    let object = aya_obj::Object::parse(&object).context("parse the object")?;
    let found: BTreeMap<&str, [u32; 5]> = (object.maps.iter())
        .map(|(name, map)| {
            let shape =
                [map.map_type(), map.key_size(), map.value_size(), map.max_entries(), map.map_flags()];
            (name.as_str(), shape)
        })
        .collect();
    let mut expected = BTreeMap::new();
    for spec in maps::ALL {
        let (key, value) = (u32::try_from(spec.key_size)?, u32::try_from(spec.value_size)?);
        expected.insert(spec.name, [spec.kind as u32, key, value, spec.entries, spec.flags]);
    }
    assert_eq!(found, expected);
    Ok(())
}
