//! What the maps count, read as plain values: for the command line, and for metrics.

pub(crate) mod flows;
pub(crate) mod maps;

use lb_common::{ServiceMeta, ServiceStats, maps::SERVICE_META};

use crate::bpf::map::{Hash, MapError};
use crate::bpf::pin::PinDir;

/// Name of a Service port of one family. The order is that of lists.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PortName {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port_name: String,
    pub(crate) port: u16,
    pub(crate) proto: u8,
    pub(crate) family: u8,
}

impl PortName {
    pub(crate) fn of(meta: &ServiceMeta) -> Self {
        Self {
            namespace: string(&meta.namespace),
            name: string(&meta.name),
            port_name: string(&meta.port_name),
            port: meta.port.number(),
            proto: meta.proto,
            family: meta.family,
        }
    }
}

/// The names of all Service ports by id, in the order of the arrays: these are mapped in parts.
pub(crate) fn names(pins: &PinDir) -> Result<Vec<(u32, ServiceMeta)>, MapError> {
    let mut names = Hash::open(pins, SERVICE_META)?.entries().collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable_by_key(|(id, _)| *id);
    Ok(names)
}

/// Adds up counters.
pub(crate) fn add(sum: &mut ServiceStats, more: &ServiceStats) {
    let ServiceStats { connections, packets_in, bytes_in, packets_out, bytes_out } = more;
    sum.connections = sum.connections.saturating_add(*connections);
    sum.packets_in = sum.packets_in.saturating_add(*packets_in);
    sum.bytes_in = sum.bytes_in.saturating_add(*bytes_in);
    sum.packets_out = sum.packets_out.saturating_add(*packets_out);
    sum.bytes_out = sum.bytes_out.saturating_add(*bytes_out);
}

/// Bytes that are padded with zeros, as text.
pub(crate) fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).map(String::from_utf8_lossy).unwrap_or_default().into_owned()
}
