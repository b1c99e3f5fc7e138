//! The lab: the built agent under real sockets. Run by `cargo xtask test lab`.
//!
//! Tests are named by the behaviours of kube-proxy that they hold Sluice to (B1 to B122). Those that only need a
//! Service and some pods share one node for each `--socket-lb` mode; those that stop agents have nodes of their own.
#![expect(clippy::unwrap_used, reason = "fixtures outside of test functions fail the test that uses them")]

mod affinity;
mod binds;
mod bulk;
mod doctor;
mod edge;
mod endpoints;
mod events;
mod floods;
mod foreign;
mod harness;
mod health;
mod icmp;
mod installed;
mod interfaces;
mod json;
mod lifecycle;
mod limits;
mod manifests;
mod masquerade;
mod node;
mod packets;
mod peer;
mod refusal;
mod selection;
mod sockets;
mod support;
mod traffic;
mod udp;
