//! The way past the host stack: whether rules forbid what `--redirect-peer` asks for.

use crate::bpf::pin::PinDir;
use crate::net::netfilter::{self, Chain};
use crate::status::StatusFile;

use super::{Finding, Level};

const CHECK: &str = "redirect-peer";

pub(super) fn look(pins: &PinDir) -> anyhow::Result<Vec<Finding>> {
    let asked = StatusFile::of(pins.root())?.read()?.and_then(|status| status.redirect_peer);
    let Some(interfaces) = asked else { return Ok(Vec::new()) };
    Ok(judge(&interfaces, &netfilter::deciding()?))
}

/// `interfaces`: those from which packets go past the host stack.
fn judge(interfaces: &[String], chains: &[Chain]) -> Vec<Finding> {
    if chains.is_empty() && interfaces.is_empty() {
        let found = "no interface lets packets for pods go past the host stack";
        let finding = Finding::new(Level::Warning, CHECK, found);
        return vec![finding.remedy("see the problems that sluice status names")];
    }
    if chains.is_empty() {
        let found = format!("from {} interfaces packets for pods go past the host stack", interfaces.len());
        return vec![Finding::new(Level::Ok, CHECK, found)];
    }
    let refused = |chain: &Chain| {
        Finding::new(Level::Error, CHECK, format!("{chain}, and forwarded packets would go past it"))
            .follows("the agent refuses --redirect-peer: all packets go through the host stack, no faster than without it")
            .remedy("remove its rules, if nobody needs them, or the flag; Sluice follows by itself")
    };
    chains.iter().map(refused).collect()
}
