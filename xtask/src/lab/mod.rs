//! The lab: nodes, pods and clients as network namespaces and control groups of this machine, driven from outside.
//!
//! ```text
//! Lab ─┬─ Node: a Machine by itself, its manifests, a router Space behind its uplink, pods of other nodes behind that
//!      ├─ Network: a Switch with any number of Machines, an outside client, a place for a control plane
//!      │   └─ Machine ── Space (namespace + control group + helper) ── uplink up0
//!      │       ├─ Agent: `sluice agent` in that namespace and group, its log in a file
//!      │       └─ Pod ── Space, behind a veth of the machine, in a group below the machine's
//!      └─ reaper: a process that takes everything away once this one is gone, however it ends
//! ```
//! Names carry the process id, so any number of labs run at once. Nothing here links the agent: the built binary is
//! started (`target/release/sluice`, or the one that `SLUICE_BIN` names).

mod agent;
mod cgroup;
mod conn;
pub mod helper;
pub mod http;
mod machine;
pub mod manifest;
mod netns;
mod network;
mod node;
mod owned;
mod pod;
mod run;
mod space;
mod switch;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use agent::Agent;
pub use conn::Conn;
pub use machine::{Machine, binary};
pub use network::Network;
pub use node::Node;
pub use owned::Owned;
pub use pod::Pod;
pub use run::Lab;
pub use space::Space;
pub use switch::{Switch, wire};

/// Asks `done` every few milliseconds until it says yes.
///
/// # Errors
/// When it did not within `limit`.
pub fn wait_for(limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > limit {
            bail!("not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Nanoseconds of the monotonic clock, which all processes of a machine share.
#[must_use]
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
