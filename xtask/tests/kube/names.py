"""Resolves a name again and again until standard input ends, as a resolver does it: three tries of three seconds.

names.py SERVER udp|tcp NAME ADDRESS: prints how often NAME was resolved to ADDRESS; fails where it was not.
"""

import select
import socket
import struct
import sys
import time

server, transport, name, address = sys.argv[1:]
question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0" + struct.pack(">HH", 1, 1)


def ask(number):
    query = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, kind) as conn:
        conn.settimeout(3)
        conn.connect((server, 53))
        if transport == "udp":
            conn.send(query)
            return conn.recv(4096)
        conn.sendall(struct.pack(">H", len(query)) + query)
        with conn.makefile("rb") as stream:
            return stream.read(struct.unpack(">H", stream.read(2))[0])


def resolve(number, tries, patience=0):
    errors = []
    end = time.monotonic() + patience
    while len(errors) < tries or time.monotonic() < end:
        try:
            answer = ask(number)
            # One record whose address stands at the end.
            if answer[:2] == struct.pack(">H", number) and answer.endswith(socket.inet_aton(address)):
                return
            errors.append(answer.hex())
        except (OSError, struct.error) as error:
            errors.append(repr(error))
        time.sleep(0.1)
    sys.exit(f"{transport} {server}, query {number}: {errors}")


# The server may not have heard of the name yet, nor the node of the server.
resolve(0, 3, 60)
number = 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    number += 1
    resolve(number % 65536, 3)
print(number)
