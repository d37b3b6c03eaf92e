"""A running data plane with a fake zygote, for black-box tests of zigcore's gateway half."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
KEY = "tck_" + "a" * 40
OWNER = f"Authorization: Bearer {KEY}"
"""The header of a caller with the key of the tenant acme."""
OTHER_KEY = "tck_" + "b" * 40
NO_SCOPE_KEY = "tck_" + "c" * 40


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def version(index: int, function: str, **changes: Any) -> dict[str, Any]:
    row = {
        "index": index,
        "id": f"ver_{function}{index}",
        "tenant": 0,
        "function": function,
        "spawn": "{}",
        "timeout_ms": 3000,
        "concurrency_max": 8,
        "workers_min": 0,
        "request_bytes_max": 6 * 2**20,
        "output_bytes_max": 6 * 2**20,
        "log_bytes_max": 65536,
        "probe": False,
    }
    return row | changes


def route(function: str, index: int, qualifier: str = "live", public: bool = True, error: str = "") -> dict[str, Any]:
    return {
        "tenant": 0,
        "function": function,
        "qualifier": qualifier,
        "version": index,
        "public": public,
        "error": error,
    }


def revision(
    versions: list[dict[str, Any]], routes: list[dict[str, Any]], number: int = 1, concurrency_max: int = 1000
) -> dict[str, Any]:
    return {
        "revision": number,
        "tenants": [
            {
                "name": "acme",
                "concurrency_max": concurrency_max,
                "openapi_public": '{"openapi":"public"}',
                "openapi_all": '{"openapi":"all"}',
            },
            {"name": "other", "concurrency_max": 4, "openapi_public": "{}", "openapi_all": "{}"},
        ],
        "keys": [
            {"sha256": sha256(KEY), "tenant": 0, "invoke": True, "expires_at_s": 0},
            {"sha256": sha256(OTHER_KEY), "tenant": 1, "invoke": True, "expires_at_s": 0},
            {"sha256": sha256(NO_SCOPE_KEY), "tenant": 0, "invoke": False, "expires_at_s": 0},
        ],
        "versions": versions,
        "routes": routes,
    }


ECHO = revision([version(0, "echo")], [route("echo", 0)])


class Zygote:
    def __init__(self, path: Path, program: Path = HERE / "fake_zygote.py") -> None:
        self.path = path
        self.program = program
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self.process = subprocess.Popen([sys.executable, str(self.program), str(self.path)])
        deadline = time.monotonic() + 20
        while not self.path.exists():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Plane:
    """One data plane on a port of its own."""

    def __init__(self, zygote: Zygote, options: dict[str, Any]) -> None:
        self.zygote = zygote
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Small socket buffers, so that a client that does not read is felt at once (accepted sockets inherit theirs).
        self.small_windows = options.pop("small_windows", False)
        if self.small_windows:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(1024)
        self.port: int = self.listener.getsockname()[1]
        config = {
            "cpus": [max(os.sched_getaffinity(0))],
            "listen_fds": [self.listener.fileno()],
            "zygote_path": str(zygote.path),
        } | options
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "gateway_process.py"), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self.listener.fileno(), *options.pop("pass_fds", [])],
            text=True,
        )
        self.seen: list[dict[str, Any]] = []

    def command(self, name: str, argument: Any = None) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, argument]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the gateway's process ended: {self.process.wait()}"
        return json.loads(line)

    def apply(self, document: dict[str, Any]) -> None:
        result = self.command("apply", document)
        assert result["status"] == 0, result["error"]

    def event(self, kind: str, within_s: float = 20) -> dict[str, Any]:
        """The next event of a kind; earlier ones of others stay for later calls."""
        deadline = time.monotonic() + within_s
        while True:
            for at, item in enumerate(self.seen):
                if item["kind"] == kind:
                    return self.seen.pop(at)
            assert time.monotonic() < deadline, f"no event {kind}: {self.seen}"
            self.seen += self.command("events", 0.2)

    def connect(self) -> socket.socket:
        client = socket.socket()
        if self.small_windows:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.settimeout(30)
        client.connect(("127.0.0.1", self.port))
        return client

    def ask(self, raw: bytes) -> "Answer":
        with self.connect() as client:
            client.sendall(raw)
            return Answer.read(client)

    def get(self, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> "Answer":
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.ask("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def end(self) -> None:
        assert self.process.stdin is not None
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.listener.close()


class Answer:
    """One HTTP answer, read with a parser so small that it can be trusted."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["tailcut-request-id"]
        return document

    @staticmethod
    def read(client: socket.socket, head_only: bool = False, rest: bytearray | None = None) -> "Answer":
        data = rest if rest is not None else bytearray()
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            assert more, f"the connection ended inside a head: {bytes(data)!r}"
            data += more
        end = data.index(b"\r\n\r\n")
        first, *lines = bytes(data[:end]).decode("latin-1").split("\r\n")
        del data[: end + 4]
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        length = 0 if head_only else int(headers.get("content-length", "0"))
        while len(data) < length:
            more = client.recv(1 << 20)
            assert more, "the connection ended inside a body"
            data += more
        body = bytes(data[:length])
        del data[:length]
        if rest is None:
            assert not data
        return Answer(int(first.split(" ")[1]), headers, body)


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    one = Zygote(tmp_path / "zygote.sock")
    yield one
    one.kill()


@pytest.fixture
def make_plane(zygote: Zygote) -> Iterator[Callable[..., Plane]]:
    with ExitStack() as stack:

        def make(document: dict[str, Any] | None = ECHO, **options: Any) -> Plane:
            plane = Plane(zygote, options)
            stack.callback(plane.end)
            if document is not None:
                plane.apply(document)
            result = plane.command("start")
            assert result["status"] == 0, result["error"]
            return plane

        yield make


@pytest.fixture
def plane(make_plane: Callable[..., Plane]) -> Plane:
    return make_plane()
