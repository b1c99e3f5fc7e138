//! The matrix of refusals: who is told that there is nothing, and who hears nothing at all.

use std::net::SocketAddr;
use std::thread;

use serde_json::json;
use xtask::lab::Pod;
use xtask::lab::helper::wire::{Answer, Failure, Socket};
use xtask::matrix::Matrix;

use super::matrix::{Policy, chosen};
use super::scene::{Client, Scene};
use super::service::{Front, Svc};
use crate::endpoints::{DRAINING, UNREADY};
use crate::support::{WAYS, Way};

/// What is the matter with a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Matter {
    NoEndpoints,
    NoneServing,
    /// No endpoint is ready, some serve.
    AllDraining,
    /// The only endpoint is on the second machine, and the policy wants one of the own.
    NoneLocal(Policy),
    OutOfRange,
    /// A port that the Service does not have.
    PortNotServed,
    /// An address that no Service has.
    Unallocated,
}

const ALL: [Matter; 8] = [
    Matter::NoEndpoints,
    Matter::NoneServing,
    Matter::AllDraining,
    Matter::NoneLocal(Policy::External),
    Matter::NoneLocal(Policy::Internal),
    Matter::OutOfRange,
    Matter::PortNotServed,
    Matter::Unallocated,
];

/// What comes of asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Answer,
    Refusal,
    Silence,
}

impl Matter {
    fn service(self) -> Svc {
        let index = ALL.iter().position(|matter| *matter == self).unwrap();
        const NAMES: [&str; 8] =
            ["nobody", "unready", "draining", "far-external", "far-internal", "guarded", "narrow", "nowhere"];
        Svc { name: NAMES[index], number: 41 + u8::try_from(index).unwrap() }
    }

    /// Makes its Service, if there is one.
    fn serve(self, scene: &Scene) {
        let svc = self.service();
        let there: [(&Pod, usize); 1] = [(&scene.there, 1)];
        match self {
            Self::NoEndpoints => scene.serve(svc, &[], &json!({})),
            Self::NoneServing => scene.serve_as(svc, (&there, UNREADY, 0), &json!({})),
            Self::AllDraining => scene.serve_as(svc, (&there, DRAINING, 1), &json!({})),
            Self::NoneLocal(policy) => {
                // One health check port is enough for all Services of the scene.
                let mut spec = policy.spec();
                spec.as_object_mut().unwrap().remove("healthCheckNodePort");
                scene.serve(svc, &there, &spec);
            }
            Self::OutOfRange => {
                let ranges = json!({"loadBalancerSourceRanges": ["198.51.100.0/24", "2001:db8:9::/48"]});
                scene.serve(svc, &there, &ranges);
            }
            Self::PortNotServed => scene.serve(svc, &there, &json!({})),
            Self::Unallocated => {}
        }
    }

    /// Where it makes a difference.
    fn fronts(self) -> &'static [Front] {
        match self {
            Self::PortNotServed | Self::Unallocated => &[Front::ClusterIp],
            _ => &[
                Front::ClusterIp,
                Front::NodePort(0),
                Front::NodePort(1),
                Front::ExternalIp,
                Front::LoadBalancer,
            ],
        }
    }

    fn expected(self, scene: &Scene, client: &Client<'_>, front: Front, way: Way) -> Outcome {
        // What a socket of the host knows at once need not wait.
        let of_host = client.machine.is_some() && !client.pod;
        let dropped = if of_host && way.socket == Socket::Udp { Outcome::Refusal } else { Outcome::Silence };
        match self {
            Self::NoEndpoints | Self::NoneServing | Self::PortNotServed => Outcome::Refusal,
            Self::AllDraining => Outcome::Answer,
            Self::NoneLocal(policy) if chosen(scene, client, front, policy) == (true, 0) => {
                if matches!(front, Front::ClusterIp) { dropped } else { Outcome::Silence }
            }
            Self::OutOfRange if front == Front::LoadBalancer => dropped,
            Self::NoneLocal(_) | Self::OutOfRange => Outcome::Answer,
            Self::Unallocated => Outcome::Silence,
        }
    }
}

/// What came of asking; how it failed, if as nobody expects.
fn outcome(result: &Result<Answer, Failure>) -> Result<Outcome, String> {
    match result {
        Ok(_) => Ok(Outcome::Answer),
        Err(failure) if failure.refused_at_once() => Ok(Outcome::Refusal),
        Err(failure) if failure.is_silence() => Ok(Outcome::Silence),
        Err(failure) => Err(failure.to_string()),
    }
}

/// One question.
struct Vector {
    matter: Matter,
    front: Front,
    way: Way,
    expected: Outcome,
}

impl Vector {
    fn at(&self, scene: &Scene) -> (Socket, SocketAddr) {
        let mut at = self.matter.service().at(scene, self.front, self.way);
        if self.matter == Matter::PortNotServed {
            at.set_port(81);
        }
        (self.way.socket, at)
    }
}

/// Asks everything as `client`: what is to be silent all at once.
fn ask(scene: &Scene, client: &Client<'_>) -> Vec<(Vector, Result<Answer, Failure>)> {
    let mut vectors = Vec::new();
    for matter in ALL {
        for front in matter.fronts() {
            for way in WAYS {
                let expected = matter.expected(scene, client, *front, way);
                vectors.push(Vector { matter, front: *front, way, expected });
            }
        }
    }
    let silent: Vec<_> =
        vectors.iter().filter(|it| it.expected == Outcome::Silence).map(|it| it.at(scene)).collect();
    let mut silences = client.space.ask_all(&silent).unwrap().into_iter();
    let ask = |vector: Vector| {
        let result = match vector.expected {
            Outcome::Silence => silences.next().unwrap(),
            _ => {
                let (socket, at) = vector.at(scene);
                client.space.ask(socket, at)
            }
        };
        (vector, result)
    };
    vectors.into_iter().map(ask).collect()
}

/// Holds every cell.
pub(super) fn held(scene: &Scene) {
    for matter in ALL {
        matter.serve(scene);
    }
    let clients = scene.clients();
    let asked: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = clients.iter().map(|client| scope.spawn(|| ask(scene, client))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let mut matrix = Matrix::new("who is refused, and who hears nothing", &scene.setting.to_string());
    for (client, asked) in clients.iter().zip(asked) {
        for cell in asked.chunk_by(|(one, _), (next, _)| (one.matter, one.front) == (next.matter, next.front))
        {
            let mut instead = Vec::new();
            let mut texts: Vec<String> = Vec::new();
            for (Vector { way, expected, .. }, result) in cell {
                if outcome(result).as_ref() != Ok(expected) {
                    instead.push(format!("{way:?}: {result:?}"));
                }
                let text = format!("{expected:?}").to_lowercase();
                if !texts.contains(&text) {
                    texts.push(text);
                }
            }
            let (Vector { matter, front, .. }, _) = &cell[0];
            let detector = if scene.setting.detector { "" } else { ", no detector" };
            let row = format!("{matter:?}, {front:?}{detector}");
            let instead: Vec<_> =
                instead.into_iter().map(|failed| format!("{row}, {}: {failed}", client.name)).collect();
            matrix.cell(&row, client.name, &texts.join("/"), (cell.len(), instead));
        }
    }
    matrix.finish().unwrap_or_else(|failed| panic!("{failed:#}\n{}", scene.log()));
}
