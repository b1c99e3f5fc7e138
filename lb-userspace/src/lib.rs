//! Sluice's user space: the agent and the command line, one library behind the one binary `sluice`.
//!
//! ```text
//! watch ──> model ──> plan ──> tables ──> kernel maps
//! (source)  (pure     (ordered (trait:    (bpf: loaded, attached,
//!            index)    diff)    kernel,    pinned)
//!                        ▲      fake,
//!                        │      faulty)
//!                    reconcile: coalesce, apply, retry, compare, report
//! ```
//!
//! Imports point from right to left only, along `model`, `plan`, `tables`, `reconcile`, `agent`; the others stand
//! beside them. Nothing imports `agent` or `ctl`: the binary joins the two.
//!
//! | module | holds |
//! |---|---|
//! | [`agent`] | the daemon: all of it put together |
//! | [`mod@bench`] | what `sluice bench` measures |
//! | [`bpf`] | the kernel side: programs and maps loaded, attached, pinned; typed access to pinned maps |
//! | `counts` | what the maps count, read as plain values |
//! | [`ctl`] | the command line: its grammar, and the tables as text and JSON |
//! | [`health`] | what probes and load balancers are told |
//! | [`http`] | small servers |
//! | [`metrics`] | what Prometheus is told |
//! | [`model`] | objects in, desired Service ports out |
//! | [`net`] | interfaces and addresses, followed by netlink; reserved ports |
//! | [`plan`] | a mirror of the tables, and ordered writes that turn it into what is desired |
//! | [`reconcile`] | keeps the tables as desired: coalesces, retries, compares, reports |
//! | [`source`] | where objects come from: a folder of manifests |
//! | [`status`] | what the agent tells the command line |
//! | [`tables`] | the writes carried out: in the kernel, in memory, with faults |
//! | [`tasks`] | what goes on for ever, and who is told when it does not |

pub mod agent;
pub mod bench;
pub mod bpf;
pub(crate) mod counts;
pub mod ctl;
pub mod health;
pub mod http;
pub mod metrics;
pub mod model;
pub mod net;
pub mod plan;
pub mod reconcile;
pub mod source;
pub mod status;
pub mod tables;
pub mod tasks;
