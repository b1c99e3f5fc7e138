//! `/metrics` and its neighbours, for Prometheus: kube-proxy's names where they have a meaning here, and Sluice's own.
//!
//! ```text
//! reconcile ─> Report ────────────────┐
//! maps ─> counts ─> Reading ─> Traffic ├─> Families ─> text
//! /proc/self, Facts ──────────────────┘
//! ```
//!
//! The maps are read by a thread beside the event loop, and not again before ten times as long has passed as that took:
//! who asks all the time costs a tenth of a CPU.

mod exporter;
mod families;
mod names;
mod process;
mod reading;
mod server;
mod services;

pub use exporter::{Exporter, Facts};
pub use names::{ALL, Metric};
pub use server::Metrics;
