"""Sends packets that each begin a flow, as frames of its own making, so fast as it can.

`flood.py syn|udp SOURCE ADDRESS PORT COUNT SECONDS`: from COUNT ports of SOURCE, once, then again until SECONDS have
passed. The checksum of SYNs is wrong: they are forwarded, and nobody answers. Says how many it has sent.
"""

import socket
import struct
import sys
import time

FIRST = 2000


def gateway():
    with open("/proc/net/arp") as table:
        for line in table.readlines()[1:]:
            return bytes.fromhex(line.split()[3].replace(":", ""))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frames(link, kind, source, address, port, count):
    v6 = ":" in address
    family = socket.AF_INET6 if v6 else socket.AF_INET
    src, dst = socket.inet_pton(family, source), socket.inet_pton(family, address)
    proto = 6 if kind == "syn" else 17
    length = 20 if kind == "syn" else 10
    if v6:
        network = struct.pack("!IHBB", 6 << 28, length, proto, 64) + src + dst
    else:
        network = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, proto, 0) + src + dst
        network = network[:10] + struct.pack("!H", checksum(network)) + network[12:]
    for sport in range(FIRST, FIRST + count):
        if kind == "syn":
            transport = struct.pack("!HHIIBBHHH", sport, port, 1, 0, 0x50, 2, 65535, 0, 0)
        else:
            pseudo = src + dst + struct.pack("!HH", proto, length)
            bare = struct.pack("!HHHH", sport, port, length, 0) + b"?\n"
            transport = bare[:6] + struct.pack("!H", checksum(pseudo + bare) or 0xFFFF) + bare[8:]
        yield link + (b"\x86\xdd" if v6 else b"\x08\x00") + network + transport


def main(kind, source, address, port, count, seconds):
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind(("eth0", 0))
    link = gateway() + out.getsockname()[4]
    packets = list(frames(link, kind, source, address, int(port), int(count)))
    sent, end = 0, time.monotonic() + float(seconds)
    while True:
        for packet in packets:
            try:
                out.send(packet)
                sent += 1
            except OSError:
                # The queue is full.
                time.sleep(0.001)
        if time.monotonic() >= end:
            print(sent)
            return


main(*sys.argv[1:])
