//! The agent and the deployment against a real control plane. Run by `cargo xtask test kube`.
#![expect(clippy::unwrap_used, reason = "fixtures outside of test functions fail the test that uses them")]

mod plane;
mod support;
mod up;
