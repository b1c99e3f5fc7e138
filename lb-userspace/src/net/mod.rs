//! What the agent knows of the node's network: interfaces, addresses, port numbers.

pub mod node;
pub mod reserved;
pub mod watch;
