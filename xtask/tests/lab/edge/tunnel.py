"""A wire between two network namespaces whose packets have no link-layer header: a TUN device at each end.

tunnel.py NETNS NAME NETNS NAME    makes both devices, says "ready" and carries what they send until it is killed
"""

import ctypes
import fcntl
import os
import select
import struct
import sys

# linux/sched.h, linux/if_tun.h
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def end(netns, name):
    """One end; this process is in its namespace afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{netns}") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {netns}")
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def carry(one, two):
    poll = select.poll()
    other = {one: two, two: one}
    for tun in other:
        poll.register(tun, select.POLLIN)
    while True:
        for tun, events in poll.poll():
            if events & (select.POLLERR | select.POLLHUP):
                return
            try:
                os.write(other[tun], os.read(tun, 65536))
            except OSError:
                # An end that is down loses packets.
                pass


if __name__ == "__main__":
    ends = [end(*sys.argv[at : at + 2]) for at in (1, 3)]
    print("ready", flush=True)
    carry(*ends)
