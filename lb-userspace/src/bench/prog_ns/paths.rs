//! What is driven.

use anyhow::Result;
use lb_bench::Goal;
use lb_common::generator::FlowPick;
use lb_common::{Point, Reason, UPLINK_XDP};

use super::{ALL_MASQUERADED, ANY_BASE, NEW, NEW_MASQUERADED, Path, Size, Stage, XDP_BASE, sizes};
use crate::bench::datapath::PORT;
use crate::bench::frame::{Flows, Frames, Segment};
use crate::bench::node::Interfaces;
use crate::bpf::driver::{Kind, TargetNumber};

impl Stage {
    /// The paths of `size`. The empty programs come first: twice that of tc, then that of XDP, then that of tc for any flow.
    pub(super) fn paths(&self, size: Size) -> Result<Vec<Path>> {
        let Interfaces { uplink, pod, .. } = self.interfaces;
        let [syn, ack] = [Segment::Syn, Segment::Ack].map(|segment| self.of_pods(size, segment));
        let one = Flows::in_turn(0, 1);
        let any = Flows { first: 0, count: size.flows, pick: FlowPick::Random };
        let fresh = Flows::in_turn(self.fresh, u32::MAX - self.fresh);
        let path = |name, title: &str, frames: &Frames, flows, (program, interface), reason| {
            let TargetNumber { kind, number } = self.target(program)?;
            Ok::<_, anyhow::Error>(Path {
                name,
                title: title.to_owned(),
                generator: frames.generator(flows, number)?,
                interface,
                runs: self.extent.runs,
                kind,
                reason: Some(reason),
                empty: false,
                base: if kind == Kind::Tc { 0 } else { XDP_BASE },
                goal: None,
            })
        };
        let empty = |title: &str, kind, flows| {
            let ingress = (Point::PodIngress.program(), if kind == Kind::Tc { pod } else { uplink });
            let generator = ack.generator(flows, 0)?;
            let path = path("empty", title, &ack, flows, ingress, Reason::NotIp)?;
            Ok::<_, anyhow::Error>(Path { kind, generator, reason: None, empty: true, ..path })
        };
        let goal = |must, aim, path| Path { goal: Some(Goal::at_most(must, Some(aim))), ..path };
        // What differs from run to run is in the caches only where there is little of it.
        let hot = |path: Path| Path { goal: path.goal.filter(|_| size.services == 1), ..path };
        let new = |runs, path: Path| Path { runs: path.runs.min(runs), ..path };
        let from_pod = (Point::PodIngress.program(), pod);
        let to_pod = (Point::PodEgress.program(), pod);
        let (tc, xdp) = ((Point::OutwardIngress.program(), uplink), (UPLINK_XDP, uplink));
        let stranger = Frames { server: self.plan.stranger(), servers: 1, ..ack };
        let outside = Frames { client: self.plan.outside, ..stranger };
        let unserved = Frames { port: PORT + 1, ..syn };
        let node_port = self.to_node_port(Segment::Ack);
        let (answer, answered) = self.to_node(Segment::Ack);
        let begun = self.of_outsiders(Segment::Syn);
        let rounds = self.extent.rounds.saturating_mul(sizes(&self.extent).len() as u32);
        let masqueraded = NEW_MASQUERADED.min(ALL_MASQUERADED / rounds.max(1)).max(1);
        let (forward, reverse) = (Reason::FlowForward, Reason::FlowReverse);
        let mut paths = vec![
            empty("tc: an empty program, and its driver", Kind::Tc, one)?,
            empty("", Kind::Tc, one)?,
            Path { name: "xdp_empty", ..empty("XDP: an empty program, and its driver", Kind::Xdp, one)? },
            Path {
                name: "empty_any",
                ..empty("tc: an empty program, and its driver, any flow", Kind::Tc, any)?
            },
            goal(50.0, 25.0, path("not_ours", "tc: not ours", &stranger, one, from_pod, Reason::NotService)?),
            goal(60.0, 35.0, path("established", "tc: established", &ack, one, from_pod, forward)?),
            path("snat", "tc: established, masqueraded", &node_port, one, tc, forward)?,
            path("reply", "tc: reply", &self.to_pods(size, Segment::Ack), one, to_pod, reverse)?,
            path("reject", "tc: refused", &unserved, one, from_pod, Reason::PortNotServed)?,
            hot(goal(
                700.0,
                450.0,
                new(NEW, path("new", "tc: new flow", &syn, fresh, from_pod, Reason::FlowOpened)?),
            )),
            // What XDP leaves to tc it does not count.
            Path {
                reason: None,
                ..goal(
                    50.0,
                    25.0,
                    path("xdp_not_ours", "XDP: not ours", &outside, one, xdp, Reason::NotService)?,
                )
            },
            goal(
                90.0,
                60.0,
                path("xdp_snat", "XDP: established, masqueraded", &node_port, one, xdp, forward)?,
            ),
            path("xdp_reply", "XDP: reply, masquerading undone", &answer, answered, xdp, reverse)?,
            new(
                masqueraded,
                path("xdp_new", "XDP: new flow, masqueraded", &begun, fresh, xdp, Reason::FlowOpened)?,
            ),
        ];
        if size.flows > 1 {
            let path = path("established_any", "tc: established, any flow", &ack, any, from_pod, forward)?;
            paths.push(Path { base: ANY_BASE, ..path });
        }
        Ok(paths)
    }
}
