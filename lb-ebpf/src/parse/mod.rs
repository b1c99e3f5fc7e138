//! Headers to a flow key. Every read is checked; nothing is assumed of a length field.

mod ipv4;
mod ipv6;
mod transport;

use core::mem::offset_of;

use lb_common::{FlowKey, Proto, Reason, Scratch, Tuple};
use network_types::eth::{EthHdr, EtherType};

use crate::family::Family;
use crate::pkt::Pkt;

pub(crate) use ipv4::parse as ipv4;
pub(crate) use ipv6::parse as ipv6;
pub use transport::Flags;
pub(crate) use transport::{TCP_CHECKSUM, UDP_CHECKSUM};

/// Length of the link-layer header: Sluice attaches to Ethernet devices only.
pub const LINK: u32 = EthHdr::LEN as u32;

/// The network header of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Network<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of the transport header (the last `next header` of IPv6).
    pub proto: u8,
    /// Offset of the transport header.
    pub transport: u32,
    /// Whether the packet is a fragment; only the first has a transport header.
    pub fragment: bool,
}

/// Why a packet cannot belong to a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unparsed<A> {
    /// It leaves the datapath for this reason.
    Reason(Reason),
    /// It is a fragment, addressed to this address.
    Fragment(A),
}

impl<A> From<Reason> for Unparsed<A> {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

/// The family of the packet: 4, 6, or `None` for anything but IP.
#[inline(always)]
pub(crate) fn family<P: Pkt>(pkt: &P) -> Option<u8> {
    let ether_type = u16::from_ne_bytes(pkt.load(offset_of!(EthHdr, ether_type) as u32)?);
    if ether_type == EtherType::Ipv4 as u16 {
        Some(4)
    } else if ether_type == EtherType::Ipv6 as u16 {
        Some(6)
    } else {
        None
    }
}

/// Parses network and transport header: fills in `key`, `network`, `transport` and `flags` of `scratch`.
#[inline(always)]
pub(crate) fn packet<A: Family, P: Pkt>(pkt: &P, scratch: &mut Scratch<A>) -> Result<(), Unparsed<A>> {
    scratch.network = LINK;
    let network = A::parse(pkt, scratch.network)?;
    let proto = Proto::from_number(network.proto).ok_or(Reason::OtherProtocol)?;
    if network.fragment {
        return Err(Unparsed::Fragment(network.dst));
    }
    let (sport, dport, flags) = transport::parse(pkt, network.transport, proto).ok_or(Reason::Malformed)?;
    scratch.key = FlowKey::new(Tuple { src: network.src, dst: network.dst, sport, dport }, network.proto);
    scratch.transport = network.transport;
    scratch.flags = flags.0;
    Ok(())
}
