//! Who takes part in a story: the pods, the node and the Services of both families.

use core::net::SocketAddr;
use std::vec::Vec;

use lb_common::{Config, PortRange, Proto};

use super::node::{Pooled, ServicePort, State};
use crate::testing::fixtures::Scene;
use crate::testing::packet::Checksum;

/// Numbers of the pods that send. The last three are endpoints too: they can reach themselves (B74).
pub const CLIENTS: [u8; 5] = [7, 8, 101, 102, 103];

/// Ports that pods send from: two ordinary ones, one of the range that masquerading draws from, one that endpoints
/// listen at.
pub const PORTS: [u16; 4] = [40_000, 40_001, 1024, 8080];

/// Service ports of one family and protocol.
pub const SERVICES: usize = 3;

/// Source ports for masquerading: so few that they run out.
const MASQUERADE: PortRange = PortRange { first: 1024, last: 1029 };

/// The scene of one family and protocol.
#[must_use]
pub(super) const fn scene(v6: bool, proto: Proto) -> Scene {
    Scene { v6, proto, checksum: Checksum::Complete }
}

/// Settings of the node.
#[must_use]
pub(super) fn config() -> Config {
    let none = PortRange { first: 1, last: 0 };
    Config { snat_ports: [MASQUERADE, none], ..scene(false, Proto::Tcp).config() }
}

/// The ports that [`config`] has for masquerading.
pub(super) fn masquerade() -> impl Iterator<Item = u16> {
    MASQUERADE.first..=MASQUERADE.last
}

/// The address that connections are masqueraded to.
#[must_use]
pub(super) const fn node(v6: bool, port: u16) -> SocketAddr {
    scene(v6, Proto::Tcp).node(port)
}

/// All Service ports, in the order of their ids, which count from 1.
///
/// The first has two frontends. It shares its address with the third, its endpoints with the second (B48). Of the
/// third's endpoints one is the node (B35), one a frontend of the second.
#[must_use]
pub(super) fn services() -> Vec<ServicePort> {
    let mut services = Vec::new();
    for v6 in [false, true] {
        for proto in [Proto::Tcp, Proto::Udp] {
            let scene = scene(v6, proto);
            let pods = [scene.endpoint(1), scene.endpoint(2), scene.endpoint(3)];
            let others = [scene.endpoint(2), scene.node(8080), scene.vip(11, 80)];
            services.extend([
                port(proto, &[scene.web(), scene.vip(12, 8000)], pods),
                port(proto, &[scene.vip(11, 80)], pods),
                port(proto, &[scene.vip(10, 81)], others),
            ]);
        }
    }
    services
}

/// A Service port with these endpoints, the last of them absent; all but the second are on this node.
fn port(proto: Proto, frontends: &[SocketAddr], endpoints: [SocketAddr; 3]) -> ServicePort {
    let states = [(State::Ready, true), (State::Ready, false), (State::Absent, true)];
    let pool = endpoints.into_iter().zip(states).map(|(addr, (state, here))| Pooled {
        addr,
        state,
        here,
        generation: 1,
    });
    ServicePort::new(proto, frontends.to_vec(), pool.collect())
}
