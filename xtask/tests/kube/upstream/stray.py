"""Sends segments of a connection that lie outside of its window: stray.py SRC SPORT DST DPORT, from the pod of SRC."""

import struct
import sys

from wire import TCP, Wire, internet_sum, packet, pseudo

src, sport, dst, dport = sys.argv[1:]
wire = Wire()
# Windows are far smaller than what lies between these.
for number in (0, 1 << 30, 2 << 30, 3 << 30):
    head = struct.pack("!HHIIBBH", int(sport), int(dport), number, number, 5 << 4, 0x10, 512)
    tail = struct.pack("!H", 0) + b"stray"
    total = internet_sum(pseudo(src, dst, TCP, len(head) + 2 + len(tail)) + head + b"\0\0" + tail)
    wire.send([], packet(TCP, src, dst, head + struct.pack("!H", ~total & 0xFFFF) + tail))
