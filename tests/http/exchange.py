"""Sends raw bytes to a server, in pieces as asked, and reads every answer until the server closes.

Knows nothing of any table. Nothing here asserts a time; the time-out only keeps a hanging server from stopping
the suite.
"""

import contextlib
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"

    def json(self) -> Any:
        return json.loads(self.body)


def exchange(
    host: str, port: int, stream: bytes, *, piece_bytes: int | None, half_close: bool, after: bytes = b""
) -> bytes:
    """Everything the server sends in return, up to its close.

    ``after`` is sent behind the stream in one piece. ``half_close`` says that no more will come; without it the server
    must close of its own accord.
    """
    received = bytearray()
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        step = piece_bytes or max(len(stream), 1)
        pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
        # The server may refuse and close while we still send: what counts is what it answered.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in [*pieces, after]:
                client.sendall(piece)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(65536):
                received += data
    return bytes(received)


def answers(received: bytes, methods: Sequence[str]) -> list[Answer]:
    """The final answers (1xx left out) in ``received``, all of it; ``methods`` says which ones have no body."""
    found: list[Answer] = []
    while received:
        head, separator, received = received.partition(b"\r\n\r\n")
        assert separator, f"the answer's head is cut: {head!r}"
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1", status_line
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status.startswith("1"):
            continue
        head_only = len(found) < len(methods) and methods[len(found)] == "HEAD"
        length = 0 if head_only or status in ("204", "304") else int(headers["content-length"])
        assert len(received) >= length, f"the answer's body is cut: {len(received)} of {length} bytes"
        found.append(Answer(int(status), headers, received[:length]))
        received = received[length:]
    return found
