//! Session affinity by client address (B62 to B66).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::lab::helper::wire::Socket;
use xtask::lab::manifest::{Endpoint, list, service, slice};
use xtask::lab::{Pod, Space, wait_for};

use crate::support::{Case, Mode, SOON, Svc, TARGET, WAYS, Way, World, worlds};

/// Asks that have to have one answer, as upstream's test has it.
const ASKS: usize = 15;

/// Writes the Service with these EndpointSlices and `sessionAffinity: ClientIP`, or without, and waits until that is
/// programmed.
fn write(service_: &Svc<'_>, timeout: Option<u32>, slices: &[Value]) {
    let mut object = service(&service_.name, &service_.addresses, &service_.ports);
    if let Some(seconds) = timeout {
        object["spec"]["sessionAffinity"] = json!("ClientIP");
        object["spec"]["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
    }
    let items: Vec<_> = [object].into_iter().chain(slices.iter().cloned()).collect();
    service_.world.node.write(&service_.file(), &list(&items)).unwrap();
    let name = format!("default/{}", service_.name);
    wait_for(SOON, || {
        let shown = service_.world.node.sluice_json(&["service", "show", &name]).unwrap();
        shown.as_array().unwrap().iter().all(|port| port["session_affinity_seconds"] == json!(timeout))
    })
    .unwrap_or_else(|error| panic!("{name} {error}: {timeout:?}\n{}", service_.world.log()));
}

/// Switches session affinity with these ready endpoints.
fn set(service: &Svc<'_>, timeout: Option<u32>, backends: &[&Pod]) {
    write(service, timeout, &service.slices(backends));
    service.wait(backends);
}

/// Who answers so many connections one after the other.
fn answers(service: &Svc<'_>, case: &Case<'_>, client: &Space, count: usize) -> BTreeSet<String> {
    (0..count).map(|_| case.answered(service.ask(client, case.2)).0).collect()
}

/// The only one who answers.
fn the_one(service: &Svc<'_>, case: &Case<'_>, client: &Space, count: usize) -> String {
    let all = answers(service, case, client, count);
    assert_eq!(all.len(), 1, "{case}: {all:?}");
    all.into_iter().next().unwrap()
}

/// Both clients in all ways, in a fixed order.
fn cases(world: &World) -> Vec<(Case<'_>, &Space)> {
    let each = |(name, client, _)| WAYS.map(|way| (Case(world, name, way), client));
    world.clients().into_iter().flat_map(each).collect()
}

/// Who answers each of [`cases`].
fn of_each(service: &Svc<'_>, count: usize) -> Vec<String> {
    let cases = cases(service.world);
    cases.iter().map(|(case, client)| the_one(service, case, client, count)).collect()
}

#[test]
fn b62_b63_session_affinity_is_switched_at_run_time() {
    for world in worlds() {
        let pods = [&world.a, &world.b, &world.c];
        let service = world.service("affinity-switch", &pods);
        for timeout in [None, Some(10_800), None] {
            set(&service, timeout, &pods);
            for (case, client) in cases(world) {
                let all = answers(&service, &case, client, if timeout.is_some() { ASKS } else { 4 });
                assert_eq!(all.len() == 1, timeout.is_some(), "{case}, {timeout:?}: {all:?}");
            }
        }
    }
}

/// A pod's socket that is bound is translated when it connects, any other one per packet: one memory for both.
#[test]
fn b62_packets_and_sockets_of_one_client_share_its_endpoint() {
    for world in worlds() {
        let pods = [&world.a, &world.b, &world.c];
        let service = world.service("affinity-paths", &pods);
        set(&service, Some(10_800), &pods);
        for family in [0, 1] {
            let case = Case(world, "pod", Way { socket: Socket::Tcp, family });
            let client: &Space = &world.client;
            let expected = the_one(&service, &case, client, 2);
            let from = SocketAddr::new(world.client.ips()[family], 0);
            for (from, by_packet) in [(Some(from), world.mode == Mode::Host), (None, true)] {
                let to = service.at(case.2);
                let socket = client.open_from(Socket::Tcp, from, Some(to)).unwrap();
                assert_eq!(socket.peer(), Some(to), "{case}, {from:?}");
                assert_eq!(case.answered(socket.ask()).0, expected, "{case}, {from:?}");
                let (address, port) = (world.client.ips()[family].to_string(), socket.local().port());
                let flows = world.node.sluice_json(&["flow", "list", "--client", &address]).unwrap();
                let mine = flows.as_array().unwrap().iter().any(|flow| {
                    flow["client_port"] == json!(port) && flow["address"] == json!(to.ip().to_string())
                });
                assert_eq!(mine, by_packet, "{case}, {from:?}: {flows:#}");
            }
            let shown =
                world.node.sluice_json(&["affinity", "show", &world.client.ips()[family].to_string()]);
            let shown = shown.unwrap();
            let mine = |row: &&Value| row["service"] == json!(service.name) && row["proto"] == "TCP";
            let rows: Vec<_> = shown.as_array().unwrap().iter().filter(mine).collect();
            assert_eq!(rows.len(), 1, "{case}: {shown:#}");
        }
    }
}

/// With affinity TCP of pods goes by the packet path, and its flows stay for a while after they have ended: they do not
/// take for their own what comes back to a connection that goes past them, at its socket or to the pod itself.
#[test]
fn b48_b62_a_port_of_an_ended_flow_is_used_again_past_the_packet_path() {
    for world in worlds() {
        let (sticky, plain) = (world.service("port-sticky", &[&world.a]), world.service("port", &[&world.a]));
        set(&sticky, Some(10_800), &[&world.a]);
        let client: &Space = &world.client;
        // Neither ephemeral nor of those that translated flows take as sources.
        let mut ports = 31_001..;
        for way in WAYS.into_iter().filter(|way| way.socket == Socket::Tcp) {
            let case = Case(world, "pod", way);
            let any = if way.family == 0 { "0.0.0.0" } else { "::" };
            for to in [plain.at(way), SocketAddr::new(world.a.ips()[way.family], TARGET)] {
                let port = ports.next().unwrap();
                let from = Some(SocketAddr::new(any.parse().unwrap(), port));
                let ask = |to| client.open_from(way.socket, from, Some(to)).and_then(|socket| socket.ask());
                case.answered_by("a", ask(sticky.at(way)));
                let address = world.client.ips()[way.family].to_string();
                wait_for(SOON, || {
                    let flows = world.node.sluice_json(&["flow", "list", "--client", &address]).unwrap();
                    let mine = |flow: &&Value| flow["client_port"] == json!(port);
                    flows.as_array().unwrap().iter().find(mine).unwrap()["state"] == "time_wait"
                })
                .unwrap_or_else(|error| panic!("{case}: port {port} {error}"));
                case.answered_by("a", ask(to));
            }
        }
    }
}

#[test]
fn b64_the_timeout_counts_from_the_last_new_connection() {
    let services = worlds().map(|world| {
        let pods = [&world.a, &world.b, &world.c];
        let service = world.service("affinity-timeout", &pods);
        set(&service, Some(4), &pods);
        service
    });
    let all = || services.each_ref().map(|service| of_each(service, 2));
    let first = all();
    for _ in 0..2 {
        sleep(Duration::from_secs(2));
        assert_eq!(all(), first, "within the timeout, each new connection counts");
    }
    sleep(Duration::from_millis(4300));
    for (before, after) in first.iter().flatten().zip(all().iter().flatten()) {
        assert_ne!(before, after, "two clients draw among three in turn");
    }
}

/// The endpoint terminates while another is ready, comes back, and is removed.
#[test]
fn b65_another_endpoint_is_remembered_when_the_old_one_is_not_usable() {
    for world in worlds() {
        let (a, b) = (&world.a, &world.b);
        let service = world.service("affinity-gone", &[a]);
        set(&service, Some(10_800), &[a]);
        assert!(of_each(&service, 1).iter().all(|pod| pod == "a"));
        let terminating = |pod: &Pod, family: usize| Endpoint {
            ready: false,
            serving: true,
            terminating: true,
            ..Endpoint::ready(pod.ips()[family])
        };
        let slices = [0, 1].map(|family| {
            let endpoints = [terminating(a, family), Endpoint::ready(b.ips()[family])];
            slice(&format!("{}-{family}", service.name), &service.name, &service.ports, &endpoints)
        });
        write(&service, Some(10_800), &slices);
        service.wait(&[b]);
        assert!(of_each(&service, 3).iter().all(|pod| pod == "b"));
        set(&service, Some(10_800), &[a, b]);
        assert!(of_each(&service, 3).iter().all(|pod| pod == "b"), "it stays with the new one");
        set(&service, Some(10_800), &[a]);
        assert!(of_each(&service, 3).iter().all(|pod| pod == "a"));
    }
}

/// Datagram sockets that have to choose again (B96) do so by the client, not each for itself.
#[test]
fn b65_b96_sockets_that_choose_again_stay_together() {
    for world in worlds() {
        let pods = [&world.a, &world.b, &world.c];
        let service = world.service("affinity-again", &pods);
        set(&service, Some(10_800), &pods);
        let clients = world.clients();
        let sockets: Vec<_> = clients
            .iter()
            .flat_map(|(name, client, addresses)| [0, 1].map(|family| (*name, *client, addresses, family)))
            .map(|(name, client, addresses, family)| {
                let from = Some(SocketAddr::new(addresses[family], 0));
                let open = || client.open_from(Socket::Udp, from, None).unwrap();
                (Case(world, name, Way { socket: Socket::Udp, family }), [open(), open(), open()])
            })
            .collect();
        let together = || -> Vec<String> {
            let ask = |(case, sockets): &(Case<'_>, [_; 3])| {
                let ask = |socket: &xtask::lab::Conn<'_>| case.answered(socket.ask_to(service.at(case.2))).0;
                let all: BTreeSet<_> = sockets.iter().map(ask).collect();
                assert_eq!(all.len(), 1, "{case}: {all:?}");
                all.into_iter().next().unwrap()
            };
            sockets.iter().map(ask).collect()
        };
        let before = together();
        for gone in ["a", "b", "c"] {
            let left: Vec<&Pod> = pods.into_iter().filter(|pod| pod.name() != gone).collect();
            set(&service, Some(10_800), &left);
            assert!(together().iter().all(|pod| pod != gone), "{gone}");
        }
        assert!(before.iter().all(|pod| pod.len() == 1));
    }
}

#[test]
fn b66_affinity_outlives_the_agent() {
    let world = World::new("affinity", Mode::All, &["--max-services", "256", "--max-backends", "1024"]);
    let pods = [&world.a, &world.b, &world.c];
    let service = world.service("affinity-restart", &pods);
    set(&service, Some(10_800), &pods);
    let before = of_each(&service, 2);
    let remembered = || world.node.sluice_json(&["affinity"]).unwrap().as_array().unwrap().len();
    assert_eq!(remembered(), 8, "two clients, four Service ports");
    world.take_agent().kill().unwrap();
    assert_eq!(of_each(&service, 3), before, "without an agent");
    world.start_agent();
    assert_eq!(of_each(&service, 3), before, "with its successor");
    assert_eq!(remembered(), 8);
}
