"""Raw HTTP over a socket, for what a well-behaved client cannot send: halves of requests, garbage, silence."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 30.0
"""So that a hanging server fails a test instead of stopping the suite; nothing asserts on it."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One client socket with a buffered reader of answers."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=TIMEOUT_S)
        self.reader = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, head: bool = False) -> Answer | None:
        """The next answer, or None when the server has closed the connection (orderly) before one."""
        line = self.reader.readline()
        if not line:
            return None
        version, status, _ = line.split(b" ", 2)
        assert version == b"HTTP/1.1", line
        headers: dict[str, str] = {}
        while (line := self.reader.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), f"headers cut: {line!r}"
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if status == b"100":
            return Answer(100, headers, b"")
        length = 0 if head or status in (b"204", b"304") else int(headers["content-length"])
        body = self.reader.read(length)
        assert len(body) == length, f"body cut: {len(body)} of {length} bytes"
        return Answer(int(status), headers, body)

    def closed(self) -> bool:
        """Waits until the server closes; True when it did without sending anything more."""
        try:
            return self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    connection = Connection(url)
    try:
        yield connection
    finally:
        connection.close()


def request(
    method: str, path: str, *, key: str | None = None, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    """The bytes of a well-formed HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    lines.extend(f"{name}: {value}" for name, value in (headers or {}).items())
    return "\r\n".join([*lines, "", ""]).encode() + body


def wait_until(condition: Any, *, what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The first true value of ``condition()``; fails the test with ``what`` when it never comes."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s} s in vain for: {what}")
