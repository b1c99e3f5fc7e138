//! TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260): ports and flags.

use lb_common::{FlowState, Proto};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::pkt::Pkt;

/// Offset of the TCP checksum in its header.
pub(crate) const TCP_CHECKSUM: u32 = core::mem::offset_of!(TcpHdr, check) as u32;
/// Offset of the UDP checksum in its header.
pub(crate) const UDP_CHECKSUM: u32 = core::mem::offset_of!(UdpHdr, check) as u32;

/// Offset of the SCTP checksum in its header.
pub(crate) const SCTP_CHECKSUM: u32 = 8;
/// Length of the SCTP header and of the header of the first chunk behind it.
const SCTP: usize = 16;

/// TCP flags: byte 13 of the header. What an SCTP packet's first chunk does to its association is said in the same
/// words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;

    /// The flags for an SCTP packet whose first chunk is of this type. INIT and SHUTDOWN COMPLETE are never bundled,
    /// the others of the opening and closing come first.
    #[must_use]
    #[inline(always)]
    const fn of_chunk(kind: u8) -> Self {
        const INIT: u8 = 1;
        const INIT_ACK: u8 = 2;
        const ABORT: u8 = 6;
        const SHUTDOWN: u8 = 7;
        const SHUTDOWN_ACK: u8 = 8;
        const SHUTDOWN_COMPLETE: u8 = 14;
        Self(match kind {
            INIT => Self::SYN,
            INIT_ACK => Self::SYN | Self::ACK,
            ABORT | SHUTDOWN_COMPLETE => Self::RST,
            SHUTDOWN | SHUTDOWN_ACK => Self::FIN | Self::ACK,
            _ => Self::ACK,
        })
    }

    /// Whether the segment asks for a new connection.
    #[must_use]
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }

    /// Whether the segment resets its connection.
    #[must_use]
    #[inline(always)]
    pub const fn resets(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// What a packet with these flags adds to the [`FlowState`] of its direction. Datagrams have no flags: data.
    #[must_use]
    #[inline(always)]
    pub const fn state(self) -> u8 {
        if self.resets() {
            FlowState::RST
        } else if self.0 & Self::SYN != 0 {
            FlowState::SYN
        } else if self.0 & Self::FIN != 0 {
            FlowState::DATA | FlowState::FIN
        } else {
            FlowState::DATA
        }
    }
}

/// Both ports as they lie in the packet, and the flags.
#[inline(always)]
pub(crate) fn parse<P: Pkt>(pkt: &P, at: u32, proto: Proto) -> Option<([u8; 4], Flags)> {
    match proto {
        Proto::Tcp => {
            // The whole fixed header must be there: a reset rewrites it.
            let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, _, flags, ..]: [u8; TcpHdr::LEN] = pkt.load(at)?;
            Some(([s0, s1, d0, d1], Flags(flags)))
        }
        Proto::Udp => {
            let [s0, s1, d0, d1, ..]: [u8; UdpHdr::LEN] = pkt.load(at)?;
            Some(([s0, s1, d0, d1], Flags(0)))
        }
        Proto::Sctp => {
            let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, kind, ..]: [u8; SCTP] = pkt.load(at)?;
            Some(([s0, s1, d0, d1], Flags::of_chunk(kind)))
        }
    }
}
