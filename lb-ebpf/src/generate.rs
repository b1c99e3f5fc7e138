//! Frames of many flows, made from one.

use lb_common::generator::{FIRST_PORT, Generator, PORTS};

use crate::csum::{add, fold};

/// What the frame of a flow has of its own. All in network order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Own {
    /// The last four bytes of the client's address.
    pub client: [u8; 4],
    /// The client's port.
    pub port: [u8; 2],
    /// The last four bytes of the server's address.
    pub server: [u8; 4],
    /// The checksum of an IPv4 header.
    pub network_check: [u8; 2],
    /// The checksum of the transport header.
    pub transport_check: [u8; 2],
}

/// What the frame of flow number `flow` has of its own.
#[must_use]
#[inline(always)]
pub const fn own(generator: &Generator, flow: u32) -> Own {
    let client = generator.client.wrapping_add(flow / PORTS).to_be_bytes();
    let port = (FIRST_PORT + (flow % PORTS) as u16).to_be_bytes();
    let servers = if generator.servers == 0 { 1 } else { generator.servers };
    let server = generator.server.wrapping_add(flow % servers).to_be_bytes();
    let addresses = add(u32::from_ne_bytes(client), u32::from_ne_bytes(server));
    let network_check = check(add(generator.network_sum, addresses));
    let transport = add(generator.transport_sum, addresses);
    let transport_check = match check(add(transport, u16::from_ne_bytes(port) as u32)) {
        // In UDP that would mean that there is none.
        [0, 0] => [0xff, 0xff],
        check => check,
    };
    Own { client, port, server, network_check, transport_check }
}

#[inline(always)]
const fn check(sum: u32) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}
