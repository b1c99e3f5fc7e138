//! `--refuse-shadowed-binds`.

use serde_json::json;
use xtask::lab::helper::wire::Transport;
use xtask::lab::manifest::{list, service};
use xtask::lab::{Agent, wait_for};

use crate::support::{Mode, SOON, WAYS, World};

const NODE_PORT: u16 = 30_710;

#[test]
fn sockets_of_the_host_are_refused_the_ports_of_services_on_demand() {
    let world = World::new("binds", Mode::All, &["--refuse-shadowed-binds"]);
    let svc = world.service("shadowing", &[&world.a]);
    let mut object = service(&svc.name, &svc.addresses, &svc.ports);
    object["spec"]["type"] = json!("NodePort");
    for port in object["spec"]["ports"].as_array_mut().unwrap() {
        port["nodePort"] = json!(NODE_PORT);
    }
    let [v4, v6] = svc.slices(&[&world.a]);
    world.node.write(&svc.file(), &list(&[object, v4, v6])).unwrap();
    let programmed = || {
        let ports = world.node.sluice_json(&["service", "show", &svc.name]).unwrap();
        ports.as_array().unwrap().iter().all(|port| port["node_port"] == NODE_PORT)
    };
    wait_for(SOON, programmed).unwrap();
    let host = world.node.host();
    for transport in [Transport::Tcp, Transport::Udp] {
        let refused = host.serve(transport, NODE_PORT, "host").unwrap_err().to_string();
        assert!(refused.contains("os error 98"), "{transport:?}: {refused}");
        // Other ports, and the same one in a pod, are nobody else's.
        host.serve(transport, NODE_PORT + 1, "host").unwrap();
        world.b.serve(transport, NODE_PORT, "pod").unwrap();
    }
    let events = world.node.sluice_json(&["event", "list"]).unwrap().to_string();
    assert!(events.contains("sock_bind_refused"), "{events}");
    for way in WAYS {
        svc.ask(host, way).unwrap();
    }

    // Without the flag it is as if it had never been.
    drop(world.take_agent());
    let flags = Mode::All.flags(&[]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    *world.agent.lock().unwrap() = Some(Agent::start(&world.node, &flags).unwrap());
    host.serve(Transport::Tcp, NODE_PORT, "host").unwrap();
    let said = world.node.sluice_json(&["status"]).unwrap()["shadowed"].to_string();
    assert!(said.contains(&format!(":{NODE_PORT}/TCP of default/shadowing")), "{said}");
}
