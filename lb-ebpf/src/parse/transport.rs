//! TCP (RFC 9293) and UDP (RFC 768): ports and flags.

use lb_common::{FlowState, Port, Proto};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::pkt::Pkt;

/// Offset of the TCP checksum in its header.
pub(crate) const TCP_CHECKSUM: u32 = core::mem::offset_of!(TcpHdr, check) as u32;
/// Offset of the UDP checksum in its header.
pub(crate) const UDP_CHECKSUM: u32 = core::mem::offset_of!(UdpHdr, check) as u32;

/// TCP flags: byte 13 of the header.
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

#[inline(always)]
pub(crate) fn parse<P: Pkt>(pkt: &P, at: u32, proto: Proto) -> Option<(Port, Port, Flags)> {
    match proto {
        Proto::Tcp => {
            // The whole fixed header must be there: a reset rewrites it.
            let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, _, flags, ..]: [u8; TcpHdr::LEN] = pkt.load(at)?;
            Some((Port([s0, s1]), Port([d0, d1]), Flags(flags)))
        }
        Proto::Udp => {
            let [s0, s1, d0, d1, ..]: [u8; UdpHdr::LEN] = pkt.load(at)?;
            Some((Port([s0, s1]), Port([d0, d1]), Flags(0)))
        }
    }
}
