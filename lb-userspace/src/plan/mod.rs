//! From the desired state to ordered writes.
//!
//! ```text
//! Snapshot ──> Shadow ──┐
//! (read)      (mirror)  ├──> plan ──> [Op, Op, ..] ──> tables::apply, one by one
//! ServicePort ──────────┘                 │
//!            ▲                            │ each Op that the tables took
//!            └─────── Shadow::apply ◄─────┘
//! ```
//!
//! A [`Shadow`] is what the tables hold, never what they should hold. So an interrupted plan, a failed write, a restart
//! of the agent and tables that somebody else changed are one case: plan again from what is there.
//!
//! The order of a plan is make before break: what a word or an entry names is there before it, and goes after it. The
//! name of a Service port is written first and deleted last, so whatever an interrupted plan leaves belongs to a
//! Service port that the next plan knows.

mod address;
mod adopt;
mod diff;
mod meta;
mod op;
mod pool;
mod publish;
mod room;
mod shadow;
mod snapshot;

pub use address::Own;
pub use diff::plan;
pub use meta::{decode_meta, encode_meta};
pub use op::{FrontendAddr, Op, Scope, SlotEntry};
pub use pool::Pool;
pub use publish::frontends_of;
pub use room::{NoRoom, Table};
pub use shadow::{Shadow, Use};
pub use snapshot::{Capacity, ServiceEntry, Snapshot};
