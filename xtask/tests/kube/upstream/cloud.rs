//! What a cloud does for a Service of type LoadBalancer: an address of each family, which leads to a machine. And who asks
//! there from outside.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};
use xtask::lab::Space;

use super::edge::{health, health_port};
use super::jig::{Jig, clients, node, patiently};
use super::svc::{ANSWERED, Place, SILENT, Svc, curl};
use crate::support::cluster;

/// Another client outside of the cluster: a group and a helper of its own.
pub(super) fn another(name: &str) -> Space {
    let outside = cluster().network().outside();
    outside.beside(&outside.cgroup().with_file_name(format!("e2e-{name}"))).unwrap()
}

/// Who asks from outside.
pub(super) fn outside() -> &'static Space {
    static OUTSIDE: OnceLock<Space> = OnceLock::new();
    OUTSIDE.get_or_init(|| another("outside"))
}

/// Makes a Service of type LoadBalancer, `spec` over that, and its addresses.
pub(super) fn service<'j>(jig: &'j Jig, name: &str, mut spec: Value) -> Svc<'j> {
    spec["type"] = "LoadBalancer".into();
    let mut svc = jig.service(name, &spec);
    svc.provision();
    svc
}

impl Svc<'_> {
    /// Gives it addresses that lead to the first machine, and waits until the first three machines serve them.
    pub(super) fn provision(&mut self) {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let ingress =
            [format!("203.0.113.{number}"), format!("fd02::4:{number:x}")].map(|ip| json!({"ip": ip}));
        let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        self.object = cluster().api().merge(&format!("{}/status", self.path()), &status).unwrap();
        self.leads_to(0);
        for index in 0..cluster().nodes().len() {
            patiently(|| {
                let shown = self.shown(index).unwrap_or_default();
                ingress.iter().all(|ip| shown.to_string().contains(&ip["ip"].to_string()))
            })
            .unwrap();
        }
    }

    /// The addresses that [`Svc::provision`] gave.
    fn ingress(&self) -> impl Iterator<Item = IpAddr> {
        self.families().into_iter().map(|family| self.to(Place::Balancer, family).ip())
    }

    /// Leads what is sent to its addresses to the machine `index`.
    pub(super) fn leads_to(&self, index: usize) {
        let (via, mut batch) = (node(index).ips(), String::new());
        for ip in self.ingress() {
            let _ = writeln!(batch, "route replace {ip} via {}", via[usize::from(ip.is_ipv6())]);
        }
        outside().ip(&batch).unwrap();
    }

    /// Waits until exactly the machines `wanted` pass its health check, and leads its addresses to the first of them.
    pub(super) fn leads_to_healthy(&self, wanted: &[usize]) {
        let port = health_port(self);
        let all = || (0..cluster().nodes().len()).filter(|index| health(*index, port) == Some(200));
        patiently(|| all().eq(wanted.iter().copied())).unwrap_or_else(|error| {
            panic!("{error}: {:?} are healthy, not {wanted:?}", all().collect::<Vec<_>>())
        });
        self.leads_to(wanted[0]);
    }
}

/// Waits until each of `clients` gets an answer at the load balancer's addresses, or else silence.
pub(super) fn admitted(svc: &Svc<'_>, admitted: &[&Space], others: &[&Space]) {
    for family in svc.families() {
        let to = svc.to(Place::Balancer, family);
        std::thread::scope(|scope| {
            for (clients, code) in [(admitted, ANSWERED), (others, SILENT)] {
                for client in clients {
                    scope.spawn(move || {
                        patiently(|| curl(client, to) == code)
                            .unwrap_or_else(|error| panic!("{to} from {}, {code}: {error}", client.netns()));
                    });
                }
            }
        });
    }
}

/// Three who ask: a pod of the first machine, a pod of the second, and who is outside.
pub(super) fn three() -> [&'static Space; 3] {
    [clients(0)[0], clients(1)[0], outside()]
}
