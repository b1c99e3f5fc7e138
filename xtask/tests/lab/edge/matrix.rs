//! The flow matrix: who is answered by which endpoints, and whom they see.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::helper::wire::Socket;
use xtask::lab::wait_for;
use xtask::matrix::Matrix;

use super::layout::Layout;
use super::scene::{Client, Scene, Setting};
use super::service::{Front, HEALTH, Svc};
use super::{errors, refusals};
use crate::support::{Mode, SOON, WAYS, Way, long};

/// Which endpoints a Service uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Policy {
    Cluster,
    /// `externalTrafficPolicy: Local`.
    External,
    /// `internalTrafficPolicy: Local`.
    Internal,
}

impl Policy {
    const ALL: [Self; 3] = [Self::Cluster, Self::External, Self::Internal];

    fn service(self) -> Svc {
        match self {
            Self::Cluster => Svc { name: "cluster", number: 11 },
            Self::External => Svc { name: "external", number: 12 },
            Self::Internal => Svc { name: "internal", number: 13 },
        }
    }

    /// What it has in its `spec`.
    pub(super) fn spec(self) -> Value {
        match self {
            Self::Cluster => json!({}),
            Self::External => json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": HEALTH}),
            Self::Internal => json!({"internalTrafficPolicy": "Local"}),
        }
    }
}

/// Whether `client` at `front` is held to endpoints of the machine that chooses; and the index of that machine.
pub(super) fn chosen(scene: &Scene, client: &Client<'_>, front: Front, policy: Policy) -> (bool, usize) {
    // By the client's own node, but for node ports of others, and for who has no node.
    let at = match (front, client.machine) {
        (Front::NodePort(machine), _) => machine,
        (_, machine) => machine.unwrap_or(0),
    };
    let short = if client.pod { scene.setting.detector } else { client.machine == Some(at) };
    let local = match front {
        Front::ClusterIp => policy == Policy::Internal,
        _ => policy == Policy::External && !short,
    };
    (local, at)
}

/// Who answers `client` at `front`, and the addresses under which each may see it.
pub(super) fn expected(
    scene: &Scene,
    client: &Client<'_>,
    front: Front,
    way: Way,
    policy: Policy,
) -> BTreeMap<&'static str, Vec<IpAddr>> {
    let Setting { mode, layout, .. } = scene.setting;
    let (local, at) = chosen(scene, client, front, policy);
    let machine = &scene.network.machines()[at];
    let own = scene.own(client, way.family);
    let mut all = BTreeMap::new();
    for (index, pod) in [(0, "here"), (1, "there")] {
        let is_here = index == at;
        if local && !is_here {
            continue;
        }
        let itself = client.space.netns() == scene.here.netns() && index == 0;
        let seen = if itself {
            // A hairpin is masqueraded, wherever it is made, but for one that its own socket makes.
            let by_socket = mode == Mode::All && way.socket == Socket::Tcp && is_here;
            let mut seen = vec![machine.ips()[way.family]];
            seen.extend(own.iter().filter(|_| by_socket));
            seen
        } else if client.machine != Some(at) && !is_here {
            vec![layout.towards_pods(machine)[way.family]]
        } else {
            own.clone()
        };
        all.insert(pod, seen);
    }
    all
}

/// Asks in all ways, and notes what of that was not as expected.
fn row(scene: &Scene, matrix: &mut Matrix, client: &Client<'_>, front: Front, policy: Policy) {
    let (mut text, mut instead) = (String::new(), Vec::new());
    for way in WAYS {
        let expected = expected(scene, client, front, way, policy);
        let own = scene.own(client, way.family);
        let told = expected.iter().map(|(pod, seen)| match seen.iter().any(|addr| own.contains(addr)) {
            true if seen.len() > own.len() => format!("{pod}(*)"),
            true => (*pod).to_owned(),
            false => format!("{pod}*"),
        });
        let told = told.collect::<Vec<_>>().join(" ");
        text = if text.is_empty() { told } else { text };
        instead.extend(scene.answered(client, (policy.service(), front, way), &expected).err());
    }
    let to = match front {
        Front::NodePort(at) if client.machine.is_some_and(|own| own != at) => {
            "NodePort of the other node".to_owned()
        }
        Front::NodePort(1) => "NodePort of the other node".to_owned(),
        Front::NodePort(_) => "NodePort".to_owned(),
        front => format!("{front:?}"),
    };
    let column = format!("{policy:?}{}", if scene.setting.detector { "" } else { ", no detector" });
    matrix.cell(&format!("{} to {to}", client.name), &column, &text, (WAYS.len(), instead));
}

const FRONTS: [Front; 5] =
    [Front::ClusterIp, Front::NodePort(0), Front::NodePort(1), Front::ExternalIp, Front::LoadBalancer];

/// Holds every cell of both matrices in this setting.
fn held(setting: Setting) {
    let scene = Scene::laid("edge", setting);
    let both = [(&scene.here, 0), (&scene.there, 1)];
    for policy in Policy::ALL {
        scene.serve(policy.service(), &both, &policy.spec());
    }
    let title = "who answers whom, by policy (*: sees the node; (*): so but for its own socket)";
    let mut matrix = Matrix::new(title, &setting.to_string());
    for client in scene.clients() {
        for front in FRONTS {
            for policy in Policy::ALL {
                row(&scene, &mut matrix, &client, front, policy);
            }
        }
    }
    matrix.finish().unwrap_or_else(|failed| panic!("{failed:#}\n{}", scene.log()));
    for addr in scene.first().ips() {
        // B89: what is no Service's port is the host's.
        let at = SocketAddr::new(addr, HEALTH);
        wait_for(SOON, || scene.network.outside().get(at, "/").is_ok_and(|(code, _)| code == 200)).unwrap();
    }
    refusals::held(&scene);
    errors::streams_arrive(&scene);
    assert_eq!(scene.first().xdp_frames().unwrap() > 0, setting.xdp, "{setting}");
}

/// Two settings that differ in everything, which together with those of the other layouts make all pairs; all settings in
/// a long run.
fn all_held(layout: Layout, (mode, detector, xdp): (Mode, bool, bool)) {
    let other = if mode == Mode::All { Mode::Host } else { Mode::All };
    let mut settings = vec![(mode, detector, xdp), (other, !detector, !xdp)];
    if long() {
        settings.extend([(mode, detector, !xdp), (other, !detector, xdp)]);
        for xdp in [false, true] {
            settings.extend([(mode, !detector, xdp), (other, detector, xdp)]);
        }
    }
    for (mode, detector, xdp) in settings {
        held(Setting { mode, layout, detector, xdp });
    }
}

#[test]
fn b36_b40_b41_b42_b54_b55_b56_b67_b69_b80_everybody_reaches_every_frontend() {
    all_held(Layout::Routed, (Mode::All, true, true));
}

#[test]
fn b36_b76_b79_everybody_does_where_pods_are_behind_a_tunnel() {
    all_held(Layout::Vxlan, (Mode::Host, true, true));
}

#[test]
fn b36_b76_b79_everybody_does_where_pods_are_behind_a_tunnel_without_ethernet_headers() {
    all_held(Layout::Bare, (Mode::All, true, true));
}

#[test]
fn b36_b76_b79_everybody_does_where_clients_come_by_a_tunnel_without_ethernet_headers() {
    all_held(Layout::Dialled, (Mode::All, false, true));
}

#[test]
fn b36_b74_b76_everybody_does_where_pods_are_on_a_bridge() {
    all_held(Layout::Bridge, (Mode::All, true, false));
}
