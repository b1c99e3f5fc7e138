//! What a reading of the tables gives.

use std::net::IpAddr;
use std::sync::Arc;

use lb_common::{AddressValue, BackendRecord, FrontendValue, ServiceMeta, ServiceRecord};

use super::op::{FrontendAddr, SlotEntry};
use crate::model::{Family, Range};

/// How many entries each table has room for. Pairs are by family: IPv4, IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capacity {
    /// Service ids: from 0 on, as many as both the records and the names have room for.
    pub services: u32,
    /// Backend ids, of which 0 is never given out.
    pub backends: u32,
    /// Slots.
    pub slots: [u32; 2],
    /// Frontends.
    pub frontends: [u32; 2],
    /// Addresses.
    pub addresses: [u32; 2],
    /// Source ranges.
    pub ranges: [u32; 2],
}

/// Index of `family` in a pair.
pub(crate) const fn half(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// What the tables say of one service id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceEntry {
    /// Service id.
    pub id: u32,
    /// Its names.
    pub meta: ServiceMeta,
    /// Its record; zero if the id is beyond the array.
    pub record: ServiceRecord,
    /// By [`super::Scope`]: the slots that its spans name; empty where a span leaves the array.
    pub slots: [Arc<[SlotEntry]>; 2],
}

/// Everything that the tables hold, as read; it may contradict itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Room.
    pub capacity: Capacity,
    /// Services that have a name.
    pub services: Vec<ServiceEntry>,
    /// Backend ids that were ever given out.
    pub backends: Vec<(u32, BackendRecord)>,
    /// Frontends.
    pub frontends: Vec<(FrontendAddr, FrontendValue)>,
    /// Addresses.
    pub addresses: Vec<(IpAddr, AddressValue)>,
    /// Source ranges, with the service ids that they are of.
    pub ranges: Vec<(u32, Range)>,
}
