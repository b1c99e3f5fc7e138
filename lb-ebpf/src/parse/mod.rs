//! Headers to a flow key. Every read is checked; nothing is assumed of a length field.

mod ipv4;
mod ipv6;
mod link;
mod transport;

use lb_common::{Proto, Reason, Scratch};

use crate::cut::outcome;
use crate::family::Family;
use crate::pkt::Pkt;

pub(crate) use ipv4::parse as ipv4;
pub(crate) use ipv6::parse as ipv6;
pub use link::{LINK, TAGS};
pub(crate) use link::{Link, bare, insert_room, link};
pub use transport::Flags;
pub(crate) use transport::{SCTP_CHECKSUM, TCP_CHECKSUM, UDP_CHECKSUM};

outcome! {
    /// How much of a packet is there.
    Part {
        /// All of it.
        Whole = 0,
        /// Its first fragment, with the transport header.
        First = 1,
        /// A later fragment, without.
        Later = 2,
    }
}

/// The network header of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Network<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of the transport header (the last `next header` of IPv6). Of a later fragment what its fragment header
    /// says, which extension headers in the first may belie.
    pub proto: u8,
    /// Offset of the transport header, or of what a later fragment has in its place.
    pub transport: u32,
    /// Whether the packet is a fragment.
    pub part: Part,
    /// What the fragments of one packet have in common, as it lies in the packet; of a whole packet it says nothing.
    pub identification: u32,
}

/// Whether a packet that was parsed may begin something. One of a protocol with connections asks for one, if it does;
/// others do not say, and are taken to.
#[inline(always)]
pub(crate) const fn begins<A>(scratch: &Scratch<A>) -> bool {
    let connects = scratch.key.proto == Proto::Tcp as u8 || scratch.key.proto == Proto::Sctp as u8;
    !connects || Flags(scratch.flags).opens()
}

/// Parses network and transport header behind the link-layer header, whose length is `scratch.network`, maybe 0: fills in `key`,
/// `transport`, `flags`, `part` and `identification` of `scratch`. A later fragment has neither ports nor flags, and
/// none of its protocol is asked.
#[inline(always)]
pub fn packet<A: Family, P: Pkt>(pkt: &P, scratch: &mut Scratch<A>) -> Result<Part, Reason> {
    scratch.part = Part::Whole as u8;
    let network = A::parse(pkt, scratch.network)?;
    let Network { src, dst, proto, transport, part, identification } = network;
    (scratch.key.tuple.src, scratch.key.tuple.dst) = (src, dst);
    scratch.key.tuple.set_ports([0; 4]);
    scratch.key.set_proto(proto);
    scratch.transport = transport;
    scratch.flags = 0;
    scratch.part = part as u8;
    scratch.identification = identification;
    if part == Part::Later {
        return Ok(part);
    }
    let proto = Proto::from_number(proto).ok_or(Reason::OtherProtocol)?;
    let (ports, flags) = transport::parse(pkt, transport, proto).ok_or(Reason::Malformed)?;
    scratch.key.tuple.set_ports(ports);
    scratch.flags = flags.0;
    Ok(part)
}
