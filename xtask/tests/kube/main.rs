//! The agent and the deployment against a real control plane. Run by `cargo xtask test kube`.
#![expect(clippy::unwrap_used, reason = "fixtures outside of test functions fail the test that uses them")]

mod bench;
mod credentials;
mod differential;
mod dns;
mod endpoints;
mod events;
mod faults;
mod health;
mod incumbent;
mod install;
mod names;
mod nodes;
mod own;
mod plane;
mod reach;
mod readme;
mod services;
mod support;
mod tables;
mod transitions;
mod tutorial;
mod up;
mod upstream;
