//! What the tests share: one run of the lab and one control plane.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use xtask::kube::{Binaries, ControlPlane, binaries};
use xtask::lab::Lab;

static LAB: LazyLock<Arc<Lab>> = LazyLock::new(|| Lab::start(env!("CARGO_BIN_EXE_xtask")).unwrap());

/// The run.
pub(crate) fn lab() -> &'static Arc<Lab> {
    &LAB
}

/// Starts a control plane of the test's own.
pub(crate) fn start(name: &str) -> ControlPlane {
    let addresses =
        [Ipv4Addr::new(172, 18, 0, 10).into(), Ipv6Addr::new(0xfd00, 0x172, 0x18, 0, 0, 0, 0, 0x10).into()];
    ControlPlane::start(lab(), name, &Binaries::get(binaries::CONTROL_PLANE).unwrap(), addresses).unwrap()
}
