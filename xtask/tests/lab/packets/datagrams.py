"""Long datagrams: `datagrams.py serve ADDR PORT` sends each back, `datagrams.py ask ADDR PORT SIZE...` fails unless one
of each size comes back whole, from where it was sent to."""

import os
import socket
import sys


def endpoint(addr):
    return socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)


def serve(addr, port):
    server = endpoint(addr)
    server.bind((addr, port))
    print("ready", flush=True)
    while True:
        data, client = server.recvfrom(1 << 16)
        server.sendto(data, client)


def ask(addr, port, sizes):
    client = endpoint(addr)
    client.settimeout(2)
    client.connect((addr, port))
    for size in sizes:
        sent = os.urandom(size)
        client.send(sent)
        if client.recv(1 << 16) != sent:
            sys.exit(f"{size} bytes came back changed")


if __name__ == "__main__":
    verb, addr, port, *sizes = sys.argv[1:]
    serve(addr, int(port)) if verb == "serve" else ask(addr, int(port), map(int, sizes))
