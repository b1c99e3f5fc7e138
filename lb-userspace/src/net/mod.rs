//! What the agent knows of the node's network: interfaces, addresses, port numbers.

pub mod reserved;
