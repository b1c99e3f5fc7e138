//! Which endpoints new connections use: their states, nodes and hints together with the Service's policies.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use xtask::lab::helper::wire::{Answer, Failure, Socket, Transport};
use xtask::lab::manifest::{self, Endpoint, Port, list, slice};
use xtask::lab::{Node, Pod, Space, wait_for};

use crate::endpoints::{DRAINING, READY, UNREADY};
use crate::support::{Case, SOON, Svc, TARGET, WAYS, Way, World, worlds};

/// The name of a node that is not the one under test.
const ELSEWHERE: &str = "elsewhere";

/// A pod as an endpoint.
struct At<'p> {
    pod: &'p Pod,
    conditions: [bool; 3],
    node: &'p str,
    zones: &'p [&'p str],
    nodes: &'p [&'p str],
}

impl<'p> At<'p> {
    const fn new(pod: &'p Pod, conditions: [bool; 3], node: &'p str) -> Self {
        Self { pod, conditions, node, zones: &[], nodes: &[] }
    }

    const fn hints(mut self, zones: &'p [&'p str], nodes: &'p [&'p str]) -> Self {
        (self.zones, self.nodes) = (zones, nodes);
        self
    }

    fn endpoint(&self, family: usize) -> Endpoint {
        let [ready, serving, terminating] = self.conditions;
        Endpoint { addr: self.pod.ips()[family], ready, serving, terminating }
    }
}

/// Writes the Service with `spec` on top of its own, and these endpoints.
fn write(service: &Svc<'_>, spec: &Value, endpoints: &[At<'_>]) {
    let names = |all: &[&str]| all.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let mut object = manifest::service(&service.name, &service.addresses, &service.ports);
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    let slices = [0, 1].map(|family| {
        let name = format!("{}-{family}", service.name);
        let plain: Vec<_> = endpoints.iter().map(|at| at.endpoint(family)).collect();
        let mut slice = slice(&name, &service.name, &service.ports, &plain);
        for (number, at) in endpoints.iter().enumerate() {
            let endpoint = &mut slice["endpoints"][number];
            endpoint["nodeName"] = at.node.into();
            endpoint["hints"] = json!({"forZones": names(at.zones), "forNodes": names(at.nodes)});
        }
        slice
    });
    let items = [&[object][..], &slices].concat();
    service.world.node.write(&service.file(), &list(&items)).unwrap();
}

fn local() -> Value {
    json!({"internalTrafficPolicy": "Local"})
}

/// Waits until `backends` answer new connections, and asserts that it is they alone, from everywhere.
fn used(service: &Svc<'_>, backends: &[&Pod]) {
    let expected: BTreeSet<_> = backends.iter().map(|pod| pod.name().to_owned()).collect();
    let asks = 2 * backends.len();
    let seen = |way| {
        let answers = (0..asks).map(|_| service.ask(&service.world.client, way).map(|answer| answer.pod));
        answers.collect::<Result<BTreeSet<_>, _>>().ok()
    };
    for way in WAYS {
        wait_for(SOON, || seen(way).as_ref() == Some(&expected)).unwrap_or_else(|error| {
            panic!(
                "{} {way:?} {error}: {:?}, not {expected:?}\n{}",
                service.name,
                seen(way),
                service.world.log()
            );
        });
    }
    service.world.everywhere(|case, client, way| {
        let answers = (0..asks).map(|_| case.answered(service.ask(client, way)).0);
        assert_eq!(answers.collect::<BTreeSet<_>>(), expected, "{}: {case}", service.name);
    });
}

#[test]
fn b53_b57_b58_a_local_policy_uses_this_node_only() {
    for world in worlds() {
        let service = world.service("b53", &[]);
        let here = world.node.name();
        let endpoints = || {
            [
                At::new(&world.a, READY, here),
                At::new(&world.b, READY, here),
                At::new(&world.remote, READY, ELSEWHERE),
            ]
        };
        write(&service, &local(), &endpoints());
        used(&service, &[&world.a, &world.b]);
        // What is for traffic from outside leaves the ClusterIP alone.
        let outside = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
        write(&service, &outside, &endpoints());
        used(&service, &[&world.a, &world.b, &world.remote]);
        write(&service, &local(), &endpoints());
        used(&service, &[&world.a, &world.b]);
    }
}

#[test]
fn b50_b51_each_set_falls_back_by_itself() {
    for world in worlds() {
        let service = world.service("b51", &[]);
        let endpoints = |[a, b, remote]: [[bool; 3]; 3]| {
            let here = world.node.name();
            [
                At::new(&world.a, a, here),
                At::new(&world.b, b, here),
                At::new(&world.remote, remote, ELSEWHERE),
            ]
        };
        // A ready one elsewhere does not keep the local set from its terminating one.
        write(&service, &local(), &endpoints([DRAINING, UNREADY, READY]));
        used(&service, &[&world.a]);
        write(&service, &json!({}), &endpoints([DRAINING, UNREADY, READY]));
        used(&service, &[&world.remote]);
        write(&service, &local(), &endpoints([DRAINING, READY, READY]));
        used(&service, &[&world.b]);
        write(&service, &json!({}), &endpoints([DRAINING, UNREADY, DRAINING]));
        used(&service, &[&world.a, &world.remote]);
    }
}

/// Asserts that nobody answers and nobody refuses. What the host sends leaves the node, and a router behind it may say
/// that it knows no such network.
fn silent(case: &Case<'_>, result: Result<Answer, Failure>) {
    let Case(_, name, _) = case;
    match result {
        Err(failure) if *name == "host" && failure.kind == "NetworkUnreachable" => {}
        Err(failure) if failure.is_silence() => {}
        Err(failure) => panic!("{case}: not silent: {failure}"),
        Ok(answer) => panic!("{case}: {} answered", answer.pod),
    }
}

/// What is dropped takes a client's patience: pods and the host wait at once, each for TCP in one family, pods for UDP in
/// the other.
fn none_local(world: &World, service: &Svc<'_>, family: usize) {
    let way = |socket, family| Way { socket, family };
    let (tcp, udp) = (way(Socket::Tcp, family), way(Socket::Udp, 1 - family));
    let [pod, host] = [&*world.client, world.node.host()];
    let check = |name, client: &Space, way| silent(&Case(world, name, way), service.ask(client, way));
    thread::scope(|scope| {
        scope.spawn(|| check("pod", pod, tcp));
        scope.spawn(|| check("other pod", &world.c, udp));
        scope.spawn(|| check("host", host, tcp));
    });
    for family in [0, 1] {
        let way = way(Socket::Udp, family);
        Case(world, "host", way).refused(service.ask(host, way));
    }
}

/// Waits until `count` endpoints are usable, wherever they are.
fn anywhere(service: &Svc<'_>, count: u64) {
    let name = format!("default/{}", service.name);
    wait_for(SOON, || {
        let shown = service.world.node.sluice_json(&["service", "show", &name]).unwrap_or_default();
        let ports = shown.as_array().map_or(&[][..], Vec::as_slice);
        !ports.is_empty() && ports.iter().all(|port| port["endpoints"]["cluster"] == count)
    })
    .unwrap();
}

#[test]
fn b52_b69_none_local_is_silence_none_at_all_a_refusal() {
    thread::scope(|scope| {
        for (family, world) in worlds().into_iter().enumerate() {
            scope.spawn(move || {
                let service = world.service("b69", &[]);
                let endpoints = |a, remote| {
                    [At::new(&world.a, a, world.node.name()), At::new(&world.remote, remote, ELSEWHERE)]
                };
                write(&service, &local(), &endpoints(READY, READY));
                used(&service, &[&world.a]);
                // A terminating one elsewhere is one, too.
                write(&service, &local(), &endpoints(UNREADY, DRAINING));
                anywhere(&service, 1);
                none_local(world, &service, family);
                write(&service, &local(), &endpoints(UNREADY, UNREADY));
                anywhere(&service, 0);
                world.everywhere(|case, client, way| case.refused(service.ask(client, way)));
            });
        }
    });
}

#[test]
fn b34_not_ready_addresses_are_published_if_the_service_says_so() {
    for world in worlds() {
        let service = world.service("b34-pods", &[]);
        let pod = |pod: &Pod, ready: &str| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("b34-{}", pod.name()), "namespace": "default", "labels": {"app": "b34"}},
                "spec": {"nodeName": world.node.name()},
                "status": {
                    "phase": "Running",
                    "podIP": pod.ips()[0],
                    "podIPs": pod.ips().map(|ip| json!({"ip": ip})),
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            })
        };
        let write = |publish: bool| {
            let mut object = manifest::service(&service.name, &service.addresses, &service.ports);
            object["spec"]["selector"] = json!({"app": "b34"});
            object["spec"]["publishNotReadyAddresses"] = publish.into();
            let items = [object, pod(&world.a, "True"), pod(&world.b, "False")];
            world.node.write(&service.file(), &list(&items)).unwrap();
        };
        write(false);
        used(&service, &[&world.a]);
        write(true);
        used(&service, &[&world.a, &world.b]);
        write(false);
        used(&service, &[&world.a]);
    }
}

#[test]
fn b59_b60_b61_hints_are_for_this_zone_and_this_node() {
    for world in worlds() {
        let (name, here) = (format!("b59-node-{:?}.json", world.mode), world.node.name());
        let node = |zone: Option<&str>| {
            let mut node = manifest::node(here, &Node::addresses());
            if let Some(zone) = zone {
                node["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": zone});
            }
            world.node.write(&name, &node).unwrap();
        };
        let ports = vec![Port::new(Transport::Tcp, 80, TARGET), Port::new(Transport::Udp, 80, TARGET)];
        let service = Svc { world, name: "b59".to_owned(), addresses: world.new_addresses(), ports };
        let (a, b, remote) = (&world.a, &world.b, &world.remote);
        let zones = || {
            [
                At::new(a, READY, here).hints(&["z1"], &[]),
                At::new(b, READY, here).hints(&["z1", "z2"], &[]),
                At::new(remote, READY, ELSEWHERE).hints(&["z3"], &[]),
            ]
        };
        node(Some("z1"));
        write(&service, &json!({}), &zones());
        used(&service, &[a, b]);
        // The label of the own node changes; a zone that nobody is for, and no zone, mean all.
        node(Some("z2"));
        used(&service, &[b]);
        node(Some("z9"));
        used(&service, &[a, b, remote]);
        node(None);
        used(&service, &[a, b, remote]);
        node(Some("z3"));
        used(&service, &[remote]);
        // Hints for nodes go first, and step back when the node's endpoint does: to the zone, then to all.
        let own = [here];
        let nodes = |conditions| {
            [
                At::new(a, conditions, here).hints(&["z1"], &own),
                At::new(b, READY, here).hints(&["z1"], &[ELSEWHERE]),
                At::new(remote, READY, ELSEWHERE).hints(&["z3"], &[ELSEWHERE]),
            ]
        };
        write(&service, &json!({}), &nodes(READY));
        used(&service, &[a]);
        write(&service, &json!({}), &nodes(UNREADY));
        used(&service, &[remote]);
        write(&service, &json!({}), &[At::new(b, READY, here), At::new(remote, READY, ELSEWHERE)]);
        used(&service, &[b, remote]);
        // A Local policy does not ask for hints.
        write(&service, &local(), &zones());
        used(&service, &[a, b]);
        world.node.remove(&name).unwrap();
    }
}
