//! What the agent knows of the node's network: interfaces and their drivers, addresses, port numbers,
//! sockets.

mod ask;
pub mod diag;
pub mod driver;
pub mod interface;
pub mod netfilter;
pub mod node;
pub mod notices;
pub mod queue;
pub mod reserved;
pub mod route;
pub mod watch;
