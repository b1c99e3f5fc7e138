//! What the tests share: one run, and the ways to say what a client is to see.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::{Lab, Pod};

/// The port at which backends serve.
pub(crate) const TARGET: u16 = 8000;

/// The run of this test binary. Its reaper removes it when the binary ends.
pub(crate) fn lab() -> &'static Arc<Lab> {
    static LAB: OnceLock<Arc<Lab>> = OnceLock::new();
    LAB.get_or_init(|| Lab::start(env!("CARGO_BIN_EXE_xtask")).unwrap())
}

/// Serves both protocols in `pod` at [`TARGET`], under its name.
pub(crate) fn serve(pod: &Pod) {
    for transport in [Transport::Tcp, Transport::Udp] {
        pod.serve(transport, TARGET, pod.name()).unwrap();
    }
}

/// The address of `pod`'s server in the family of `like`.
pub(crate) fn server_of(pod: &Pod) -> [SocketAddr; 2] {
    pod.ips().map(|ip| SocketAddr::new(ip, TARGET))
}

pub(crate) const SOCKETS: [Socket; 2] = [Socket::Tcp, Socket::Udp];
