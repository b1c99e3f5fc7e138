//! Packets without ports: ICMP, and protocols that no Service uses.
//!
//! - An ICMP error about a packet of a known flow is translated with what it quotes.
//! - A ClusterIP answers an echo request, and refuses everything else.

mod echo;
mod error;

use core::mem::offset_of;

use lb_common::{Point, Reason, Scratch};
use network_types::icmp::Icmpv4Hdr;

use crate::env::Env;
use crate::family::Family;
use crate::parse::Part;
use crate::pkt::Pkt;
use crate::select;
use crate::verdict::Verdict;

/// Bytes of an ICMP error before the quote, both families.
pub(crate) const HEADER: u32 = Icmpv4Hdr::LEN as u32;
/// Offset of the checksum, both families.
const CHECKSUM: u32 = offset_of!(Icmpv4Hdr, check) as u32;

/// What a packet without ports is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// An ICMP error that quotes a packet, which may be of a flow.
    Error,
    /// An ICMP message that nobody may answer with an error (RFC 1122, 3.2.2; RFC 4443, 2.4), but for the above.
    Mute,
    /// An echo request.
    EchoRequest,
    /// Any other message or protocol.
    Other,
}

/// A packet without ports, with addresses, protocol, offsets and point in `scratch`.
///
/// Whatever the packet becomes is counted, unless the outcome is a reason: then the caller does as that says; or
/// [`Verdict::Route`]: then the caller counts and sends on an error that has been translated.
#[inline(always)]
pub fn portless<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    scratch: &mut Scratch<A>,
) -> Result<Verdict, Reason> {
    let whole = scratch.part == Part::Whole as u8;
    let message = match pkt.load(scratch.transport) {
        Some([kind]) if scratch.key.proto == A::ICMP => A::message(kind),
        _ => Message::Other,
    };
    let leaves = scratch.point == Point::OutwardEgress as u8;
    // What a pod is sent is nobody's but its own. What leaves the node may be an answer, but for an echo request (B73).
    let asks = scratch.point != Point::PodEgress as u8 && (!leaves || message == Message::EchoRequest);
    if whole && message == Message::Error {
        let outcome = error::translate(pkt, env, scratch);
        if outcome != Err(Reason::NotService) || !asks {
            return outcome;
        }
    } else if !asks {
        return Err(Reason::OtherProtocol);
    }
    if let Err(reason) = select::owned(env, &scratch.key.tuple.dst) {
        return Err(match (reason, message) {
            (Reason::NotService | Reason::NotServicePort, Message::Error) => Reason::NotService,
            (reason, Message::EchoRequest) => match select::unserved(env, scratch, reason) {
                Reason::NotService | Reason::NotServicePort => Reason::OtherProtocol,
                reason => reason,
            },
            (Reason::NotService | Reason::NotServicePort, _) => Reason::OtherProtocol,
            (reason, _) => reason,
        });
    }
    if leaves {
        return Err(Reason::LeftUntranslated);
    }
    match message {
        _ if !whole => Err(Reason::Fragment),
        Message::Error | Message::Mute => Err(Reason::ErrorWithoutFlow),
        Message::EchoRequest => echo::answer(pkt, env, scratch),
        Message::Other => Err(Reason::ProtocolNotServed),
    }
}
