//! The node's own addresses: sources of masqueraded hairpins.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use lb_common::{Addr4, Addr6};

/// Addresses for documentation (RFC 5737, RFC 3849): what leads there is the default route.
const ELSEWHERE: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

/// The node's address in each family; zero where it has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeAddresses {
    /// IPv4.
    pub v4: Addr4,
    /// IPv6.
    pub v6: Addr6,
}

impl NodeAddresses {
    /// Those that there are.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [IpAddr::from(self.v4), self.v6.into()].into_iter().filter(|addr| !addr.is_unspecified())
    }

    /// In each family the first of: an address that the Node object names and an interface holds, the source of packets
    /// that take the default route, any address.
    #[must_use]
    pub fn choose(named: &[IpAddr], held: &[IpAddr], routed: &[IpAddr]) -> Self {
        let mut chosen = Self::default();
        let candidates = named.iter().chain(routed).filter(|addr| held.contains(addr)).chain(held);
        // Backwards, so that the first of each family is the one that stays.
        for addr in candidates.collect::<Vec<_>>().into_iter().rev() {
            match addr {
                IpAddr::V4(addr) => chosen.v4 = (*addr).into(),
                IpAddr::V6(addr) => chosen.v6 = (*addr).into(),
            }
        }
        chosen
    }
}

/// The source addresses that the kernel chooses by the default routes; nothing is sent.
#[must_use]
pub fn routed_sources() -> Vec<IpAddr> {
    ELSEWHERE
        .iter()
        .filter_map(|elsewhere| {
            let elsewhere: SocketAddr = elsewhere.parse().ok()?;
            let any = if elsewhere.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).ok()?;
            socket.connect(elsewhere).ok()?;
            Some(socket.local_addr().ok()?.ip())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(list: &str) -> Vec<IpAddr> {
        list.split_whitespace().map(|addr| addr.parse().unwrap()).collect()
    }

    fn choose(named: &str, held: &str, routed: &str) -> (IpAddr, IpAddr) {
        let chosen = NodeAddresses::choose(&addrs(named), &addrs(held), &addrs(routed));
        (chosen.v4.into(), chosen.v6.into())
    }

    fn pair(v4: &str, v6: &str) -> (IpAddr, IpAddr) {
        (v4.parse().unwrap(), v6.parse().unwrap())
    }

    #[test]
    fn the_node_object_comes_before_the_route_and_the_route_before_the_rest() {
        let held = "10.0.0.1 10.0.0.2 10.0.0.3 fd00::1 fd00::2";
        assert_eq!(choose("10.0.0.3", held, "10.0.0.2 fd00::2"), pair("10.0.0.3", "fd00::2"));
        assert_eq!(choose("", held, ""), pair("10.0.0.1", "fd00::1"));
        assert_eq!(choose("10.9.9.9 fd00::2", held, ""), pair("10.0.0.1", "fd00::2"), "held by nobody here");
        assert_eq!(choose("10.0.0.1", "10.0.0.1", "fd00::9"), pair("10.0.0.1", "::"));
    }
}
