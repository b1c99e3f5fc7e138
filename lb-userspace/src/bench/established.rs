//! Connections from clients in pods to the Services, made by the programs themselves.

use anyhow::Result;

use super::datapath::{BACKEND_PORT, PORT};
use super::frame::{Flows, Frames, Segment};
use super::node::{BEHIND, Interfaces, Plan};
use crate::bpf::driver::{Driver, TargetNumber};

/// Connections that are begun before the first of them is confirmed.
const BATCH: u32 = 8_192;

/// From clients in pods to so many Services, for the interface with the Ethernet address `mac`.
pub(super) fn of_pods(plan: &Plan, mac: [u8; 6], services: u32, segment: Segment) -> Frames {
    Frames {
        link: [mac, BEHIND],
        client: plan.pods,
        server: plan.services,
        servers: services,
        port: PORT,
        segment,
        reversed: false,
    }
}

/// From the endpoints of so many Services to clients in pods, likewise.
pub(super) fn to_pods(plan: &Plan, mac: [u8; 6], services: u32, segment: Segment) -> Frames {
    Frames {
        server: plan.backends,
        port: BACKEND_PORT,
        reversed: true,
        ..of_pods(plan, mac, services, segment)
    }
}

/// Has the tables hold the connections with these numbers, confirmed, of the pod: by the programs of what it sends and of
/// what it is sent.
///
/// # Errors
/// The kernel refused.
pub(super) fn establish(
    driver: &mut Driver,
    [ingress, egress]: [TargetNumber; 2],
    Interfaces { pod, pod_mac: mac, .. }: Interfaces,
    plan: &Plan,
    services: u32,
    numbers: std::ops::Range<u32>,
) -> Result<()> {
    let [syn, ack] = [Segment::Syn, Segment::Ack].map(|segment| of_pods(plan, mac, services, segment));
    let answer = to_pods(plan, mac, services, Segment::SynAck);
    for first in numbers.clone().step_by(BATCH as usize) {
        let flows = Flows::in_turn(first, BATCH.min(numbers.end - first));
        for (frames, TargetNumber { kind, number }) in [(&syn, ingress), (&answer, egress), (&ack, ingress)] {
            driver.drive(kind, &mut frames.generator(flows, number)?, pod, flows.count)?;
        }
    }
    Ok(())
}
