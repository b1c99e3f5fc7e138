//! The programs at the uplinks.

use lb_common::{Addr4, Point};

use super::{Accesses, Cpu};
use crate::env::Tables;
use crate::pkt::Pkt as _;
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
    /// Those of tc for packets without a link-layer header.
    Bare,
}

impl Uplinks {
    /// All.
    pub const ALL: [Self; 3] = [Self::Tc, Self::Xdp, Self::Bare];
}

/// What XDP did with a packet.
#[derive(Clone, Copy, Debug)]
pub struct Early {
    /// What it said.
    pub verdict: Verdict,
    /// What it took.
    pub accesses: Accesses,
    /// How often it asked for a route.
    pub asked: u64,
    /// Whether the CPU knew the uplink.
    pub told: bool,
}

impl Cpu<'_> {
    /// Lets one packet through the datapath.
    ///
    /// # Panics
    /// If XDP has done more to a packet that goes up than to decide about its flow.
    pub fn run(&self, point: Point, packet: &mut Bytes) -> Verdict {
        if self.world.uplinks == Uplinks::Xdp && point == Point::OutwardIngress && packet.is_frame() {
            let (before, left, asked) = (packet.clone(), self.world.left(), self.world.asked());
            let now = Tables::<Addr4>::now(self);
            let told = Tables::<Addr4>::with_cpu(self, |cpu| cpu.knows(packet.ifindex(), now));
            let verdict = stage::early(packet, self);
            self.early.set(Some(Early {
                verdict,
                accesses: self.accesses.take(),
                asked: self.world.asked() - asked,
                told: told.unwrap_or_default(),
            }));
            if verdict != Verdict::Pass {
                // What leaves by the route may do so by the interface that it came by.
                let routed = verdict == Verdict::Redirect && self.sent.get().is_some();
                return if routed { Verdict::Route } else { verdict };
            }
            assert!(*packet == before, "changed, and goes up: {packet:?}");
            assert_eq!(self.world.left(), left, "counted or recorded, and goes up: {packet:?}");
        }
        let outward = matches!(point, Point::OutwardIngress | Point::OutwardEgress);
        if self.world.uplinks == Uplinks::Bare && outward {
            return self.run_bare(point, packet);
        }
        stage::classify(packet, self, point)
    }

    /// The same as if the link had no header, for all that is behind it.
    fn run_bare(&self, point: Point, packet: &mut Bytes) -> Verdict {
        // A link without addresses brings nothing for others.
        let comes = point == Point::OutwardEgress || packet.is_for_us();
        let Some((mut header, kind)) = comes.then(|| packet.strip()).flatten() else {
            return stage::classify(packet, self, point);
        };
        let verdict = stage::classify_bare(packet, self, kind, point);
        if matches!(verdict, Verdict::Redirect | Verdict::Route) {
            assert!(packet.take_plain(), "no Ethernet header to be sent on with: {packet:?}");
        }
        // As the programs for Ethernet leave it.
        match verdict {
            Verdict::Redirect => header[..12].rotate_left(6),
            Verdict::Route => drop(header.drain(12..header.len() - 2)),
            Verdict::Pass | Verdict::Drop => {}
        }
        packet.restore(&header);
        verdict
    }
}
