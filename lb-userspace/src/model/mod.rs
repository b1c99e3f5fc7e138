//! The desired state, made from Kubernetes objects: pure data, without clock, client or await.
//!
//! ```text
//! Service ────────> ServiceView ─> claims ──┐
//! EndpointSlice ──> Slice ──────────────┐   │
//! Endpoints ──────> Slice (mirrored) ───┤   ▼
//! Pod ────────────> PodView ─> Slice ───┴> derive ─(select)─> ServicePort
//! Node ───────────> NodeView ─────────────────┘
//! ```
//!
//! [`Index::apply`] reads an object into its view and notes which Services it touches; [`Index::take_changes`] derives
//! those again and hands out the differences. Equal views end the work early: an update that changes nothing that is
//! used changes nothing (B9, B25).

mod claims;
mod complaint;
mod derive;
mod desired;
mod external;
mod flat;
mod health;
mod index;
mod key;
mod node;
pub mod object;
mod parse;
mod pod;
mod range;
mod seen;
mod select;
mod service;
mod slice;
mod store;

pub use complaint::{Complaint, Reason};
pub use desired::{External, Frontend, ServicePort};
pub use health::HealthCheck;
pub use index::{Change, Index, ServiceName};
pub use key::{Family, Kind, ObjectKey, ServicePortKey};
pub use node::NodeView;
pub use object::Object;
pub use range::Range;
pub use seen::Seen;
