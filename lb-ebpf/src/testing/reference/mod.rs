//! The datapath a second time, as its specification says it and as plainly as possible: one list of Service ports, one
//! map of connections, no keys, words or tables. What the two disagree about is a fault of one of them.
//!
//! ```text
//! bytes ─> story: packets, table changes, time ─┬─> the datapath over `world` ─> verdict, packet, reason ─┐
//!                                               └─> node (Service ports, connections) ───────────────────> judge
//! ```
//!
//! Where the datapath is free (where the round robin begins, which source port is drawn) the judge takes any legal
//! choice and holds the datapath to it from then on.

mod cast;
mod choose;
mod connection;
mod host;
mod judge;
mod node;
mod play;
mod story;

pub use cast::{CLIENTS, PORTS, SERVICES};
pub use connection::{Connection, Shown};
pub use node::{Node, Pooled, ServicePort, State};
pub use play::{Played, play, play_any};
pub use story::{Event, Setting, decode};
