//! Datagrams whose backend has gone (B96 to B101): {pod, host} × {connected, unconnected} × {IPv4, IPv6} ×
//! {socket-lb all, host}, from source ports that stay the same.
//!
//! Whoever sends packet by packet, and every unconnected socket, goes on by itself. A connected socket of the host
//! is closed, and what its owner opens instead chooses again.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use xtask::lab::helper::wire::{Failure, Socket, Transport};
use xtask::lab::{Conn, Pod, Space, wait_for};

use crate::endpoints::{DRAINING, READY, UNREADY, slices};
use crate::support::{Case, Mode, SOON, Svc, TARGET, WAYS, Way, World, worlds};

/// A socket with a source port of its own, and how it is used.
struct Client<'a> {
    world: &'a World,
    name: &'static str,
    space: &'a Space,
    way: Way,
    from: SocketAddr,
    connected: bool,
    socket: Option<Conn<'a>>,
}

impl<'a> Client<'a> {
    /// One of each kind in `world`.
    fn all(world: &'a World) -> Vec<Self> {
        static PORT: AtomicU16 = AtomicU16::new(40_000);
        let mut clients = Vec::new();
        for (name, space, addresses) in world.clients() {
            for way in WAYS.into_iter().filter(|way| way.socket == Socket::Udp) {
                for connected in [true, false] {
                    let from = SocketAddr::new(addresses[way.family], PORT.fetch_add(1, Ordering::Relaxed));
                    clients.push(Self { world, name, space, way, from, connected, socket: None });
                }
            }
        }
        clients
    }

    /// Whether it has to open another socket once its backend is gone.
    fn is_closed(&self) -> bool {
        self.connected && self.name == "host"
    }

    /// The pod that answers. Opens the socket if there is none.
    fn ask(&mut self, service: &Svc<'_>) -> Result<String, Failure> {
        let to = service.at(self.way);
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.space.open_from(Socket::Udp, Some(self.from), self.connected.then_some(to))?,
        };
        let answer = if self.connected { socket.ask() } else { socket.ask_to(to) };
        self.socket = Some(socket);
        let answer = answer?;
        assert_eq!(answer.client, self.from, "{self}: the source port stays");
        Ok(answer.pod)
    }

    fn answered_by(&mut self, service: &Svc<'_>, pod: &str) {
        let answer = self.ask(service).unwrap_or_else(|failure| panic!("{self}: {failure}"));
        assert_eq!(answer, pod, "{self}");
    }

    /// Asserts that it comes to `pod` from another backend, by a new socket only if it must.
    fn goes_over_to(&mut self, service: &Svc<'_>, pod: &str) {
        if self.is_closed() {
            let mut last = None;
            // The socket is connected to nobody any more: EDESTADDRREQ.
            wait_for(SOON, || {
                last = Some(self.ask(service));
                matches!(&last, Some(Err(failure)) if failure.text.contains("(os error 89)"))
            })
            .unwrap_or_else(|error| panic!("{self}: not closed {error}, but {last:?}"));
            self.socket = None;
        }
        self.answered_by(service, pod);
    }
}

impl fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, connected: {}", Case(self.world, self.name, self.way), self.connected)
    }
}

/// Opens every kind of client in every world, runs `first` for each, then `change` once, then `then` for each.
fn over(
    name: &str,
    first: &[fn(&World) -> &Pod],
    change: impl Fn(&World, &mut Svc<'_>),
    mut then: impl FnMut(&Svc<'_>, &mut Client<'_>),
) {
    for world in worlds() {
        let backends: Vec<_> = first.iter().map(|pod| pod(world)).collect();
        let mut service = world.service(name, &backends);
        let mut clients = Client::all(world);
        for client in &mut clients {
            match backends.first() {
                Some(pod) => client.answered_by(&service, pod.name()),
                // The kernel tells unconnected sockets nothing of ICMP errors: this one would wait in vain.
                None if !client.connected && client.name == "pod" => {}
                None => assert_eq!(client.ask(&service).unwrap_err().kind, "ConnectionRefused", "{client}"),
            }
        }
        change(world, &mut service);
        for client in &mut clients {
            then(&service, client);
        }
    }
}

/// As long as it takes to notice a socket, should it be closed that must not be.
fn calm() {
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn b96_b101_clients_with_fixed_ports_follow_the_pods() {
    over(
        "b96-rollout",
        &[|world| &world.a],
        |world, service| service.set(&[&world.b]),
        |service, client| client.goes_over_to(service, "b"),
    );
}

#[test]
fn b96_clients_with_fixed_ports_follow_the_target_port() {
    let port = TARGET + 1;
    for world in worlds() {
        world.a.serve(Transport::Udp, port, "a, other port").unwrap();
    }
    over(
        "b96-target",
        &[|world| &world.a],
        |world, service| {
            service.ports[1].target = port;
            service.set(&[&world.a]);
        },
        |service, client| client.goes_over_to(service, "a, other port"),
    );
}

#[test]
fn b96_a_service_that_had_no_endpoint_at_first_is_reached_from_the_same_ports() {
    over(
        "b96-none",
        &[],
        |world, service| {
            service.write(&slices(service, 1, &[(&world.a, UNREADY)]));
            calm();
            service.set(&[&world.a]);
        },
        |service, client| client.answered_by(service, "a"),
    );
}

#[test]
fn b97_datagrams_stay_with_a_draining_pod() {
    over(
        "b97",
        &[|world| &world.a],
        |world, service| {
            service.write(&slices(service, 0, &[(&world.a, DRAINING), (&world.b, READY)]));
            service.wait(&[&world.b]);
            calm();
        },
        |service, client| {
            client.answered_by(service, "a");
            let case = Case(client.world, client.name, client.way);
            case.answered_by("b", service.ask(client.space, client.way));
        },
    );
}

#[test]
fn b98_datagrams_stay_while_no_endpoint_serves() {
    over(
        "b98",
        &[|world| &world.a],
        |_, service| {
            service.set(&[]);
            calm();
        },
        |service, client| client.answered_by(service, "a"),
    );
}

#[test]
fn b98_datagrams_go_over_as_soon_as_an_endpoint_serves_again() {
    over(
        "b98-again",
        &[|world| &world.a],
        |world, service| {
            service.set(&[]);
            calm();
            service.set(&[&world.b]);
        },
        |service, client| client.goes_over_to(service, "b"),
    );
}

#[test]
fn b99_connections_stay_with_a_backend_that_is_gone() {
    for world in worlds() {
        let service = world.service("b99", &[&world.a]);
        let mut connections = Vec::new();
        for (name, client, _) in world.clients() {
            for way in WAYS.into_iter().filter(|way| way.socket == Socket::Tcp) {
                connections
                    .push((Case(world, name, way), client.open(Socket::Tcp, Some(service.at(way))).unwrap()));
            }
        }
        service.set(&[&world.b]);
        calm();
        for (case, connection) in &connections {
            case.answered_by("a", connection.ask());
        }
    }
}

#[test]
fn b96_b101_what_changed_while_no_agent_ran_is_made_good() {
    let world = World::new("udp-late", Mode::All, &[]);
    let service = world.service("late", &[&world.a]);
    let mut clients = Client::all(&world);
    for client in &mut clients {
        client.answered_by(&service, "a");
    }
    world.take_agent().kill().unwrap();
    service.write(&service.slices(&[&world.b]));
    world.start_agent();
    service.wait(&[&world.b]);
    for client in &mut clients {
        client.goes_over_to(&service, "b");
    }
}
