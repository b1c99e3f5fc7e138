//! Services that are reached from everywhere.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::Pod;
use xtask::lab::helper::wire::Transport;
use xtask::lab::manifest::{self, Port, list, slice};

use super::scene::Scene;
use crate::endpoints::endpoint;
use crate::support::{TARGET, Way};

/// The number of the health check of a Service, at nodes.
pub(super) const HEALTH: u16 = 30_999;

/// Addresses that no machine has, by family; the outside client sends what is for them to the first machine.
const ELSEWHERE: [&str; 2] = ["192.0.2.", "fd02::"];

/// A Service with a ClusterIP, a node port, an external IP and an address of a load balancer, each for TCP and UDP.
#[derive(Clone, Copy)]
pub(super) struct Svc {
    pub(super) name: &'static str,
    /// The last byte of its addresses, and of its node port.
    pub(super) number: u8,
}

/// One of the places where a Service is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Front {
    ClusterIp,
    /// At the machine with this index.
    NodePort(usize),
    ExternalIp,
    LoadBalancer,
}

impl Svc {
    /// Its node port.
    pub(super) fn node_port(self) -> u16 {
        30_000 + u16::from(self.number)
    }

    fn addr(self, front: Front, family: usize) -> IpAddr {
        let text = match front {
            Front::ClusterIp => format!("{}{}", ["10.96.2.", "fd00:10:96::2"][family], self.number),
            Front::ExternalIp => format!("{}{}", ELSEWHERE[family], self.number),
            _ => format!("{}{}", ELSEWHERE[family], self.number + 100),
        };
        text.parse().unwrap()
    }

    /// `front` in the way's family.
    pub(super) fn at(self, scene: &Scene, front: Front, way: Way) -> SocketAddr {
        match front {
            Front::NodePort(index) => {
                SocketAddr::new(scene.network.machines()[index].ips()[way.family], self.node_port())
            }
            _ => SocketAddr::new(self.addr(front, way.family), 80),
        }
    }

    /// Its objects: of type LoadBalancer, with these endpoints (and the index of the machine that each is on), ready,
    /// serving and terminating as given, and `more` in its `spec`.
    pub(super) fn objects(
        self,
        scene: &Scene,
        (endpoints, conditions): (&[(&Pod, usize)], [bool; 3]),
        more: &Value,
    ) -> Value {
        let ports = [Transport::Tcp, Transport::Udp].map(|transport| Port::new(transport, 80, TARGET));
        let addresses = [0, 1].map(|family| self.addr(Front::ClusterIp, family));
        let mut service = manifest::service(self.name, &addresses, &ports);
        let spec = service["spec"].as_object_mut().unwrap();
        spec.insert("type".into(), "LoadBalancer".into());
        spec.insert("externalIPs".into(), json!([0, 1].map(|family| self.addr(Front::ExternalIp, family))));
        for port in spec["ports"].as_array_mut().unwrap() {
            port["nodePort"] = self.node_port().into();
        }
        spec.extend(more.as_object().cloned().unwrap_or_default());
        let ingress = [0, 1].map(|family| json!({"ip": self.addr(Front::LoadBalancer, family)}));
        service["status"] = json!({"loadBalancer": {"ingress": ingress}});
        let slices = [0, 1].map(|family| {
            let all: Vec<_> =
                endpoints.iter().map(|(pod, _)| endpoint(pod.ips()[family], conditions)).collect();
            let mut slice = slice(&format!("{}-{family}", self.name), self.name, &ports, &all);
            for (endpoint, (_, machine)) in
                slice["endpoints"].as_array_mut().unwrap().iter_mut().zip(endpoints)
            {
                endpoint["nodeName"] = scene.network.machines()[*machine].name().into();
            }
            slice
        });
        let [v4, v6] = slices;
        list(&[service, v4, v6])
    }
}
