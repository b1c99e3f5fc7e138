//! What probes and load balancers are told.
//!
//! ```text
//! reconcile ─> Progress ─┐
//!                        ├─> verdict ─> /healthz, /livez        (server)
//! source ──> Node ───────┘        └──> health check node ports  (nodeports)
//!        └─> HealthCheck ─────────────┘
//! ```
//!
//! All of it is served by the event loop that does the work: an agent that hangs does not answer.

mod nodeports;
mod server;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{HealthCheck, ServiceName};

pub use nodeports::follow;
pub use server::Health;
pub use verdict::{Clock, Facts, LATE, Verdict, is_eligible};

/// What the source says of what is asked for here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Whether load balancers should use the node (B91).
    pub eligible: bool,
    /// The health checks of Services (B84).
    pub checks: Arc<BTreeMap<ServiceName, HealthCheck>>,
}

/// Nothing yet. What goes on without an agent does so while one begins: the node is used.
impl Default for Told {
    fn default() -> Self {
        Self { eligible: true, checks: Arc::default() }
    }
}
