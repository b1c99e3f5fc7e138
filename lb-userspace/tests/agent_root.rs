//! The kernel side of the agent against the real kernel. Needs root.

mod agent_root {
    mod maps;
    mod support;
}
