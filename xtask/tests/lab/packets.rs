//! Packets that sockets do not send every day: fragments, VLAN tags, SCTP. Each by a script in the pods.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use xtask::lab::helper::wire::Transport;
use xtask::lab::manifest::{Endpoint, Port, list, service, slice};
use xtask::lab::{Node, Owned, Pod, Space, wait_for};

use crate::support::{SOON, Svc, TARGET, World, worlds};

/// Where the servers of these tests listen: beside the ports that other tests use.
const PORT: u16 = 9146;

fn script(space: &Space, name: &str) -> Command {
    let mut command = space.command("python3");
    // No compiled files beside the scripts.
    command.arg("-B").arg(format!("{}/tests/lab/packets/{name}", env!("CARGO_MANIFEST_DIR")));
    command
}

/// Runs `name` with these arguments in `space`, and fails with what it says.
pub(crate) fn run(space: &Space, name: &str, args: &[&str]) {
    let output = script(space, name).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?} in {}: {error}", space.netns());
}

fn server(pod: &Pod, name: &str, family: usize) -> Owned {
    server_at(pod, name, (pod.ips()[family], PORT))
}

/// Starts `name` as a server at this address of `pod`.
pub(crate) fn server_at(pod: &Pod, name: &str, (addr, port): (IpAddr, u16)) -> Owned {
    let (addr, port) = (addr.to_string(), port.to_string());
    Owned::ready(script(pod, name).args(["serve", &addr, &port])).unwrap()
}

/// Makes ports of TCP those of SCTP in the object of a Service, and in its EndpointSlices.
pub(crate) fn as_sctp(items: &mut [Value]) {
    for item in items {
        for path in ["/spec/ports/0/protocol", "/ports/0/protocol"] {
            if let Some(protocol) = item.pointer_mut(path) {
                *protocol = Value::from("SCTP");
            }
        }
    }
}

fn with_port(mut service: Svc<'_>, transport: Transport, target: u16) -> Svc<'_> {
    service.ports = vec![Port::new(transport, 80, target)];
    service
}

#[test]
fn b47_b106_long_datagrams_come_and_go_in_fragments() {
    for world in worlds() {
        let service = with_port(world.service("b106", &[]), Transport::Udp, PORT);
        for backend in [&world.b, &world.remote] {
            service.set(&[backend]);
            for family in [0, 1] {
                let _server = server(backend, "datagrams.py", family);
                let addr = service.addresses[family].to_string();
                let clients = [&world.client, backend];
                let hairpin = backend.name() != world.remote.name();
                for client in &clients[..1 + usize::from(hairpin)] {
                    run(client, "datagrams.py", &["ask", &addr, "80", "2000", "60000", "1", "60000"]);
                }
            }
        }
    }
}

#[test]
fn tagged_frames_are_answered_behind_their_tags() {
    for world in worlds() {
        let refused = world.service("tagged-refused", &[]);
        let returned = world.service("tagged-returned", &[&world.b]);
        for family in [0, 1] {
            let text = |addr: IpAddr| addr.to_string();
            let [client, backend] = [&world.client, &world.b].map(|pod| text(pod.ips()[family]));
            run(&world.client, "tagged.py", &["refused", &client, &text(refused.addresses[family])]);
            let node = text(Node::addresses()[family]);
            let (service, port) = (text(returned.addresses[family]), TARGET.to_string());
            run(&world.b, "tagged.py", &["returned", &backend, &service, &node, &port]);
        }
    }
}

/// Port 80 of SCTP at these addresses, with this backend.
fn sctp(world: &World, name: &str, addresses: &[IpAddr], backend: Option<&Pod>) {
    let ports = [Port::new(Transport::Tcp, 80, PORT)];
    let mut items = vec![service(name, addresses, &ports)];
    items.extend([0, 1].map(|family| {
        let endpoints: Vec<_> = backend.iter().map(|pod| Endpoint::ready(pod.ips()[family])).collect();
        slice(&format!("{name}-{family}"), name, &ports, &endpoints)
    }));
    as_sctp(&mut items);
    world.node.write(&format!("{name}.json"), &list(&items)).unwrap();
    let shown = || world.node.sluice_json(&["service", "show", &format!("default/{name}")]).ok();
    wait_for(SOON, || {
        shown().is_some_and(|ports| {
            let backends = |port: &Value| port["backends"].as_array().map_or(0, Vec::len);
            let ports = ports.as_array().map_or(&[][..], Vec::as_slice);
            ports.len() == 2
                && ports
                    .iter()
                    .all(|port| port["proto"] == "SCTP" && backends(port) == backend.iter().count())
        })
    })
    .unwrap();
}

#[test]
fn b46_sctp_reaches_its_backend_and_nothing_loads_the_kernels() {
    for world in worlds() {
        for backend in [&world.b, &world.remote] {
            let (name, addresses) = (format!("b46-{}", backend.name()), world.new_addresses());
            sctp(world, &name, &addresses, Some(backend));
            for (family, addr) in addresses.iter().enumerate() {
                let _server = server(backend, "sctp.py", family);
                run(&world.client, "sctp.py", &["ask", &addr.to_string(), "80"]);
            }
            let flows =
                world.node.sluice_json(&["flow", "list", "--proto", "sctp", "--service", &name]).unwrap();
            let established = |flow: &Value| flow["proto"] == "SCTP" && flow["state"] == "established";
            let flows = flows.as_array().unwrap();
            assert!(flows.len() == 2 && flows.iter().all(established), "{flows:#?}");
            world.node.remove(&format!("{name}.json")).unwrap();
        }
        let addresses = world.new_addresses();
        sctp(world, "b46-nobody", &addresses, None);
        for addr in addresses {
            run(&world.client, "sctp.py", &["refused", &addr.to_string(), "80"]);
        }
        world.node.remove("b46-nobody.json").unwrap();
    }
    assert!(!Path::new("/sys/module/sctp").exists(), "the kernel's SCTP was loaded");
}
