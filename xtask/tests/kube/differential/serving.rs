//! How Sluice serves, of which kube-proxy knows nothing.

use std::fmt;

use crate::support::{PACKETS, SOCKETS};

/// By node: whether TCP of its pods is translated at their sockets.
pub(super) type Sockets = [bool; 2];

/// How it serves on both nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serving {
    pub(super) sockets: Sockets,
    /// Whether native XDP serves the uplinks.
    pub(super) xdp: bool,
}

impl Serving {
    /// One node of each kind, and the other way round, both without XDP and with it. What is made for XDP stays: so the
    /// former come first.
    pub(super) const ALL: [Self; 4] = [
        Self { sockets: [true, false], xdp: false },
        Self { sockets: [false, true], xdp: false },
        Self { sockets: [true, false], xdp: true },
        Self { sockets: [false, true], xdp: true },
    ];

    /// The flags of the agent of this node.
    pub(super) fn flags(self, node: usize) -> Vec<&'static str> {
        let sockets = if self.sockets[node] { SOCKETS } else { PACKETS };
        let xdp: &[_] = if self.xdp { &[] } else { &["--xdp", "off"] };
        [sockets, xdp].concat()
    }
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.sockets.map(|sockets| if sockets { "all" } else { "host" });
        write!(f, "socket-lb {a} on a, {b} on b, {}", if self.xdp { "XDP" } else { "no XDP" })
    }
}
