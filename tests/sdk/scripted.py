"""A small real HTTP server on loopback that answers as a test says: what a healthy server cannot be made to do.

Each request takes the next reply of the script; after the last one the last is repeated. Requests are recorded.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    hang: bool = False
    """Never answers, until the server is closed."""
    cut: bool = False
    """Closes the connection in the middle of the body."""


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Scripted:
    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.replies: list[Reply] = [Reply()]
        self.routes: dict[str, list[Reply]] = {}
        """Replies of one path (without its query) instead of the common script."""
        self.url = ""
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def next(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            replies = self.routes.get(seen.path.split("?")[0], self.replies)
            return replies.pop(0) if len(replies) > 1 else replies[0]


def json_reply(document: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(document).encode(), {"content-type": "application/json", **headers})


def problem(
    status: int, name: str, *, component: str = "gateway", headers: Mapping[str, str] | None = None, **members: Any
) -> Reply:
    document = {
        "type": f"https://docs.example/errors/{name}",
        "title": name.replace("-", " "),
        "status": status,
        "detail": f"the detail of {name}",
        "request_id": "req_1",
        "component": component,
        **members,
    }
    return Reply(status, json.dumps(document).encode(), {"content-type": PROBLEM, **(headers or {})})


@contextmanager
def serve() -> Iterator[Scripted]:
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = script.next(Seen(self.command, self.path, headers, body))
            if reply.hang:
                script.closing.wait()
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            if reply.cut:
                self.wfile.write(reply.body[: len(reply.body) // 2])
                self.close_connection = True
                return
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield script
    finally:
        script.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
