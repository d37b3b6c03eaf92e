"""The admin port: metrics and health over plain HTTP on loopback, behind a listening socket of the supervisor.

Not on any hot path: one small GET at a time per connection, which is closed after its answer.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_REQUEST_BYTES_MAX = 8 * 1024
_REQUEST_TIMEOUT_S = 5.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True)
class AdminAnswer:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class AdminServer:
    """Answers GET and HEAD of the given paths."""

    def __init__(self, pages: Mapping[str, Callable[[], AdminAnswer]]) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """``listener`` stays open in the supervisor when this process closes it."""
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=_REQUEST_BYTES_MAX)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, answer = self._answer(head)
                reason = _REASONS[answer.status]
                writer.write(
                    f"HTTP/1.1 {answer.status} {reason}\r\nContent-Type: {answer.content_type}\r\n"
                    f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n".encode()
                )
                if method != b"HEAD":
                    writer.write(answer.body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client's business: it asked for nothing, or went away
        finally:
            writer.close()

    def _answer(self, head: bytes) -> tuple[bytes, AdminAnswer]:
        parts = head.partition(b"\r\n")[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return b"", AdminAnswer(400, b"not an HTTP/1 request\n")
        if parts[0] not in (b"GET", b"HEAD"):
            return parts[0], AdminAnswer(405, b"only GET\n")
        page = self._pages.get(parts[1].partition(b"?")[0].decode("latin-1"))
        if page is None:
            paths = " ".join(self._pages)
            return parts[0], AdminAnswer(404, f"there are {paths}\n".encode())
        return parts[0], page()
