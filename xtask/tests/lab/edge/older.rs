//! Connections of the host's own from a port that becomes a node port.

use std::net::SocketAddr;

use serde_json::json;
use xtask::lab::Network;
use xtask::lab::helper::wire::{Socket, Transport};

use super::scene::Scene;
use super::service::Svc;
use crate::support::{Mode, TARGET};

#[test]
fn connections_of_the_host_go_on_beside_a_younger_node_port() {
    let svc = Svc { name: "younger", number: 19 };
    let scene = Scene::new("older", Mode::All, &[]);
    let (first, outside) = (scene.first(), scene.network.outside());
    outside.serve(Transport::Tcp, TARGET, "outside").unwrap();
    // Of each family one: a port of an address is bound once.
    let open = |family: usize, to| {
        let from = SocketAddr::new(first.ips()[family], svc.node_port());
        first.host().open_from(Socket::Tcp, Some(from), Some(SocketAddr::new(to, TARGET))).unwrap()
    };
    let connections =
        [(open(0, Network::outside_ips()[0]), "outside"), (open(1, scene.here.ips()[1]), "here")];
    let go_on = || {
        for (connection, peer) in &connections {
            assert_eq!(connection.ask().unwrap().pod, *peer);
        }
    };
    go_on();
    scene.serve(svc, &[(&scene.there, 1)], &json!({}));
    go_on();
    let at = SocketAddr::new(first.ips()[0], svc.node_port());
    assert_eq!(outside.ask(Socket::Tcp, at).unwrap().pod, "there");
    go_on();
    let counted = first.sluice_json(&["stats"]).unwrap()["reasons"].to_string();
    assert!(counted.contains("host_flow"), "{counted}");
}
