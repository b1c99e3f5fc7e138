//! What `deploy/` installs: the chart and the kustomization, the image and the role.

pub(crate) mod chart;
pub(crate) mod container;
pub(crate) mod daemonset;
mod role;
mod taken;
