//! Packets as values: described, built into bytes, parsed back.

mod parts;

use core::net::{IpAddr, SocketAddr};
use std::vec::Vec;

use crate::testing::routes::{UPLINK, address_of};

pub use parts::{
    C_TAG, Checksum, Extension, Fragment, ICMP4, ICMP6, Macs, S_TAG, SCTP, TCP, Tag, Transport, UDP, chunks,
    flags,
};

/// A packet: Ethernet, VLAN tags, IPv4 or IPv6 by the family of its addresses, transport header, data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Link-layer addresses.
    pub macs: Macs,
    /// VLAN tags in the frame, the outer one first.
    pub tags: Vec<Tag>,
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Time to live, hop limit.
    pub hop_limit: u8,
    /// Type of service, traffic class.
    pub class: u8,
    /// Identification (IPv4) or flow label (IPv6).
    pub label: u16,
    /// IPv4: "don't fragment".
    pub dont_fragment: bool,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers.
    pub extensions: Vec<Extension>,
    /// Set if the packet is a fragment.
    pub fragment: Option<Fragment>,
    /// Transport header.
    pub transport: Transport,
    /// What the checksum field of the transport header holds.
    pub checksum: Checksum,
    /// What follows the transport header.
    pub data: Vec<u8>,
}

/// Link-layer addresses of a packet that a pod sends, and of one that comes by the uplink.
pub const FROM_POD: Macs = Macs { dst: address_of(UPLINK), src: [2, 0, 0, 0, 0, 2] };
/// Link-layer addresses of a packet that a pod is sent.
pub const TO_POD: Macs = FROM_POD.swapped();

impl Packet {
    /// `transport` from `src` to `dst`, as a pod sends it, without data.
    #[must_use]
    pub fn new(src: IpAddr, dst: IpAddr, transport: Transport) -> Self {
        Self {
            macs: FROM_POD,
            tags: Vec::new(),
            src,
            dst,
            hop_limit: 64,
            class: 0,
            label: 0x1234,
            dont_fragment: true,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            transport,
            checksum: Checksum::Complete,
            data: Vec::new(),
        }
    }

    /// A TCP segment with these [`flags`].
    #[must_use]
    pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: u8) -> Self {
        let transport = Transport::Tcp {
            ports: [src.port(), dst.port()],
            seq: 0x0102_fffe,
            ack: if flags & flags::ACK == 0 { 0 } else { 0x0a0b_0c0d },
            flags,
            window: 64_240,
            options: if flags & flags::SYN == 0 { Vec::new() } else { [2, 4, 5, 0xb4].to_vec() },
        };
        Self::new(src.ip(), dst.ip(), transport)
    }

    /// A UDP datagram with some data.
    #[must_use]
    pub fn udp(src: SocketAddr, dst: SocketAddr) -> Self {
        let ports = [src.port(), dst.port()];
        Self::new(src.ip(), dst.ip(), Transport::Udp { ports }).data(b"datagram".to_vec())
    }

    /// An SCTP packet with a chunk of this type (one of [`chunks`]) and some contents.
    #[must_use]
    pub fn sctp(src: SocketAddr, dst: SocketAddr, chunk: u8) -> Self {
        let tag = if chunk == chunks::INIT { 0 } else { 0x0506_0708 };
        let transport = Transport::Sctp { ports: [src.port(), dst.port()], tag, chunk };
        Self::new(src.ip(), dst.ip(), transport).data(b"what a chunk has to say".to_vec())
    }

    /// The same with other link-layer addresses.
    #[must_use]
    pub fn macs(mut self, macs: Macs) -> Self {
        self.macs = macs;
        self
    }

    /// The same with one more VLAN tag, inside of those that it has.
    #[must_use]
    pub fn tag(mut self, kind: u16, control: u16) -> Self {
        self.tags.push(Tag { kind, control });
        self
    }

    /// The same with this checksum.
    #[must_use]
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// The same with this data.
    #[must_use]
    pub fn data(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    /// The same with these IPv4 options.
    #[must_use]
    pub fn options(mut self, options: Vec<u8>) -> Self {
        self.options = options;
        self
    }

    /// The same with one more IPv6 extension header.
    #[must_use]
    pub fn extension(mut self, number: u8, body: Vec<u8>) -> Self {
        self.extensions.push(Extension { number, body });
        self
    }

    /// The same as a fragment; `offset` in units of eight bytes.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some(Fragment { offset, more });
        self.dont_fragment = false;
        self
    }

    /// Its fragments, each with `size` bytes (a multiple of eight) of what follows the network header, the last one with
    /// the rest.
    #[must_use]
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        let segment = self.build().split_off(self.transport_offset());
        self.cut(self.proto(), &segment, size)
    }

    /// Fragments of `payload`, whose first header is `proto`, behind this packet's network header.
    #[must_use]
    pub fn cut(&self, proto: u8, payload: &[u8], size: usize) -> Vec<Self> {
        let pieces = payload.chunks(size);
        let last = pieces.len() - 1;
        let fragment = |(number, piece): (usize, &[u8])| {
            let mut fragment = self.clone();
            fragment.transport = Transport::Other(proto);
            let offset = u16::try_from(number * size / 8).unwrap_or(u16::MAX);
            fragment.data(piece.to_vec()).fragment(offset, number != last)
        };
        pieces.enumerate().map(fragment).collect()
    }

    /// The same with this identification (IPv4) or flow label and identification (IPv6).
    #[must_use]
    pub fn label(mut self, label: u16) -> Self {
        self.label = label;
        self
    }

    /// The same with source and destination replaced.
    #[must_use]
    pub fn between(mut self, src: SocketAddr, dst: SocketAddr) -> Self {
        (self.src, self.dst) = (src.ip(), dst.ip());
        match &mut self.transport {
            Transport::Tcp { ports, .. } | Transport::Udp { ports } | Transport::Sctp { ports, .. } => {
                *ports = [src.port(), dst.port()];
            }
            Transport::Icmp { .. } | Transport::Other(_) => {}
        }
        self
    }

    /// Source with port, if the transport header has ports.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        self.ports().map(|[port, _]| SocketAddr::new(self.src, port))
    }

    /// Destination with port, if the transport header has ports.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        self.ports().map(|[_, port]| SocketAddr::new(self.dst, port))
    }

    /// Source and destination port, if the transport header has them.
    #[must_use]
    pub const fn ports(&self) -> Option<[u16; 2]> {
        match &self.transport {
            Transport::Tcp { ports, .. } | Transport::Udp { ports } | Transport::Sctp { ports, .. } => {
                Some(*ports)
            }
            Transport::Icmp { .. } | Transport::Other(_) => None,
        }
    }

    /// IANA protocol number of the transport header.
    #[must_use]
    pub const fn proto(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp { .. } => UDP,
            Transport::Sctp { .. } => SCTP,
            Transport::Icmp { .. } if self.src.is_ipv4() => ICMP4,
            Transport::Icmp { .. } => ICMP6,
            Transport::Other(number) => number,
        }
    }

    /// Offset of the network header.
    #[must_use]
    pub fn network_offset(&self) -> usize {
        super::wire::ETHERNET + 4 * self.tags.len()
    }

    /// Offset of the transport header.
    #[must_use]
    pub fn transport_offset(&self) -> usize {
        let network = if self.src.is_ipv4() {
            20 + self.options.len()
        } else {
            let extensions = self.extensions.iter().map(|extension| extension.body.len() + 2);
            40 + extensions.sum::<usize>() + self.fragment.map_or(0, |_| 8)
        };
        self.network_offset() + network
    }

    /// The packet on the wire.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        super::wire::build(self)
    }
}
