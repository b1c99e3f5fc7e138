//! Nobody there: refused at once, and what is established lives on.

use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::manifest::Port;

use crate::support::{TARGET, worlds};

#[test]
fn b67_b68_a_service_without_endpoints_refuses_at_once() {
    for world in worlds() {
        let service = world.service("b67", &[]);
        world.everywhere(|case, client, way| case.refused(service.ask(client, way)));
    }
}

#[test]
fn b73_an_unserved_port_of_a_cluster_ip_refuses_at_once() {
    for world in worlds() {
        let service = world.service("b73", &[&world.a]);
        world.everywhere(|case, client, way| {
            let to = (service.addresses[way.family], 81).into();
            case.refused(client.ask(way.socket, to));
        });
    }
}

#[test]
fn b70_b71_established_tcp_outlives_its_backends_removal() {
    for world in worlds() {
        let service = world.service("b71", &[&world.a]);
        world.everywhere(|case, client, way| {
            if way.socket != Socket::Tcp {
                return;
            }
            let connection = client.open(way.socket, Some(service.at(way))).unwrap();
            case.answered_by("a", connection.ask());
            service.set(&[&world.b]);
            case.answered_by("a", connection.ask());
            case.answered_by("b", service.ask(client, way));
            service.set(&[]);
            case.answered_by("a", connection.ask());
            case.refused(service.ask(client, way));
            service.set(&[&world.a]);
        });
    }
}

#[test]
fn b72_established_tcp_outlives_its_services_deletion() {
    for world in worlds() {
        for (name, client, _) in world.clients() {
            let service = world.service(&format!("b72-{name}"), &[&world.a]);
            let to = service.addresses.map(|addr| (addr, 80).into());
            let connections = to.map(|to| client.open(Socket::Tcp, Some(to)).unwrap());
            service.delete();
            for (connection, to) in connections.iter().zip(to) {
                let case = format!("{:?} {name} {to}", world.mode);
                assert_eq!(connection.ask().unwrap().pod, "a", "{case}");
                assert!(client.ask(Socket::Tcp, to).is_err(), "{case}: still answered");
            }
        }
    }
}

#[test]
fn b12_ports_change_in_place() {
    for world in worlds() {
        let mut service = world.service("b12", &[&world.a]);
        let port = |transport, number| Port::new(transport, number, TARGET);
        service.ports = vec![port(Transport::Tcp, 80)];
        service.set(&[&world.a]);
        world.everywhere(|case, client, way| match way.socket {
            Socket::Udp => case.refused(service.ask(client, way)),
            _ => case.answered_by("a", service.ask(client, way)),
        });
        service.ports = vec![port(Transport::Tcp, 8080), port(Transport::Udp, 80)];
        service.set(&[&world.a]);
        world.everywhere(|case, client, way| match way.socket {
            Socket::Udp => case.answered_by("a", service.ask(client, way)),
            _ => {
                case.refused(service.ask(client, way));
                let moved = (service.addresses[way.family], 8080).into();
                case.answered_by("a", client.ask(way.socket, moved));
            }
        });
    }
}

#[test]
fn b13_a_recreated_service_works_and_its_old_address_does_not() {
    for world in worlds() {
        let mut service = world.service("b13", &[&world.a]);
        service.delete();
        service.set(&[&world.b]);
        world.everywhere(|case, client, way| case.answered_by("b", service.ask(client, way)));
        service.delete();
        let old = std::mem::replace(&mut service.addresses, world.new_addresses());
        service.set(&[&world.b]);
        world.everywhere(|case, client, way| {
            case.answered_by("b", service.ask(client, way));
            // A datagram to nobody gives no error to wait for, only a time-out.
            if way.socket == Socket::Tcp {
                let gone = client.ask(way.socket, (old[way.family], 80).into());
                assert!(gone.is_err(), "{case}: the old address still answers");
            }
        });
    }
}
