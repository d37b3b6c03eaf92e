"""Many quick calls, and a log of what came back: id, status, whose body. One socket and one thread each.

Not httpx: a hundred thousand calls have to fit into some minutes beside the server that they load.
"""

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field

from tests.support.server import Server

_TIMEOUT_S = 30.0
_PAUSE_S = 0.02


@dataclass
class ClientLog:
    """What calls were answered, as their clients saw it."""

    answered: dict[str, int] = field(default_factory=dict)
    """Request id → status, of complete answers."""
    broken: int = 0
    """No complete answer: whether it ran is the books' word."""
    faults: list[str] = field(default_factory=list)
    """Answers that carry somebody else's body, ids that came twice."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def served(self) -> set[str]:
        return {one for one, status in self.answered.items() if status == 200}

    def note(self, request_id: str, status: int, body: bytes, marker: str) -> None:
        with self.lock:
            if request_id in self.answered:
                self.faults.append(f"{request_id} was the id of two answers")
            self.answered[request_id] = status
            if status == 200 and json.loads(body) != {"marker": marker}:
                self.faults.append(f"{request_id} carries {body[:100]!r} instead of {marker}")


class Hammer:
    """Calls a function from several threads until it is stopped, or ``pause_s`` apart."""

    def __init__(self, server: Server, function: str, *, threads: int = 4, pause_s: float = 0.0) -> None:
        self.log = ClientLog()
        host, _, port = server.gateway_url.removeprefix("http://").partition(":")
        self._address = (host, int(port))
        self._head = (
            f"POST /{server.tenant}/{function} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        return len(self.log.answered)

    def finish(self) -> None:
        """No call after the one that is under way."""
        self._stop.set()

    def stop(self) -> ClientLog:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.log

    def _run(self, number: int) -> None:
        count = 0
        connection: socket.socket | None = None
        while not self._stop.is_set():
            count += 1
            marker = f"{number}-{count}"
            try:
                connection = connection or socket.create_connection(self._address, _TIMEOUT_S)
            except OSError:
                time.sleep(_PAUSE_S)  # nothing was sent
                continue
            try:
                body = json.dumps({"marker": marker})
                connection.sendall(f"{self._head}{len(body)}\r\n\r\n{body}".encode())
                request_id, status, content = _answer(connection)
            except OSError:
                with self.log.lock:
                    self.log.broken += 1
                connection = _closed(connection)
                continue
            self.log.note(request_id, status, content, marker)
            if status == 503:
                connection = _closed(connection)
                time.sleep(_PAUSE_S)
            time.sleep(self._pause_s)
        _closed(connection)


def _answer(connection: socket.socket) -> tuple[str, int, bytes]:
    """→ request id, status, body. Raises OSError unless all of it came."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            raise ConnectionError("closed before the answer was whole")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(headers["content-length"])
    while len(body) < length:
        more = connection.recv(65_536)
        if not more:
            raise ConnectionError("closed before the body was whole")
        body += more
    return headers["tailcut-request-id"], int(lines[0].split(" ")[1]), body


def _closed(connection: socket.socket | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.close()
