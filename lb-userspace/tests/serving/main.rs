//! The servers of the agent, in this process and on the loopback.
#![expect(clippy::unwrap_used, reason = "a test says no more than that it failed, and where")]

mod health;
mod metrics;
mod nodeports;
mod support;
