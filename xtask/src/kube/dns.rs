//! CoreDNS with its kubernetes plugin, as `examples/tutorial` installs it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Api;
use crate::sh;

/// The addresses of the Service, IPv4 first.
pub const ADDRESSES: [&str; 2] = ["10.96.0.10", "fd00:10:96::a"];

/// How many pods it has.
pub const REPLICAS: usize = 2;

/// The manifest.
#[must_use]
pub fn manifest() -> PathBuf {
    sh::root().join("examples/tutorial/cluster/coredns.yaml")
}

/// Applies the manifest. Its pods are those of the image `coredns/coredns`.
///
/// # Errors
/// A file that cannot be read, and what the API server says.
pub fn install(api: &Api) -> Result<()> {
    let path = manifest();
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let objects = serde_saphyr::from_multiple::<Value>(&text).with_context(|| path.display().to_string())?;
    objects.iter().try_for_each(|object| api.apply(object).map(drop))
}
