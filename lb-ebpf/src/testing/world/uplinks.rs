//! The programs at the uplinks.

use lb_common::Point;

use super::{Accesses, Cpu};
use crate::stage;
use crate::testing::bytes::Bytes;
use crate::verdict::Verdict;

/// The programs at the uplinks of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uplinks {
    /// Those of tc alone.
    Tc,
    /// XDP before them.
    Xdp,
}

impl Uplinks {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tc, Self::Xdp];
}

/// What XDP did with a packet.
#[derive(Clone, Copy, Debug)]
pub struct Early {
    /// What it said.
    pub verdict: Verdict,
    /// What it took.
    pub accesses: Accesses,
}

impl Cpu<'_> {
    /// Lets one packet through the datapath.
    ///
    /// # Panics
    /// If XDP has done more to a packet that goes up than to decide about its flow.
    pub fn run(&self, point: Point, packet: &mut Bytes) -> Verdict {
        if self.world.uplinks == Uplinks::Xdp && point == Point::OutwardIngress && packet.is_frame() {
            let (before, left) = (packet.clone(), self.world.left());
            let verdict = stage::early(packet, self);
            self.early.set(Some(Early { verdict, accesses: self.accesses.take() }));
            if verdict != Verdict::Pass {
                // What leaves by the route may do so by the interface that it came by.
                let routed = verdict == Verdict::Redirect && self.sent.get().is_some();
                return if routed { Verdict::Route } else { verdict };
            }
            assert!(*packet == before, "changed, and goes up: {packet:?}");
            assert_eq!(self.world.left(), left, "counted or recorded, and goes up: {packet:?}");
        }
        stage::classify(packet, self, point)
    }
}
