//! Nobody there: refused at once, and what is established lives on.

use xtask::lab::helper::wire::{Socket, Transport};
use xtask::lab::manifest::Port;

use crate::support::{TARGET, everywhere, worlds};

#[test]
fn b67_b68_a_service_without_endpoints_refuses_at_once() {
    let services = worlds().map(|world| world.service("b67", &[]));
    everywhere(|world, case, client, way| {
        let service = services
            .iter()
            .find(|service| std::ptr::eq(service.world, world))
            .unwrap();
        case.refused(service.ask(client, way));
    });
}

#[test]
fn b73_an_unserved_port_of_a_cluster_ip_refuses_at_once() {
    let services = worlds().map(|world| world.service("b73", &[&world.a]));
    everywhere(|world, case, client, way| {
        let service = services
            .iter()
            .find(|service| std::ptr::eq(service.world, world))
            .unwrap();
        let mut to = service.at(way);
        to.set_port(81);
        case.refused(client.ask(way.socket, to));
    });
}

#[test]
fn b70_b71_established_tcp_outlives_its_backends_removal() {
    for world in worlds() {
        let service = world.service("b71", &[&world.a]);
        everywhere(|of, case, client, way| {
            if !std::ptr::eq(of, world) || way.socket != Socket::Tcp {
                return;
            }
            let connection = client.open(way.socket, Some(service.at(way))).unwrap();
            assert_eq!(case.answered(connection.ask()).0, "a", "{case}");
            service.set(&[&world.b]);
            assert_eq!(
                case.answered(connection.ask()).0,
                "a",
                "{case}: the old connection"
            );
            assert_eq!(
                case.answered(service.ask(client, way)).0,
                "b",
                "{case}: a new connection"
            );
            service.set(&[]);
            assert_eq!(
                case.answered(connection.ask()).0,
                "a",
                "{case}: the old connection"
            );
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
                assert_eq!(connection.ask().unwrap().pod, "a", "{:?} {name} {to}", world.mode);
                assert!(
                    client.ask(Socket::Tcp, to).is_err(),
                    "{:?} {name} {to}: still answered",
                    world.mode
                );
            }
        }
    }
}

#[test]
fn b12_ports_change_in_place() {
    for world in worlds() {
        let mut service = world.service("b12", &[&world.a]);
        let tcp = Port::new(Transport::Tcp, 80, TARGET);
        service.ports = vec![tcp];
        service.set(&[&world.a]);
        everywhere(|of, case, client, way| {
            if std::ptr::eq(of, world) {
                match way.socket {
                    Socket::Udp => case.refused(service.ask(client, way)),
                    _ => assert_eq!(case.answered(service.ask(client, way)).0, "a"),
                }
            }
        });
        service.ports = vec![
            Port::new(Transport::Tcp, 8080, TARGET),
            Port::new(Transport::Udp, 80, TARGET),
        ];
        service.set(&[&world.a]);
        everywhere(|of, case, client, way| {
            if std::ptr::eq(of, world) {
                match way.socket {
                    Socket::Udp => assert_eq!(case.answered(service.ask(client, way)).0, "a"),
                    _ => {
                        case.refused(service.ask(client, way));
                        let moved = (service.addresses[way.family], 8080).into();
                        assert_eq!(case.answered(client.ask(way.socket, moved)).0, "a");
                    }
                }
            }
        });
    }
}

#[test]
fn b13_a_recreated_service_works_and_its_old_address_does_not() {
    for world in worlds() {
        let mut service = world.service("b13", &[&world.a]);
        let old = service.addresses;
        service.delete();
        service.set(&[&world.b]);
        everywhere(|of, case, client, way| {
            if std::ptr::eq(of, world) {
                assert_eq!(
                    case.answered(service.ask(client, way)).0,
                    "b",
                    "{case}: same address"
                );
            }
        });
        service.delete();
        service.addresses = world.service("b13-donor", &[]).addresses;
        wait_gone(world, "b13-donor");
        service.set(&[&world.b]);
        everywhere(|of, case, client, way| {
            if std::ptr::eq(of, world) {
                assert_eq!(
                    case.answered(service.ask(client, way)).0,
                    "b",
                    "{case}: new address"
                );
                assert!(
                    client.ask(way.socket, (old[way.family], 80).into()).is_err(),
                    "{case}: old address"
                );
            }
        });
    }
}

fn wait_gone(world: &crate::support::World, name: &str) {
    let gone = || world.node.sluice_json(&["service", "show", name]).is_err();
    xtask::lab::wait_for(crate::support::SOON, gone).unwrap();
}
