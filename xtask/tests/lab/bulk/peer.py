"""One end of a transfer: `peer.py serve ADDR PORT` takes a stream, answers its digest and sends it back;
`peer.py ask ADDR PORT MIB` sends one, and fails unless digest and stream come back whole."""

import hashlib
import os
import socket
import sys
import time

CHUNK = 1 << 20


def serve(addr, port):
    listener = socket.create_server((addr, port), family=socket.AF_INET6 if ":" in addr else socket.AF_INET)
    while True:
        stream, _ = listener.accept()
        received = bytearray()
        while chunk := stream.recv(CHUNK):
            received += chunk
        stream.sendall(hashlib.sha256(received).digest() + received)
        stream.close()


def ask(addr, port, mib):
    # The server may still be starting.
    for _ in range(100):
        try:
            stream = socket.create_connection((addr, port), timeout=10)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    sent = os.urandom(mib * CHUNK)
    stream.sendall(sent)
    stream.shutdown(socket.SHUT_WR)
    received = bytearray()
    while chunk := stream.recv(CHUNK):
        received += chunk
    digest = hashlib.sha256(sent).digest()
    sys.exit(0 if received == digest + sent else f"{len(received)} bytes came back, not what was sent")


if __name__ == "__main__":
    verb, addr, port, *rest = sys.argv[1:]
    serve(addr, int(port)) if verb == "serve" else ask(addr, int(port), int(rest[0]))
