//! Who takes part in a story: the pods, the node and the Services of both families.

use core::net::{IpAddr, SocketAddr};
use std::vec::Vec;

use lb_common::FrontendKind::{ClusterIp, ExternalIp, LoadBalancer, NodePort};
use lb_common::{Addr4, Addr6, Config, FrontendKind, Point, PortRange, Prefix, Proto};

use super::node::{Pooled, ServicePort, State};
use crate::testing::fixtures::Scene;
use crate::testing::packet::Checksum;
use crate::testing::routes::{Net, PODS_AWAY, UPLINK};

/// Numbers of the pods that send. The last three are endpoints too: they can reach themselves (B74).
pub const CLIENTS: [u8; 5] = [7, 8, 101, 102, 103];

/// The node port of the first Service port of each protocol.
pub(super) const NODE_PORT: u16 = 30_080;

/// Ports that clients send from: two ordinary ones, one of the range that masquerading draws from, one that endpoints
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
    let mut first = [0; 16];
    first[..4].copy_from_slice(&[0xfd, 0, 2, 0x44]);
    let mut config = Config {
        snat_ports: [MASQUERADE, none],
        local4: Prefix { addr: Addr4([10, 244, 1, 0]), bits: 29, pad: [0; 3] },
        local6: Prefix { addr: Addr6(first), bits: 125, pad: [0; 3] },
        ..scene(false, Proto::Tcp).config()
    };
    config.service_ranges4[0] = Prefix { addr: Addr4([10, 96, 0, 0]), bits: 24, pad: [0; 3] };
    first[2..4].copy_from_slice(&[0, 0x96]);
    config.service_ranges6[0] = Prefix { addr: Addr6(first), bits: 64, pad: [0; 3] };
    config
}

/// Whether Services have their addresses where this one is.
#[must_use]
pub(super) fn is_allocated(addr: IpAddr) -> bool {
    let first = scene(addr.is_ipv6(), Proto::Tcp).vip(0, 0).ip();
    match (addr, first) {
        (IpAddr::V4(addr), IpAddr::V4(first)) => addr.octets()[..3] == first.octets()[..3],
        (IpAddr::V6(addr), IpAddr::V6(first)) => addr.segments()[..4] == first.segments()[..4],
        _ => false,
    }
}

/// Whether the detector takes a client for a pod: of those on this node it knows the first alone.
#[must_use]
pub(super) fn is_pod(client: IpAddr) -> bool {
    (0..8).any(|host| scene(client.is_ipv6(), Proto::Tcp).pod(host, 0).ip() == client)
}

/// Whether a client is in the ranges of a Service port that has any.
#[must_use]
pub(super) fn is_admitted(client: IpAddr) -> bool {
    ranges(client.is_ipv6()).iter().any(|(admitted, _)| *admitted == client)
}

/// Those ranges: a client outside, and a pod.
#[must_use]
pub(super) fn ranges(v6: bool) -> [(IpAddr, u8); 2] {
    let (scene, bits) = (scene(v6, Proto::Tcp), if v6 { 128 } else { 32 });
    [(scene.outside(8, 0).ip(), bits), (scene.pod(7, 0).ip(), bits)]
}

/// Whether the node's route to an address leads to another node or out of the cluster.
#[must_use]
pub(super) fn leads_out(to: IpAddr) -> bool {
    Net::of(to).is_some_and(|net| net.interface == UPLINK) && to != node(to.is_ipv6(), 0).ip()
}

/// Whether the node has a route to an address that is not its own.
#[must_use]
pub(super) fn is_routed(to: IpAddr) -> bool {
    Net::of(to).is_some_and(|net| net.own.is_none_or(|own| net.host(to.is_ipv6(), own) != to))
}

/// Who sends, and by which point: pods of this node, clients outside, and pods of another node, the last of them an
/// endpoint.
#[must_use]
pub(super) fn senders(scene: &Scene) -> Vec<(Point, IpAddr)> {
    let pods = CLIENTS.map(|host| (Point::PodIngress, scene.pod(host, 0).ip()));
    let away = |host| (Point::OutwardIngress, PODS_AWAY.host(scene.v6, host));
    let outside = |host| (Point::OutwardIngress, scene.outside(host, 0).ip());
    pods.into_iter().chain([outside(7), outside(8), away(7), away(102)]).collect()
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
/// The first has every kind of frontend. It shares its address with the third, its endpoints with the second (B48); one of
/// them is on another node. Of the third's endpoints one is the node (B35), one a frontend of the second.
#[must_use]
pub(super) fn services() -> Vec<ServicePort> {
    let mut services = Vec::new();
    for v6 in [false, true] {
        for proto in [Proto::Tcp, Proto::Udp] {
            let scene = scene(v6, proto);
            let away = SocketAddr::new(PODS_AWAY.host(v6, 102), 8080);
            let pods = [scene.endpoint(1), away, scene.endpoint(3)];
            let others = [scene.endpoint(2), scene.node(8080), scene.vip(11, 80)];
            services.extend([
                port(
                    proto,
                    &[
                        (ClusterIp, scene.web()),
                        (ClusterIp, scene.vip(12, 8000)),
                        (LoadBalancer, scene.external(1, 80)),
                        (NodePort, scene.node(NODE_PORT)),
                    ],
                    pods,
                ),
                port(proto, &[(ClusterIp, scene.vip(11, 80)), (ExternalIp, scene.external(2, 80))], pods),
                port(proto, &[(ClusterIp, scene.vip(10, 81))], others),
            ]);
        }
    }
    services
}

/// A Service port with these endpoints, the last of them absent; all but the second are on this node.
fn port(proto: Proto, frontends: &[(FrontendKind, SocketAddr)], endpoints: [SocketAddr; 3]) -> ServicePort {
    let states = [(State::Ready, true), (State::Ready, false), (State::Absent, true)];
    let pool = endpoints.into_iter().zip(states).map(|(addr, (state, here))| Pooled {
        addr,
        state,
        here,
        generation: 1,
    });
    ServicePort::new(proto, frontends.to_vec(), pool.collect())
}
