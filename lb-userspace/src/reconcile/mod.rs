//! Keeps the tables as the model wants them.
//!
//! [`Reconciler`] is the synchronous core: it owns the tables' mirror and what is desired, plans what has changed, carries
//! it out, and comes back to what failed. It knows no clock: the caller says what time it is. [`run`] drives it: a lone
//! change is programmed at once, a burst at most once in 10 ms; it waits for grace periods beside the update path, and
//! compares the tables with their mirror every minute.
//!
//! Nothing is written before the first full list, [`Change::Replace`] or [`Change::Partial`] (B6).

mod addresses;
mod core;
mod progress;
mod run;
mod trouble;

pub use core::{Outcome, Reconciler};
pub use progress::{Histogram, Objects, Progress};
pub use run::run;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{self, Kind, Seen};
use crate::plan::{Own, Use};
use crate::status::Problem;

/// News from the model: Service ports and what they should be; `None`: nothing. The same form as the model's list of
/// changes. And news of the node's addresses, and of the objects that the next change follows from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Everything there is. What is not named is not desired.
    Replace(Vec<model::Change>),
    /// Everything that could be read, and there is more: what the tables have been serving since before loses neither
    /// itself nor its last endpoint until [`Change::Whole`] (B7).
    Partial(Vec<model::Change>),
    /// Nothing is missing any more: what is not desired goes.
    Whole,
    /// What has changed.
    Update(Vec<model::Change>),
    /// The node's own addresses, all of them.
    Own(Own),
    /// The objects that led to the change which comes next.
    Seen(Seen),
}

/// How things stand.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Whether the first full list has been programmed, but for the problems.
    pub synced: bool,
    /// Service ports that are desired.
    pub service_ports: usize,
    /// Operations that the tables have taken.
    pub operations: u64,
    /// Those of them that concerned UDP Service ports.
    pub datagrams: u64,
    /// Service ports and stray entries that had been changed from outside and were put right.
    pub repairs: u64,
    /// Service ports that could not be programmed, each time that one was tried.
    pub failures: u64,
    /// Attempts to program one that had failed before.
    pub retries: u64,
    /// The changes of IPv4 and of IPv6.
    pub families: [Progress; 2],
    /// Objects that came, changed or went.
    pub seen: Objects,
    /// Those of them that no completed sync has covered.
    pub pending: Objects,
    /// How many objects there are, by kind.
    pub objects: BTreeMap<Kind, u64>,
    /// How much of the tables of records is in use.
    pub used: Vec<Use>,
    /// Addresses of Services that are left to the host because an interface of this node has them.
    pub held: Vec<IpAddr>,
    /// What could not be programmed, and why; each is tried again.
    pub problems: Vec<Problem>,
}
