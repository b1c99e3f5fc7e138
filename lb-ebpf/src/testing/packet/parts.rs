//! What packets consist of.

use std::vec::Vec;

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_SCTP`.
pub const SCTP: u8 = 132;
/// `IPPROTO_ICMP`.
pub const ICMP4: u8 = 1;
/// `IPPROTO_ICMPV6`.
pub const ICMP6: u8 = 58;

/// TCP flags, as in byte 13 of the header.
pub mod flags {
    /// No more data from this side.
    pub const FIN: u8 = 1;
    /// Open.
    pub const SYN: u8 = 2;
    /// Refuse or abort.
    pub const RST: u8 = 4;
    /// Deliver at once.
    pub const PSH: u8 = 8;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 16;
}

/// Types of SCTP chunks.
pub mod chunks {
    /// User data.
    pub const DATA: u8 = 0;
    /// Open.
    pub const INIT: u8 = 1;
    /// Accept.
    pub const INIT_ACK: u8 = 2;
    /// Alive?
    pub const HEARTBEAT: u8 = 4;
    /// Refuse or abort.
    pub const ABORT: u8 = 6;
    /// No more data from this side.
    pub const SHUTDOWN: u8 = 7;
    /// Nor from this one.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Confirm what INIT ACK brought.
    pub const COOKIE_ECHO: u8 = 10;
    /// The association is open.
    pub const COOKIE_ACK: u8 = 11;
    /// The association is closed.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// What the checksum field of the transport header holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// The checksum.
    #[default]
    Complete,
    /// The sum of the pseudo header, not inverted: the hardware is to add the rest (`CHECKSUM_PARTIAL`). Of SCTP, whose
    /// checksum has no pseudo header: zero.
    Partial,
    /// Zero: none (UDP over IPv4; SCTP).
    Absent,
    /// This value, which is none of the above.
    Wrong(u16),
}

/// The two link-layer addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Macs {
    /// Receiver.
    pub dst: [u8; 6],
    /// Sender.
    pub src: [u8; 6],
}

impl Macs {
    /// Sender and receiver exchanged.
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self { dst: self.src, src: self.dst }
    }
}

/// A VLAN tag (IEEE 802.1Q).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// Ether type that announces it: [`C_TAG`] or [`S_TAG`].
    pub kind: u16,
    /// Priority and VLAN number.
    pub control: u16,
}

impl Tag {
    /// Puts `tags` into `frame`, in front of its ether type.
    pub fn insert(tags: &[Self], frame: &mut Vec<u8>) {
        let bytes: Vec<u8> = tags
            .iter()
            .flat_map(|tag| [tag.kind.to_be_bytes(), tag.control.to_be_bytes()].concat())
            .collect();
        frame.splice(12..12, bytes);
    }
}

/// Ether type of a customer's VLAN tag.
pub const C_TAG: u16 = 0x8100;
/// Ether type of a provider's VLAN tag, outside a customer's (IEEE 802.1ad).
pub const S_TAG: u16 = 0x88a8;

/// Position of a fragment in its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Offset in units of eight bytes.
    pub offset: u16,
    /// Whether another one follows.
    pub more: bool,
}

/// An IPv6 extension header of the ordinary format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extension {
    /// 0 hop-by-hop, 43 routing, 60 destination options.
    pub number: u8,
    /// What follows the two bytes "next header" and "length"; 6 bytes more than a multiple of 8.
    pub body: Vec<u8>,
}

/// What the network header carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source and destination port.
        ports: [u16; 2],
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// [`flags`].
        flags: u8,
        /// Window.
        window: u16,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
    },
    /// UDP.
    Udp {
        /// Source and destination port.
        ports: [u16; 2],
    },
    /// SCTP with one chunk, whose contents are the packet's data.
    Sctp {
        /// Source and destination port.
        ports: [u16; 2],
        /// Verification tag.
        tag: u32,
        /// Type of the chunk, one of [`chunks`].
        chunk: u8,
    },
    /// ICMP of the packet's family.
    Icmp {
        /// Type and code.
        kind: [u8; 2],
        /// The second word of the header.
        word: [u8; 4],
    },
    /// Bytes that nobody interprets, under this protocol number.
    Other(u8),
}
