//! Port numbers that the datapath may use as sources, and node ports, kept from the host's own sockets.
//!
//! Only where the two ranges overlap: `net.ipv4.ip_local_reserved_ports` gets what it lacks, and a file beside the
//! status file remembers what that was, so that `sluice cleanup` takes away just that.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lb_common::{Config, PortRange};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::status::StatusFile;

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const LOCAL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The network namespace whose settings these are.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Where API servers allocate node ports unless told otherwise.
const NODE_PORTS: PortRange = PortRange { first: 30_000, last: 32_767 };

/// The ports that the datapath may use as sources, and those that it takes what is sent to.
#[must_use]
pub fn with_node_ports(config: &Config) -> [PortRange; 3] {
    let [low, high] = config.snat_ports;
    [low, NODE_PORTS, high]
}

/// Why ports are not, or still, reserved.
#[derive(Debug, thiserror::Error)]
#[error("{call} {path}: {source}", path = .path.display())]
pub struct ReservedError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReservedError {
    let path = path.to_owned();
    move |source| ReservedError { call, path, source }
}

/// What was reserved, and where.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The namespace, as its link in `/proc` reads.
    namespace: PathBuf,
    /// The ports that were not reserved before.
    added: String,
}

/// Reserves what of `ranges` the kernel could give to a socket that asks for no port.
///
/// # Errors
/// A setting cannot be read or written: such a socket may then take a port that a translated flow uses.
pub fn reserve(pin_dir: &Path, ranges: &[PortRange]) -> Result<(), ReservedError> {
    let reserved = parse(&read(RESERVED)?);
    let added = unreserved(ranges, &reserved)?;
    if added.is_empty() {
        return Ok(());
    }
    let namespace = Path::new(NAMESPACE);
    let file = record_file(pin_dir)?;
    let here = fs::read_link(namespace).map_err(failed("readlink", namespace))?;
    let mut ours = added.clone();
    if let Some(former) = read_record(&file)?.filter(|former| former.namespace == here) {
        ours.extend(parse(&former.added));
    }
    let record = Record { namespace: here, added: format(&ours) };
    // The record first: ports that are reserved and not recorded would stay so.
    let write = || -> io::Result<()> {
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&file, serde_json::to_vec(&record)?)
    };
    write().map_err(failed("write", &file))?;
    let all: BTreeSet<u16> = reserved.union(&added).copied().collect();
    fs::write(RESERVED, format(&all)).map_err(failed("write", Path::new(RESERVED)))?;
    info!("reserved the ports {} ({RESERVED})", format(&added));
    Ok(())
}

/// Those ports of `ranges` that the kernel may give to a socket which asks for none, as a list like `1024-2000,3000`.
///
/// # Errors
/// A setting cannot be read.
pub fn shared(ranges: &[PortRange]) -> Result<String, ReservedError> {
    Ok(format(&unreserved(ranges, &parse(&read(RESERVED)?))?))
}

fn unreserved(ranges: &[PortRange], reserved: &BTreeSet<u16>) -> Result<BTreeSet<u16>, ReservedError> {
    let local = parse(&read(LOCAL_RANGE)?.split_whitespace().collect::<Vec<_>>().join("-"));
    let ours = ranges.iter().flat_map(|range| range.first..=range.last);
    Ok(ours.filter(|port| local.contains(port) && !reserved.contains(port)).collect())
}

/// Takes back what [`reserve`] did for this pin directory; returns whether there was anything.
///
/// A record of another network namespace is only removed: that namespace's settings are not in reach.
///
/// # Errors
/// A setting or the record cannot be read or written.
pub fn release(pin_dir: &Path) -> Result<bool, ReservedError> {
    let file = record_file(pin_dir)?;
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("read", &file)(error)),
    };
    let record: Record =
        serde_json::from_slice(&text).map_err(|error| failed("parse", &file)(error.into()))?;
    let namespace = Path::new(NAMESPACE);
    if fs::read_link(namespace).map_err(failed("readlink", namespace))? == record.namespace {
        let added = parse(&record.added);
        let left: BTreeSet<u16> = parse(&read(RESERVED)?).difference(&added).copied().collect();
        // The kernel takes an empty line for "none".
        fs::write(RESERVED, format!("{}\n", format(&left))).map_err(failed("write", Path::new(RESERVED)))?;
    }
    fs::remove_file(&file).map_err(failed("unlink", &file))?;
    Ok(true)
}

fn record_file(pin_dir: &Path) -> Result<PathBuf, ReservedError> {
    let status = StatusFile::of(pin_dir).map_err(failed("resolve", pin_dir))?;
    Ok(status.path().with_extension("ports"))
}

fn read_record(file: &Path) -> Result<Option<Record>, ReservedError> {
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed("parse", file)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", file)(error)),
    }
}

fn read(path: &str) -> Result<String, ReservedError> {
    fs::read_to_string(path).map_err(failed("read", Path::new(path)))
}

/// Ports of a list like `80,8000-8010`; what cannot be read counts for nothing.
fn parse(list: &str) -> BTreeSet<u16> {
    list.trim()
        .split(',')
        .filter_map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
        })
        .flatten()
        .collect()
}

/// The opposite of [`parse`].
fn format(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    let words: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ports_are_read_and_written() {
        for list in ["", "80", "80,8000-8010,65535", "0-65535"] {
            assert_eq!(format(&parse(list)), list);
        }
        assert_eq!(format(&parse("5-7, 8\n")), "5-8");
        assert_eq!(format(&parse("x,9-8,70000")), "");
    }
}
