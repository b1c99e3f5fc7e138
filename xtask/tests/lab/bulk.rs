//! Streams of many segments: aggregates that the hardware is to cut, checksums that are left to it (B109).

use xtask::lab::helper::wire::Transport;
use xtask::lab::manifest::Port;
use xtask::lab::{Owned, Pod};

use crate::support::worlds;

/// Where the peer listens: beside the port that other tests use.
const PORT: u16 = 9109;
const MIB: &str = "8";
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/bulk/peer.py");

fn server(pod: &Pod, family: usize) -> Owned {
    let (addr, port) = (pod.ips()[family].to_string(), PORT.to_string());
    Owned::start(pod.command("python3").args([PEER, "serve", &addr, &port])).unwrap()
}

#[test]
fn b109_streams_arrive_whole_in_both_directions() {
    for world in worlds() {
        let mut service = world.service("b109", &[]);
        service.ports = vec![Port::new(Transport::Tcp, 80, PORT)];
        service.set(&[&world.b]);
        for family in [0, 1] {
            let _server = server(&world.b, family);
            let addr = service.addresses[family].to_string();
            for (name, client) in [("pod", &world.client), ("the backend itself", &world.b)] {
                let output =
                    client.command("python3").args([PEER, "ask", &addr, "80", MIB]).output().unwrap();
                let error = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{:?}, from {name} to {addr}: {error}", world.mode);
            }
        }
    }
}
