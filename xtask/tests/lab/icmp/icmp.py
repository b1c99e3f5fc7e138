"""What a pod does with a Service, to see which ICMP comes back; each verb fails with what is not as it should be.

ping ADDR               an echo request is answered by ADDR, with what it had
silent ADDR PORT        neither a datagram nor an echo request has an answer or an error
protocol ADDR           a packet of a protocol without ports is refused
narrow ADDR PORT MTU    long datagrams that must not be cut fail until MTU is known for ADDR; one that fits is answered
hops ADDR PORT FROM [N] a datagram that may make one hop, or N, fails, told by FROM, about ADDR and PORT
leave ADDR PORT         a datagram from a socket that is gone when the answer comes
abandoned ADDR PORT     says "ready", takes a datagram, and answers at the end of its input: that must be refused
offload INTERFACE       transmit checksums off
"""

import array
import fcntl
import ipaddress
import os
import socket
import struct
import sys

GRE = 47
# linux/in.h, linux/in6.h, linux/errqueue.h, linux/ethtool.h
IP_MTU_DISCOVER, IP_RECVERR, IP_MTU, IP_TTL = 10, 11, 14, 2
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR, IPV6_UNICAST_HOPS = 23, 24, 25, 16
PMTUDISC_DO = 2
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17


def v6(addr):
    return ipaddress.ip_address(addr).version == 6


def opened(addr, kind, proto=0, timeout=2.0):
    it = socket.socket(socket.AF_INET6 if v6(addr) else socket.AF_INET, kind, proto)
    it.settimeout(timeout)
    return it


def options(it, addr, values):
    level, at = (socket.IPPROTO_IPV6, 1) if v6(addr) else (socket.IPPROTO_IP, 0)
    for pair, value in values:
        it.setsockopt(level, pair[at], value)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo(addr, timeout):
    """Whether an echo request to `addr` is answered."""
    data = os.urandom(56)
    asks, answers = (128, 129) if v6(addr) else (8, 0)
    it = opened(addr, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6(addr) else socket.IPPROTO_ICMP, timeout)
    header = struct.pack("!BBHHH", asks, 0, 0, os.getpid() & 0xFFFF, 1)
    if not v6(addr):
        header = struct.pack("!BBHHH", asks, 0, checksum(header + data), os.getpid() & 0xFFFF, 1)
    it.sendto(header + data, (addr, 0))
    try:
        while True:
            packet, (source, *_) = it.recvfrom(2048)
            message = packet if v6(addr) else packet[(packet[0] & 15) * 4 :]
            if message[0] == answers and message[8:] == data:
                return source == addr or f"answered by {source}"
    except TimeoutError:
        return False


def ping(addr):
    answered = echo(addr, 2.0)
    return None if answered is True else f"ping {addr}: {answered or 'no answer'}"


def silent(addr, port):
    it = opened(addr, socket.SOCK_DGRAM, timeout=0.5)
    it.connect((addr, int(port)))
    it.send(b"?\n")
    try:
        return f"answered {it.recv(2048)}"
    except TimeoutError:
        return f"echo {answered}" if (answered := echo(addr, 0.5)) else None


def protocol(addr):
    it = opened(addr, socket.SOCK_RAW, GRE)
    it.connect((addr, 0))
    it.send(bytes(16))
    try:
        return f"answered {it.recv(2048)}"
    except ConnectionRefusedError:
        return None


def narrow(addr, port, mtu):
    it = opened(addr, socket.SOCK_DGRAM)
    options(it, addr, [((IP_MTU_DISCOVER, IPV6_MTU_DISCOVER), PMTUDISC_DO)])
    it.connect((addr, int(port)))
    level, name = (socket.IPPROTO_IPV6, IPV6_MTU) if v6(addr) else (socket.IPPROTO_IP, IP_MTU)
    if (known := it.getsockopt(level, name)) != 1500:
        return f"MTU {known} at first"
    it.settimeout(0.05)
    for _ in range(40):
        try:
            it.send(bytes(1400))
            it.recv(2048)
        except (OSError, TimeoutError):
            pass
        if (known := it.getsockopt(level, name)) == int(mtu):
            it.settimeout(2.0)
            it.send(bytes(1200))
            return None if it.recv(2048) else "no answer"
    return f"MTU {known} in the end"


def hops(addr, port, router, number=1):
    it = opened(addr, socket.SOCK_DGRAM)
    options(it, addr, [((IP_TTL, IPV6_UNICAST_HOPS), int(number)), ((IP_RECVERR, IPV6_RECVERR), 1)])
    it.connect((addr, int(port)))
    it.send(b"?\n")
    try:
        return f"answered {it.recv(2048)}"
    except OSError as error:
        if isinstance(error, TimeoutError):
            return "no error"
    _, [(_, _, data)], _, (about, number, *_) = it.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
    offender = data[16 + 8 : 16 + 24] if v6(addr) else data[16 + 4 : 16 + 8]
    told = (str(ipaddress.ip_address(offender)), data[5], about, number)
    expected = (router, 3 if v6(addr) else 11, addr, int(port))
    return None if told == expected else f"{told}, not {expected}"


def leave(addr, port):
    it = opened(addr, socket.SOCK_DGRAM)
    it.connect((addr, int(port)))
    it.send(b"?\n")


def abandoned(addr, port):
    it = opened(addr, socket.SOCK_DGRAM, timeout=5.0)
    it.bind((addr, int(port)))
    print("ready", flush=True)
    _, client = it.recvfrom(2048)
    sys.stdin.read()
    it.connect(client)
    it.send(b"!\n")
    try:
        return f"answered {it.recv(2048)}"
    except ConnectionRefusedError:
        return None


def offload(interface):
    value = array.array("I", [ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
    fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), SIOCETHTOOL, request)


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    try:
        sys.exit(globals()[verb](*rest))
    except TimeoutError:
        sys.exit(f"{verb}: neither an answer nor an error")
