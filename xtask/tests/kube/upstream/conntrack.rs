//! UDP clients that keep their source port while the pods behind a Service come and go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::Space;
use xtask::lab::helper::wire::{Answer, Failure, Socket};

use super::jig::{Jig, TARGETS, client, clients, patiently, port, spot};
use super::svc::{Place, Svc, refused};

/// A Service with UDP port 80 that the first two machines know.
pub(super) fn udp<'j>(jig: &'j Jig, mut spec: Value) -> Svc<'j> {
    spec["ports"] = json!([port("udp", "UDP", 80, &json!(TARGETS[0]))]);
    let svc = jig.service("svc-udp", &spec);
    for (index, family) in svc.families().into_iter().flat_map(|family| [(0, family), (1, family)]) {
        svc.settled(index, "UDP", 80, family, &[].into());
    }
    svc
}

/// Asks once from the source port `from`, as `nc -u -p` does: by a connected socket of its own.
fn ask(client: &Space, from: u16, to: SocketAddr) -> Result<Answer, Failure> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    client.open_from(Socket::Udp, Some(SocketAddr::new(any, from)), Some(to))?.ask()
}

/// A client with a fixed source port.
struct Client<'s> {
    space: &'s Space,
    from: u16,
    svc: &'s Svc<'s>,
    place: Place,
}

impl Client<'_> {
    /// Asserts that it is refused.
    fn refused(&self) {
        for family in self.svc.families() {
            refused(ask(self.space, self.from, self.svc.to(self.place, family)));
        }
    }

    /// Waits until `wanted` answers, and asserts that until then it is nobody but `before`.
    fn follows(&self, wanted: &str, before: Option<&str>) {
        for family in self.svc.families() {
            let mut last = None;
            patiently(|| {
                let to = self.svc.to(self.place, family);
                last = Some(ask(self.space, self.from, to).map(|answer| answer.pod));
                let by = last.as_ref().and_then(|it| it.as_ref().ok()).map(String::as_str);
                assert!(by.is_none() || by == before || by == Some(wanted), "{by:?}, not {wanted}");
                by == Some(wanted)
            })
            .unwrap_or_else(|error| panic!("{wanted} does not answer: {error}: {last:?}"));
        }
    }
}

/// Of the servers at these two places the first one goes when there is the second one.
pub(super) fn cycle(svc: &Svc<'_>, (space, from): (&Space, u16), place: Place, servers: [&str; 2]) {
    let client = Client { space, from, svc, place };
    client.refused();
    let first = svc.jig.pod("pod-server-1", spot(servers[0]), &svc.name);
    client.follows(servers[0], None);
    svc.jig.pod("pod-server-2", spot(servers[1]), &svc.name);
    first.delete();
    client.follows(servers[1], Some(servers[0]));
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_nodeport_service() {
    let jig = Jig::new("udp-cycle-port");
    let svc = udp(&jig, json!({"type": "NodePort"}));
    cycle(&svc, (clients(0)[0], 12349), Place::NodePort(1), ["2a", "2b"]);
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_clusterip_service() {
    let jig = Jig::new("udp-cycle");
    cycle(&udp(&jig, json!({})), (clients(0)[0], 12345), Place::ClusterIp, ["2a", "2b"]);
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_clusterip_service_and_client_is_hostnetwork()
 {
    let jig = Jig::new("udp-cycle-host");
    cycle(&udp(&jig, json!({})), (clients(0)[1], 12345), Place::ClusterIp, ["2a", "2b"]);
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_clusterip_service_with_internaltrafficpolicy_set_to_local()
 {
    let jig = Jig::new("udp-cycle-local");
    let svc = udp(&jig, json!({"internalTrafficPolicy": "Local"}));
    let client = Client { space: clients(0)[0], from: 12346, svc: &svc, place: Place::ClusterIp };
    client.refused();
    let first = jig.pod("pod-server-1", spot("1a"), &svc.name);
    client.follows("1a", None);
    // An endpoint of another machine is not for this client.
    jig.pod("pod-server-2", spot("2a"), &svc.name);
    jig.pod("pod-server-3", spot("1b"), &svc.name);
    first.delete();
    client.follows("1b", Some("1a"));
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_initial_unready_endpoints_get_ready() {
    let jig = Jig::new("udp-unready");
    let svc = udp(&jig, json!({}));
    let client = Client { space: clients(0)[0], from: 12347, svc: &svc, place: Place::ClusterIp };
    client.refused();
    let pod = jig.unready_pod("pod-server-1", spot("2a"), &svc.name);
    jig.wait_endpoint(&svc.name, &|it| it["conditions"]["ready"] == false);
    jig.barrier(0);
    client.refused();
    pod.ready(true);
    client.follows("2a", None);
}

#[test]
fn should_be_able_to_cleanup_conntrack_entries_when_udp_service_target_port_changes_for_a_nodeport_service() {
    let jig = Jig::new("udp-target");
    let mut svc = udp(&jig, json!({"type": "NodePort"}));
    jig.pod("pod-server-1", spot("2a"), &svc.name);
    let (space, from) = (clients(0)[0], 12348);
    let place = Place::NodePort(1);
    Client { space, from, svc: &svc, place }.follows("2a", None);
    svc.update(&json!({"spec": {"ports": [port("udp", "UDP", 80, &json!(TARGETS[1]))]}}));
    Client { space, from, svc: &svc, place }.follows("2a:2", Some("2a"));
}

#[test]
fn proxy_implementation_should_not_be_vulnerable_to_the_invalid_conntrack_state_bug() {
    let jig = Jig::new("invalid");
    let svc = jig.service("boom-server", &json!({}));
    let server = spot("1a");
    jig.pod("boom-server", server, &svc.name);
    // Machines whose pods' sockets are translated, and one whose packets are.
    for (index, family) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
        svc.up(index, &["1a"]);
        let connection = client(index).open(Socket::Tcp, Some(svc.at(family, 80))).unwrap();
        let seen = connection.ask().unwrap().client;
        let mut script = server.pod.command("python3");
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
        script.arg("-B").arg(format!("{tests}/kube/upstream/stray.py"));
        script.env("PYTHONPATH", format!("{tests}/lab/packets"));
        let ends = [SocketAddr::new(server.pod.ips()[family], TARGETS[0]), seen];
        script.args(ends.iter().flat_map(|end| [end.ip().to_string(), end.port().to_string()]));
        let output = script.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // A client that had seen a segment from the pod's own address would have reset the server's connection.
        connection.ask().unwrap();
    }
}
