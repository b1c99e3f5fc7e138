//! Upstream's end-to-end tests, mirrored under their titles; `docs/upstream.md` has the table.

mod affinity;
mod api;
mod balancers;
mod cloud;
mod conntrack;
mod disruptive;
mod distribution;
mod dual_stack;
mod edge;
mod endpoints;
mod jig;
mod policies;
mod rolling;
mod services;
mod slices;
mod svc;
