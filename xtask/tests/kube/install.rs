//! What `deploy/` installs: the chart and the kustomization, the image and the role.

mod chart;
mod container;
mod daemonset;
mod quarrel;
mod role;
