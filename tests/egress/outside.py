"""The world outside, in the tests' network namespace: HTTP on every address, an echo, a name server that rebinds.

Run as a program in the outer one of the two namespaces that conftest.py makes. Each HTTP answer says at which address
it was reached, so that a test sees where a connection went.
"""

import json
import socket
import socketserver
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

HTTP_PORTS = (80, 443, 8080, 2375)
ECHO_PORT = 4443
NAME_SERVER = "20.0.0.53"
PUBLIC, PRIVATE, METADATA = "20.1.1.10", "10.77.0.1", "169.254.169.254"
NAMES: dict[str, list[str]] = {
    "public.test": [PUBLIC],
    "private.test": [PRIVATE],
    "metadata.test": [METADATA],
    "loopback.test": ["127.0.0.1"],
    "mixed.test": [PRIVATE, PUBLIC],
}
"""``rebind.test`` is the public address in one answer and the private one in the next."""
_A = 1


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else b""
        if "to" in query:
            self.send_response(302)
            self.send_header("Location", query["to"])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "raw" in query:
            self.wfile.write(query["raw"].encode("latin-1"))
            self.close_connection = True
            return
        document = {
            "reached": self.connection.getsockname()[0].removeprefix("::ffff:"),
            "from": self.client_address[0].removeprefix("::ffff:"),
            "method": self.command,
            "target": self.path,
            "headers": [[name, value] for name, value in self.headers.items()],
            "body_bytes": len(body),
        }
        data = json.dumps(document).encode() + b" " * int(query.get("bytes", "0"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        pass


class Dual(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 1024
    daemon_threads = True


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)
        # The other side has ended its half: what comes now is the answer to that.
        self.request.sendall(b"[end]")


class EchoServer(socketserver.ThreadingTCPServer):
    request_queue_size = 1024
    daemon_threads = True


class Names(socketserver.BaseRequestHandler):
    rebound: ClassVar[int] = 0

    def handle(self) -> None:
        packet, sock = self.request
        name, at = [], 12
        while packet[at]:
            name.append(packet[at + 1 : at + 1 + packet[at]].decode())
            at += 1 + packet[at]
        (kind,) = struct.unpack_from(">H", packet, at + 1)
        asked = ".".join(name).lower()
        if asked == "slow.test":
            time.sleep(3600)
        found = NAMES.get(asked)
        if asked == "rebind.test":
            found = []
            if kind == _A:
                found = [PUBLIC if Names.rebound % 2 == 0 else PRIVATE]
                Names.rebound += 1
        answers = b""
        for address in found or []:
            if kind == _A:
                answers += struct.pack(">HHHIH", 0xC00C, _A, 1, 0, 4) + socket.inet_aton(address)
        count = len(answers) // 16
        head = packet[:2] + struct.pack(">HHHHH", 0x8180 if found is not None else 0x8183, 1, count, 0, 0)
        sock.sendto(head + packet[12 : at + 5] + answers, self.client_address)


def main() -> None:
    socketserver.ThreadingUDPServer.daemon_threads = True
    servers: list[socketserver.BaseServer] = [Dual(("::", port), Web) for port in HTTP_PORTS]
    servers += [EchoServer(("0.0.0.0", ECHO_PORT), Echo), socketserver.ThreadingUDPServer((NAME_SERVER, 53), Names)]
    for one in servers:
        threading.Thread(target=one.serve_forever, daemon=True).start()
    sys.stdout.write("ready")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
