"""Tagged frames of a pod at ADDR to a Service: `tagged.py refused ADDR SERVICE` wants a SYN and a datagram refused,
`tagged.py returned ADDR SERVICE NODE PORT` wants a SYN back, from NODE to PORT. All behind the same tags."""

import struct
import sys

from wire import TCP, UDP, Wire, packet, segment, whole

TAGS = ([(0x8100, 0x6064)], [(0x88A8, 7), (0x8100, 0x64)])


def exchange(wire, tags, proto, addr, service, wanted):
    wire.send(tags, packet(proto, addr, service, segment(proto, addr, service, 41_000, 80)))
    try:
        got, (proto, src, dst, payload) = wire.receive(wanted)
    except TimeoutError:
        sys.exit(f"no answer behind {tags}")
    assert got == tags, f"sent behind {tags}, came back behind {got}"
    assert whole(proto, src, dst, payload), "checksum of the answer"
    return src, dst, payload


def refused(wire, tags, addr, service):
    def reset(proto, src, dst, payload):
        return proto == TCP and (src, dst) == (service, addr) and payload[13] == 0x14

    def unreachable(proto, src, dst, payload):
        return proto in (1, 58) and (src, dst) == (service, addr) and payload[:2] in (b"\3\3", b"\1\4")

    exchange(wire, tags, TCP, addr, service, reset)
    _, _, payload = exchange(wire, tags, UDP, addr, service, unreachable)
    sent = packet(UDP, addr, service, segment(UDP, addr, service, 41_000, 80))
    assert sent.startswith(payload[8:]) and len(payload) >= 8 + len(sent) - 24, "the error does not quote what was sent"


def returned(wire, tags, addr, service, node, port):
    def syn(proto, src, dst, payload):
        return proto == TCP and dst == addr and payload[13] == 2

    src, _, payload = exchange(wire, tags, TCP, addr, service, syn)
    assert src == node and struct.unpack("!H", payload[2:4])[0] == int(port), (src, payload)


if __name__ == "__main__":
    verb, *args = sys.argv[1:]
    for tags in TAGS:
        {"refused": refused, "returned": returned}[verb](Wire(), tags, *args)
