"""A server by HTTP and UDP that gives back what it gets, and a client that sends 2000 bytes."""

import http.client
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

MESSAGE = "42" * 1000


class Http(BaseHTTPRequestHandler):
    def do_GET(self):
        body = parse_qs(urlparse(self.path).query)["msg"][0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def serve(port):
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.bind(("::", port))

    def echo():
        while True:
            data, client = datagrams.recvfrom(65536)
            datagrams.sendto(data, client)

    threading.Thread(target=echo, daemon=True).start()
    server = Server(("::", port), Http)
    print("ready", flush=True)
    server.serve_forever()


def ask_http(host, port):
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", f"/echo?msg={MESSAGE}")
    return connection.getresponse().read()


def ask_udp(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.connect((host, port))
        client.send(MESSAGE.encode())
        return client.recv(65536)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    ask = {"http": ask_http, "udp": ask_udp}[sys.argv[1]]
    got = ask(sys.argv[2], int(sys.argv[3]))
    assert got == MESSAGE.encode(), f"{len(got)} bytes"
