//! How full maps are, and how often each reason occurred.

use bytemuck::Pod;
use lb_common::maps;
use lb_common::{
    Addr4, Addr6, AddressValue, AffinityKey, AffinityWord, FlowKey, FlowValue, FragmentKey, FragmentValue,
    FrontendKey, FrontendValue, InterfaceValue, ServiceMeta, SockUdpKey, SockUdpValue, SourceRangeKey,
};

use crate::bpf::map::{Hash, MapError, PerCpuArray};
use crate::bpf::pin::PinDir;

/// How many entries the map has, where they can be counted.
pub(crate) fn entries(pins: &PinDir, name: &str) -> Result<Option<usize>, MapError> {
    fn count<K: Pod, V: Pod>(pins: &PinDir, name: &str) -> Result<Option<usize>, MapError> {
        let map = Hash::<K, V>::open(pins, name)?;
        map.entries().try_fold(0, |count, entry| entry.map(|_| count + 1)).map(Some)
    }
    match name {
        maps::FLOWS4 | maps::FLOWS_LRU4 => count::<FlowKey<Addr4>, FlowValue<Addr4>>(pins, name),
        maps::FLOWS6 | maps::FLOWS_LRU6 => count::<FlowKey<Addr6>, FlowValue<Addr6>>(pins, name),
        maps::ADDRESSES4 => count::<Addr4, AddressValue>(pins, name),
        maps::ADDRESSES6 => count::<Addr6, AddressValue>(pins, name),
        maps::FRONTENDS4 => count::<FrontendKey<Addr4>, FrontendValue>(pins, name),
        maps::FRONTENDS6 => count::<FrontendKey<Addr6>, FrontendValue>(pins, name),
        maps::SOURCE_RANGES4 => count::<SourceRangeKey<Addr4>, u32>(pins, name),
        maps::SOURCE_RANGES6 => count::<SourceRangeKey<Addr6>, u32>(pins, name),
        maps::INTERFACES => count::<u32, InterfaceValue>(pins, name),
        maps::SERVICE_META => count::<u32, ServiceMeta>(pins, name),
        maps::SOCK_UDP4 => count::<SockUdpKey<Addr4>, SockUdpValue<Addr4>>(pins, name),
        maps::SOCK_UDP6 => count::<SockUdpKey<Addr6>, SockUdpValue<Addr6>>(pins, name),
        maps::AFFINITY => count::<AffinityKey, AffinityWord>(pins, name),
        maps::FRAGMENTS => count::<FragmentKey, FragmentValue>(pins, name),
        _ => Ok(None),
    }
}

/// Counts of all reasons, summed over the CPUs.
pub(crate) fn reasons(pins: &PinDir) -> Result<Vec<u64>, MapError> {
    let counts = PerCpuArray::<u64>::open(pins, maps::REASONS)?;
    let sum = |cpus: Vec<u64>| cpus.into_iter().fold(0, u64::saturating_add);
    (0..counts.len()).map(|reason| counts.get(reason).map(sum)).collect()
}

#[cfg(test)]
mod tests {
    use lb_common::maps::MapKind;

    use super::*;

    #[test]
    fn every_hash_can_be_counted() {
        let nowhere = PinDir::new("/nowhere");
        for spec in maps::ALL {
            let hash = matches!(spec.kind, MapKind::Hash | MapKind::LruHash | MapKind::LpmTrie);
            assert_eq!(entries(&nowhere, spec.name).is_err(), hash, "{}", spec.name);
        }
    }
}
