//! Streams of many segments: aggregates that the hardware is to cut, checksums that are left to it (B109).

use std::process::Child;

use xtask::lab::Pod;
use xtask::lab::helper::wire::Transport;
use xtask::lab::manifest::Port;

use crate::support::worlds;

/// Where the peer listens: beside the port that other tests use.
const PORT: u16 = 9109;
const MIB: &str = "8";
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/bulk/peer.py");

/// A server that goes with the test.
struct Server(Child);

impl Server {
    fn start(pod: &Pod, family: usize) -> Self {
        let (addr, port) = (pod.ips()[family].to_string(), PORT.to_string());
        let mut command = pod.command("python3");
        Self(command.args([PEER, "serve", &addr, &port]).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn b109_streams_arrive_whole_in_both_directions() {
    for world in worlds() {
        let mut service = world.service("b109", &[]);
        service.ports = vec![Port::new(Transport::Tcp, 80, PORT)];
        service.set(&[&world.b]);
        for family in [0, 1] {
            let _server = Server::start(&world.b, family);
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
