//! A real control plane for tests and for developers: etcd, API server and controllers in a namespace of the lab; and a
//! cluster around it, of machines with agents and of pods with objects, but without kubelets.
//!
//! ```text
//! host namespace            namespace `NAME`
//! kubectl, Api ── 127.0.0.1:PORT ── Forward ── kube-apiserver :6443 ── etcd 127.0.0.1:2379
//!                                              kube-controller-manager
//! nodes, agents ───────── ADDRESS:6443 ────────┘
//! ```
//! All of it runs in a control group of the run and goes with it.

use std::time::Duration;

pub mod api;
mod audit;
pub mod binaries;
mod cluster;
mod control_plane;
pub mod dns;
mod forward;
mod go;
pub mod incumbent;
pub mod kubelet;
mod namespace;
pub mod objects;
mod parts;
mod pki;
mod pods;
mod state;
mod up;
mod users;

pub use api::Api;
pub use binaries::{Binaries, Tool};
pub use cluster::{Client, Cluster, Proxy};
pub use control_plane::ControlPlane;
pub use kubelet::Kubelet;
pub use namespace::{Namespace, Service};
pub use parts::Part;
pub use pki::{ADMIN, User};
pub use pods::RunningPod;
pub use up::KubeVerb;

/// How long a part may take to start or to end, on a machine that does other things besides.
const PATIENCE: Duration = Duration::from_secs(120);

/// Major and minor number in what a program says of its version, such as `Kubernetes v1.37.2` or `go1.26.8`.
fn version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut numbers = word.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_as_programs_tell_them() {
        for (text, expected) in [
            ("Kubernetes v1.37.2", (1, 37)),
            ("Client Version: v1.36.0-rc.1\nKustomize Version: v5.8.1", (1, 36)),
            ("etcd Version: 3.7.3\nGit SHA: Not provided\nGo Version: go1.26.8", (3, 7)),
            ("CoreDNS-1.15.0\nlinux/amd64, go1.26.8, ", (1, 15)),
            ("v4.3", (4, 3)),
            ("go version go1.26.8 linux/amd64", (1, 26)),
            ("1.37.2", (1, 37)),
        ] {
            assert_eq!(version(text), Some(expected), "{text}");
        }
        assert_eq!(version("etcd: not found"), None);
    }
}
