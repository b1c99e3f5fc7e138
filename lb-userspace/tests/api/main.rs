//! Following an API server: what the protocol allows, and what a real server never says.
#![expect(clippy::unwrap_used, reason = "fixtures outside of test functions fail the test that uses them")]

mod fake;
mod faults;
mod lists;
mod proxy;
mod support;
