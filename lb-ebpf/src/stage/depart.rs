//! Packets that leave the node, or go from it to a pod, and are no flow's.

use lb_common::{
    Address, Endpoint, FrontendKey, FrontendKind, Point, Port, Reason, Scratch, address_flags,
    interface_flags,
};

use super::{Renewal, open};
use crate::cut::outcome;
use crate::env::{Env, ServiceRef};
use crate::flow::{self, Made};
use crate::parse;
use crate::select::{self, Asker};

outcome! {
    /// What is known of a packet that may leave.
    Departed {
        /// It is of the host's own, and what answers it is left to the host.
        Host = 0,
        /// It is of the host's own, and what answers it would be taken for a flow's: it needs a pair, from `scratch.key` to
        /// `scratch.to`.
        Beset = 1,
    }
}

/// A packet without a flow at egress: finds out what is to become of it.
#[inline(always)]
pub(super) fn part<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Reason, Reason> {
    let replaces = scratch.renewal != Renewal::None as u8;
    Ok(match env.depart(scratch)? {
        Departed::Host => return Err(Reason::HostFlow),
        Departed::Beset if env.make(scratch)? == Made::Joined => Reason::FlowForward,
        Departed::Beset if replaces => Reason::FlowReopened,
        Departed::Beset => Reason::FlowOpened,
    })
}

/// A packet with ports that leaves the node by an uplink or overlay, or that the host sends to a pod, without a flow or
/// with one that is to be replaced.
///
/// Nothing but the node balances what is addressed to a ClusterIP, and nobody but it keeps those out who may not use a
/// LoadBalancer address. What was meant for them and comes here was left alone by the socket hooks. What begins no
/// connection is left alone here too: it may answer a client whose address is in a range of ClusterIPs (B73). Of a
/// datagram that cannot be told.
///
/// # Errors
/// The reason with which it passes, or is dropped.
#[inline(always)]
pub fn depart<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Departed, Reason> {
    if !parse::begins(scratch) {
        return Err(Reason::NotService);
    }
    open::clear(env, scratch)?;
    let reason =
        if scratch.point == Point::PodEgress as u8 { Reason::NotService } else { judge(env, scratch)? };
    let passes = matches!(reason, Reason::NotService | Reason::NotServicePort | Reason::PassedOn);
    if passes && scratch.interface == 0 && flow::beset(env, scratch) {
        return Ok(Departed::Beset);
    }
    let tuple = &scratch.key.tuple;
    let own = passes
        && scratch.point == Point::OutwardEgress as u8
        && is_node_port(env, &tuple.src, tuple.sport, scratch.key.proto)
        && !passes_through(env, scratch.interface);
    if own && flow::host(env, scratch)? { Ok(Departed::Host) } else { Err(reason) }
}

/// What is to become of a packet that leaves the node and may begin a connection, by where it goes.
#[inline(always)]
fn judge<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Reason, Reason> {
    let tuple = scratch.key.tuple;
    let to = Endpoint::new(tuple.dst, tuple.dport);
    let asker = Asker::Packet(scratch.interface);
    Ok(match select::find(env, &to, scratch.key.proto, asker) {
        Ok(frontend) if frontend.kind == FrontendKind::ClusterIp as u8 => Reason::LeftUntranslated,
        Ok(frontend) => {
            let flags = env.service(frontend.service).ok_or(Reason::InconsistentTables)?.flags();
            select::admit(env, &frontend, flags, &tuple.src.to_mapped(), asker)?;
            Reason::PassedOn
        }
        Err(Reason::PortNotServed) => Reason::LeftUntranslated,
        Err(reason) => select::unserved(env, scratch, reason),
    })
}

/// Whether a packet that leaves the node came in where it may have been a masqueraded flow's. It is then an answer that
/// was sent on past the host stack, and of its flow the half that would tell may have been evicted.
#[inline(always)]
fn passes_through<A: Address, E: Env<A>>(env: &E, interface: u32) -> bool {
    interface != 0 && env.interface(interface).flags & interface_flags::OUTWARD != 0
}

/// Whether a node port is served at this address of the node. Most packets are from no port that is one.
#[inline(always)]
fn is_node_port<A: Address, E: Env<A>>(env: &E, addr: &A, port: Port, proto: u8) -> bool {
    env.frontend(&FrontendKey::new(A::default(), port, proto)).is_some()
        && env.address(addr).is_some_and(|value| value.flags & address_flags::NODE_PORTS != 0)
}
