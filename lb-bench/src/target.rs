//! Whom rows of a node send to through rules that somebody else has made: one Service, which has these addresses there, and as
//! many more as there are.

use std::net::Ipv4Addr;

/// The node's address.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The Service's node port, of both protocols.
pub const NODE_PORT: u16 = 30_080;
/// Its ClusterIP, and the port there.
pub const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 15, 1);
/// See there.
pub const PORT: u16 = 80;
/// The first of the others, of TCP, at the same port of one address after the other. Their endpoints are the addresses from
/// [`ENDPOINT`] on.
pub const OTHERS: Ipv4Addr = Ipv4Addr::new(10, 96, 16, 0);
/// How many endpoints each of the others has.
pub const OTHERS_ENDPOINTS: u32 = 10;
/// Its endpoint, of another node. No cluster allocates such an address.
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(241, 0, 0, 1);
/// See there.
pub const ENDPOINT_PORT: u16 = 8080;
