//! The frames that a generator writes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail};
use etherparse::PacketBuilder;
use lb_common::generator::{FRAME, FlowPick, Generator};

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// The first segment of a TCP connection.
    Syn,
    /// The answer to it.
    SynAck,
    /// Any other segment.
    Ack,
    /// One that ends a connection.
    Fin,
    /// A UDP datagram.
    Datagram,
}

/// Flows from clients to servers, and what frames of them hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frames {
    /// Addresses of the Ethernet header: to whom, and from whom.
    pub(super) link: [[u8; 6]; 2],
    /// The first client.
    pub(super) client: IpAddr,
    /// The first server, and how many there are; flow number `f` goes to number `f` modulo that.
    pub(super) server: IpAddr,
    /// See there.
    pub(super) servers: u32,
    /// Port of all servers.
    pub(super) port: u16,
    /// What they hold.
    pub(super) segment: Segment,
    /// Whether a server sends it.
    pub(super) reversed: bool,
}

/// Which flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flows {
    /// Number of the first one.
    pub(super) first: u32,
    /// How many there are.
    pub(super) count: u32,
    /// In what order.
    pub(super) pick: FlowPick,
}

impl Flows {
    /// One after the other.
    pub(super) const fn in_turn(first: u32, count: u32) -> Self {
        Self { first, count, pick: FlowPick::InTurn }
    }
}

impl Frames {
    /// The generator of the frames of `flows`, for the program with the number `target`.
    ///
    /// # Errors
    /// Client and server are not of one family.
    pub(super) fn generator(&self, flows: Flows, target: u32) -> Result<Generator> {
        // Checksums are made over zeros where flows differ: their complements are the sums of all else.
        let (client, server) = (last_zero(self.client), last_zero(self.server));
        let (from, to) = if self.reversed { (server, client) } else { (client, server) };
        let link = PacketBuilder::ethernet2(self.link[1], self.link[0]);
        let network = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
            _ => bail!("{} and {} are not of one family", self.client, self.server),
        };
        let ports = if self.reversed { [self.port, 0] } else { [0, self.port] };
        let v4 = self.client.is_ipv4();
        let (length, start) = if v4 { (64, 34) } else { (FRAME, 54) };
        let mut bytes = Vec::with_capacity(FRAME);
        let check: u8 = if self.segment == Segment::Datagram {
            let payload = vec![0; length - start - 8];
            network.udp(ports[0], ports[1]).write(&mut bytes, &payload).context("write a frame")?;
            6
        } else {
            let tcp = network.tcp(ports[0], ports[1], 1, u16::MAX);
            let tcp = match self.segment {
                Segment::Syn => tcp.syn(),
                Segment::SynAck => tcp.syn().ack(1),
                Segment::Fin => tcp.fin().ack(1),
                Segment::Ack | Segment::Datagram => tcp.ack(1),
            };
            tcp.write(&mut bytes, &[]).context("write a frame")?;
            16
        };
        let network_sum = if v4 { sum_of(&mut bytes, 24) } else { 0 };
        let transport_sum = sum_of(&mut bytes, start + usize::from(check));
        // What is shorter than Ethernet's least is padded, as hardware does.
        let mut frame = [0; FRAME];
        frame.get_mut(..bytes.len()).context("a frame is too long")?.copy_from_slice(&bytes);
        Ok(Generator {
            cursor: 0,
            frame: bytemuck::cast(frame),
            length: length as u32,
            client: last(self.client),
            server: last(self.server),
            network_sum,
            transport_sum,
            first: flows.first,
            flows: flows.count,
            servers: self.servers,
            target,
            check,
            reversed: u8::from(self.reversed),
            pick: flows.pick as u8,
            pad: 0,
        })
    }
}

/// Takes the checksum at `place` out of `bytes`: the sum of what it covers.
fn sum_of(bytes: &mut [u8], place: usize) -> u32 {
    match bytes.get_mut(place..place + 2) {
        Some(check) => {
            let sum = !u16::from_ne_bytes([check[0], check[1]]);
            check.fill(0);
            u32::from(sum)
        }
        None => 0,
    }
}

/// The last four bytes of `addr`.
fn last(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits(),
        IpAddr::V6(addr) => addr.to_bits() as u32,
    }
}

/// `addr` with zeros in their place.
fn last_zero(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => IpAddr::V4(0.into()),
        IpAddr::V6(addr) => IpAddr::V6((addr.to_bits() >> 32 << 32).into()),
    }
}

/// The address that is `number` behind `first`.
pub(super) fn nth(first: IpAddr, number: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits().wrapping_add(number)).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits().wrapping_add(u128::from(number))).into()),
    }
}

/// The address of the family of `addr` that stands for none.
pub(super) const fn unspecified(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// A number below `count` for each `number` in turn, far from the one before: as the step is a prime, all come up.
pub(super) const fn scattered(number: u32, count: u32) -> u32 {
    number.wrapping_mul(7919) % count
}

#[cfg(test)]
mod tests {
    use etherparse::checksum::Sum16BitWords;
    use etherparse::{IpPayloadSlice, NetSlice, SlicedPacket, TransportSlice};
    use lb_ebpf::generate::own;

    use super::*;

    /// The frame of a flow, as the program in the kernel makes it.
    fn frame(generator: &Generator, flow: u32) -> Vec<u8> {
        let mut bytes: [u8; FRAME] = bytemuck::cast(generator.frame);
        let own = own(generator, flow);
        let v4 = generator.length == 64;
        let (source, destination, transport) = if v4 { (26, 30, 34) } else { (34, 50, 54) };
        let reversed = generator.reversed != 0;
        let (from, to) = if reversed { (own.server, own.client) } else { (own.client, own.server) };
        bytes[source..source + 4].copy_from_slice(&from);
        bytes[destination..destination + 4].copy_from_slice(&to);
        let port = transport + if reversed { 2 } else { 0 };
        bytes[port..port + 2].copy_from_slice(&own.port);
        if v4 {
            bytes[24..26].copy_from_slice(&own.network_check);
        }
        let check = transport + usize::from(generator.check);
        bytes[check..check + 2].copy_from_slice(&own.transport_check);
        bytes[..generator.length as usize].to_vec()
    }

    /// The one's complement sum of a packet with the header that its checksum covers besides: all ones if that is right.
    fn pseudo(addresses: &[&[u8]; 2], payload: &IpPayloadSlice<'_>) -> u16 {
        let IpPayloadSlice { ip_number, payload, .. } = payload;
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let sum = Sum16BitWords::new()
            .add_slice(addresses[0])
            .add_slice(addresses[1])
            .add_slice(&length)
            .add_slice(&[0, ip_number.0])
            .add_slice(payload);
        !sum.ones_complement()
    }

    #[test]
    fn frames_of_all_flows_have_their_addresses_and_right_checksums() {
        for (client, server) in [("10.128.0.1", "10.96.0.1"), ("fd00:244::1", "fd00:96::1")] {
            let [client, server]: [IpAddr; 2] = [client, server].map(|addr| addr.parse().unwrap());
            for (segment, reversed) in [
                (Segment::Syn, false),
                (Segment::Ack, false),
                (Segment::Fin, false),
                (Segment::SynAck, true),
                (Segment::Datagram, false),
            ] {
                let frames = Frames {
                    link: [[2; 6], [4; 6]],
                    client,
                    server,
                    servers: 7,
                    port: 80,
                    segment,
                    reversed,
                };
                let generator = frames.generator(Flows::in_turn(0, 1), 0).unwrap();
                for flow in [0, 1, 59_999, 60_000, 1_000_000, 123_456_789] {
                    let bytes = frame(&generator, flow);
                    let packet = SlicedPacket::from_ethernet(&bytes).unwrap();
                    let from_client = (nth(client, flow / 60_000), 2000 + (flow % 60_000) as u16);
                    let at_server = (nth(server, flow % 7), 80);
                    let expected = if reversed { [at_server, from_client] } else { [from_client, at_server] };
                    let (addresses, sum): ([IpAddr; 2], u16) = match packet.net.as_ref().unwrap() {
                        NetSlice::Ipv4(ip) => {
                            let header = ip.header().to_header();
                            assert_eq!(header.header_checksum, header.calc_header_checksum());
                            let addresses = [header.source.into(), header.destination.into()];
                            (addresses, pseudo(&[&header.source, &header.destination], ip.payload()))
                        }
                        NetSlice::Ipv6(ip) => {
                            let header = ip.header().to_header();
                            let addresses = [header.source.into(), header.destination.into()];
                            (addresses, pseudo(&[&header.source, &header.destination], ip.payload()))
                        }
                        NetSlice::Arp(_) => panic!("no IP"),
                    };
                    let ports = match packet.transport.as_ref().unwrap() {
                        TransportSlice::Tcp(tcp) => {
                            let is = |flags: &[Segment]| flags.contains(&segment);
                            let flags = (tcp.syn(), tcp.ack(), tcp.fin());
                            let syn = is(&[Segment::Syn, Segment::SynAck]);
                            assert_eq!(flags, (syn, !is(&[Segment::Syn]), is(&[Segment::Fin])));
                            [tcp.source_port(), tcp.destination_port()]
                        }
                        TransportSlice::Udp(udp) if segment == Segment::Datagram => {
                            assert_ne!(udp.checksum(), 0, "that would mean that there is none");
                            [udp.source_port(), udp.destination_port()]
                        }
                        other => panic!("{segment:?}: {other:?}"),
                    };
                    assert_eq!(expected.map(|(addr, _)| addr), addresses, "flow {flow}");
                    assert_eq!(expected.map(|(_, port)| port), ports);
                    assert_eq!(sum, 0xffff, "{segment:?}, flow {flow}");
                }
            }
        }
    }
}
