"""SCTP by raw sockets: `sctp.py serve ADDR PORT` answers what an association's opening brings, `sctp.py ask ADDR PORT`
opens one, `sctp.py refused ADDR PORT` wants an ICMP error. Every packet must have the right checksum."""

import socket
import struct
import sys

SCTP = 132
INIT, INIT_ACK, COOKIE_ECHO, COOKIE_ACK = 1, 2, 10, 11


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return ~crc & 0xFFFFFFFF


def raw(addr, proto=SCTP):
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_RAW, proto)
    opened.settimeout(2)
    return opened


def build(sport, dport, chunk, body=b"a chunk's contents, of some length"):
    body += b"\0" * (-len(body) % 4)
    head, rest = struct.pack("!HHI", sport, dport, 0), struct.pack("!BBH", chunk, 0, 4 + len(body)) + body
    return head + struct.pack("<I", crc32c(head + bytes(4) + rest)) + rest


def receive(opened, addr):
    data, sender = opened.recvfrom(4096)
    if ":" not in addr:
        data = data[20:]
    sport, dport = struct.unpack("!HH", data[:4])
    assert struct.unpack("<I", data[8:12])[0] == crc32c(data[:8] + bytes(4) + data[12:]), "checksum"
    return sender[0], sport, dport, data[12]


def serve(addr, port):
    opened = raw(addr)
    opened.bind((addr, 0))
    opened.settimeout(None)
    print("ready", flush=True)
    while True:
        client, sport, dport, chunk = receive(opened, addr)
        if dport == port and chunk in (INIT, COOKIE_ECHO):
            opened.sendto(build(port, sport, chunk + 1), (client, 0))


def ask(addr, port):
    opened = raw(addr)
    for chunk in (INIT, COOKIE_ECHO):
        opened.sendto(build(42_000, port, chunk), (addr, 0))
        while (got := receive(opened, addr))[2] != 42_000:
            pass
        assert got == (addr, port, 42_000, chunk + 1), f"{got} answers {chunk}"


def refused(addr, port):
    v6 = ":" in addr
    errors = raw(addr, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    sent = build(42_001, port, INIT)
    raw(addr).sendto(sent, (addr, 0))
    while True:
        data, sender = errors.recvfrom(4096)
        data = data if v6 else data[20:]
        if data[:2] == (b"\1\4" if v6 else b"\3\3") and sender[0] == addr:
            assert data[8 + (40 if v6 else 20) :] == sent[:20], "the error does not quote what was sent"
            return


if __name__ == "__main__":
    verb, addr, port = sys.argv[1:]
    {"serve": serve, "ask": ask, "refused": refused}[verb](addr, int(port))
