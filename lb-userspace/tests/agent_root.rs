//! The kernel side of the agent against the real kernel. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod agent_root {
    mod daemon;
    mod datapath;
    mod maps;
    mod node;
    mod support;
    mod xdp;
}
