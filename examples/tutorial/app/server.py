"""A web application that says which replica answered, and whom it saw as the client.

HTTP on port 8000 and UDP on port 9000, IPv4 and IPv6; each answer is one line of JSON.
"""

import ipaddress
import json
import os
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POD = os.environ.get("POD_NAME", socket.gethostname())


def answer(client):
    """The line for a client, given as (address, port, ...)."""
    address = ipaddress.ip_address(client[0])
    # A dual-stack socket shows IPv4 clients as IPv4-mapped IPv6 addresses.
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    host = f"[{address}]" if address.version == 6 else str(address)
    return (json.dumps({"pod": POD, "client": f"{host}:{client[1]}"}) + "\n").encode()


class Http(BaseHTTPRequestHandler):
    # HTTP/1.0: the connection is closed after each answer, so every request chooses a pod anew.
    def do_GET(self):
        body = answer(self.client_address)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(answer(self.client_address), self.client_address)


class HttpServer(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128


class EchoServer(socketserver.UDPServer):
    address_family = socket.AF_INET6


if __name__ == "__main__":
    threading.Thread(target=EchoServer(("::", 9000), Echo).serve_forever, daemon=True).start()
    HttpServer(("::", 8000), Http).serve_forever()
