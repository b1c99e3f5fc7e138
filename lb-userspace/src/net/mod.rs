//! What the agent knows of the node's network: interfaces, addresses, port numbers, sockets.

pub mod diag;
pub mod node;
pub mod reserved;
pub mod watch;
