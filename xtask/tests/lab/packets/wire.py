"""Packets by hand: headers, checksums, frames with VLAN tags in both forms."""

import ipaddress
import socket
import struct

SOL_PACKET, PACKET_AUXDATA, VLAN_VALID = 263, 8, 0x10
TCP, UDP, SCTP = 6, 17, 132


def internet_sum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def packed(addr):
    return ipaddress.ip_address(addr).packed


def pseudo(src, dst, proto, length):
    return packed(src) + packed(dst) + struct.pack("!I3xB", length, proto)


def segment(proto, src, dst, sport, dport):
    """A SYN, or a datagram."""
    if proto == TCP:
        parts = struct.pack("!HHIIBBH", sport, dport, 1, 0, 5 << 4, 2, 64240), struct.pack("!H", 0)
    else:
        parts = struct.pack("!HHH", sport, dport, 8 + 24), b"what a datagram may say."
    length = sum(map(len, parts)) + 2
    total = internet_sum(pseudo(src, dst, proto, length) + parts[0] + b"\0\0" + parts[1])
    return parts[0] + struct.pack("!H", ~total & 0xFFFF or 0xFFFF) + parts[1]


def packet(proto, src, dst, payload):
    if ":" in src:
        return struct.pack("!IHBB", 6 << 28, len(payload), proto, 64) + packed(src) + packed(dst) + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, proto, 0) + packed(src) + packed(dst)
    return header[:10] + struct.pack("!H", ~internet_sum(header) & 0xFFFF) + header[12:] + payload


def parse(data):
    """Family, protocol, source, destination and payload of a packet whose checksums hold."""
    if data[0] >> 4 == 6:
        length, proto = struct.unpack("!HB", data[4:7])
        src, dst, payload = data[8:24], data[24:40], data[40 : 40 + length]
    else:
        (length,) = struct.unpack("!H", data[2:4])
        assert internet_sum(data[:20]) == 0xFFFF, "IPv4 header checksum"
        proto, src, dst, payload = data[9], data[12:16], data[16:20], data[20:length]
    src, dst = (str(ipaddress.ip_address(addr)) for addr in (src, dst))
    return proto, src, dst, payload


def whole(proto, src, dst, payload):
    """Whether the checksum of a TCP segment or an ICMP message holds."""
    return internet_sum((b"" if proto == 1 else pseudo(src, dst, proto, len(payload))) + payload) == 0xFFFF


class Wire:
    """The pod's interface, frame by frame."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("eth0", 0))
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.settimeout(2)
        self.mac = self.socket.getsockname()[4]
        # The other end of the pair.
        self.host = self.mac[:4] + b"\0" + self.mac[5:]

    def send(self, tags, data):
        kind = 0x86DD if data[0] >> 4 == 6 else 0x0800
        self.socket.send(self.host + self.mac + b"".join(struct.pack("!HH", *tag) for tag in tags) + struct.pack("!H", kind) + data)

    def receive(self, wanted):
        """Tags and contents of the first packet from the node that is `wanted`."""
        while True:
            frame, control, _, address = self.socket.recvmsg(4096, 256)
            if address[2] == socket.PACKET_OUTGOING or frame[:12] != self.mac + self.host:
                continue
            tags, at = [], 12
            for level, kind, data in control:
                status, *_, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA) and status & VLAN_VALID:
                    tags.append((tpid, tci))
            while (kind := struct.unpack("!H", frame[at : at + 2])[0]) in (0x8100, 0x88A8):
                tags.append(struct.unpack("!HH", frame[at : at + 4]))
                at += 4
            if kind in (0x0800, 0x86DD) and (got := parse(frame[at + 2 :])) and wanted(*got):
                return tags, got
