"""The gateway's side of the wire format, in Python: drives a real zygote and real workers from tests.

Mirrors zigcore/src/pool/frame.zig; tests/worker/test_frames.py compares the numbers with the Zig source.
"""

import json
import mmap
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MAGIC = 0x54434631
REQUEST = struct.Struct("<IBBBxQ16sHHHxxIIQQII")
ANSWER = struct.Struct("<IBBHQHxxIIxxxx")
SPAWN = struct.Struct("<IB3xQII")
REPLY = struct.Struct("<IB3xQiiI4xQQ")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
FLAG_BODY_SHARED = 1
FLAG_LAST = 2
FLAG_SHARED_EMPTY = 4
KINDS = {2: "answer", 3: "failure", 4: "log", 5: "ready", 6: "failed", 7: "interrupted"}
ZYGOTE_KINDS = {17: "spawned", 18: "refused", 19: "exited"}
BODY_BYTES_MAX = 6 * 2**20
SHARED_BYTES = 2 * BODY_BYTES_MAX
BODY_INLINE_BYTES_MAX = 32 * 1024
FRAME_BYTES_MAX = 64 * 1024
DEADLINE_S = 30.0
"""Only so that a broken worker does not hang the tests."""


@dataclass
class Frame:
    kind: str
    status: int
    sequence: int
    entries: list[tuple[str, str]]
    body: bytes
    shared: bool = False
    last: bool = False
    """The worker ends after it."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.entries)

    def all(self, name: str) -> list[str]:
        return [value for entry, value in self.entries if entry == name]


@dataclass
class Outcome:
    """All that came of one invocation."""

    answer: Frame
    logs: list[tuple[int, str]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def json(self) -> Any:
        return self.answer.json

    @property
    def headers(self) -> dict[str, str]:
        return self.answer.headers


def block(entries: list[tuple[str, str]]) -> bytes:
    parts = []
    for name, value in entries:
        raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
        parts.append(struct.pack("<HH", len(raw_name), len(raw_value)) + raw_name + raw_value)
    return b"".join(parts)


def entries_of(raw: bytes, count: int) -> list[tuple[str, str]]:
    entries = []
    at = 0
    for _ in range(count):
        name_bytes, value_bytes = struct.unpack_from("<HH", raw, at)
        at += 4
        name = raw[at : at + name_bytes].decode()
        at += name_bytes
        entries.append((name, raw[at : at + value_bytes].decode("utf-8", "surrogateescape")))
        at += value_bytes
    assert at == len(raw)
    return entries


class Worker:
    """One worker, as the gateway sees it."""

    def __init__(self, pid: int, pidfd: int, request: int, channel: socket.socket, shared: mmap.mmap) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.request = request
        self.channel = channel
        self.shared = shared
        self.sequence = 0
        self.start_logs: list[tuple[int, str]] = []

    def receive(self) -> Frame:
        """Raises EOFError when the worker is gone."""
        try:
            raw = self.channel.recv(FRAME_BYTES_MAX + 1)
        except ConnectionResetError:
            raw = b""
        if not raw:
            raise EOFError
        magic, kind, flags, status, sequence, count, headers_bytes, body_bytes = ANSWER.unpack_from(raw)
        assert magic == MAGIC
        head_end = ANSWER.size + headers_bytes
        shared = bool(flags & FLAG_BODY_SHARED)
        body = self.shared[BODY_BYTES_MAX : BODY_BYTES_MAX + body_bytes] if shared else raw[head_end:]
        assert len(body) == body_bytes
        return Frame(
            KINDS[kind],
            status,
            sequence,
            entries_of(raw[ANSWER.size : head_end], count),
            body,
            shared,
            bool(flags & FLAG_LAST),
        )

    def first_word(self) -> Frame:
        while (frame := self.receive()).kind == "log":
            self.start_logs.append((frame.status, frame.body.decode()))
        return frame

    def send(
        self,
        body: bytes = b"",
        *,
        method: str = "POST",
        path: str = "/",
        query: str = "",
        headers: list[tuple[str, str]] | None = None,
        log_bytes_max: int = 64 * 1024,
        timeout_ns: int = 3_000_000_000,
        cpu_ns: int = 3_000_000_000,
        output_bytes_max: int = BODY_BYTES_MAX,
        invocation: bytes = bytes(range(16)),
    ) -> None:
        self.sequence += 1
        head = block(headers or [])
        shared = len(body) > BODY_INLINE_BYTES_MAX
        if shared:
            self.shared[: len(body)] = body
        raw_path, raw_query = path.encode(), query.encode()
        frame = REQUEST.pack(
            MAGIC, 1, FLAG_BODY_SHARED if shared else 0, METHODS.index(method), self.sequence, invocation,
            len(raw_path), len(raw_query), len(headers or []), len(head), len(body), timeout_ns, cpu_ns,
            log_bytes_max, output_bytes_max,
        )  # fmt: skip
        self.channel.send(frame + raw_path + raw_query + head + (b"" if shared else body))

    def outcome(self) -> Outcome:
        logs: list[tuple[int, str]] = []
        while (frame := self.receive()).kind == "log":
            assert frame.sequence == self.sequence
            logs.append((frame.status, frame.body.decode()))
        assert frame.sequence == self.sequence
        return Outcome(frame, logs)

    def invoke(self, body: bytes = b"", **about: Any) -> Outcome:
        self.send(body, **about)
        return self.outcome()

    def call(self, **arguments: Any) -> Outcome:
        return self.invoke(json.dumps(arguments).encode())

    def ended(self) -> bool:
        """Waits for its end."""
        return bool(select.select([self.pidfd], [], [], DEADLINE_S)[0])

    def close(self) -> None:
        self.channel.close()
        self.shared.close()
        os.close(self.pidfd)


class Connection:
    """One reactor's connection to the zygote."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(str(path))
        self.request = 0
        self.exits: dict[int, int] = {}

    def ask(self, spec: bytes, cpu: int, fds: list[int]) -> int:
        self.request += 1
        socket.send_fds(self.socket, [SPAWN.pack(MAGIC, 16, self.request, cpu, len(spec)) + spec], fds)
        return self.request

    def reply(self) -> tuple[str, int, int, int, str, list[int]]:
        """Kind, request, pid, status, text, descriptors."""
        raw, fds, _flags, _address = socket.recv_fds(self.socket, 4096, 4)
        if not raw:
            raise EOFError
        magic, kind, request, pid, status, _oom_kills, _peak_bytes, _cpu_ns = REPLY.unpack_from(raw)
        assert magic == MAGIC
        return ZYGOTE_KINDS[kind], request, pid, status, raw[REPLY.size :].decode(), fds

    def spawn(
        self,
        code_path: Path,
        handler: str,
        env: dict[str, str] | None = None,
        cpu: int | None = None,
        state: str = "warm",
        **limits: int | bool,
    ) -> Worker:
        """Starts a worker; its first word is still to come. ``limits``: of gateway.contract.worker.SpawnSpec."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(DEADLINE_S)
        memory = os.memfd_create("shared")
        os.ftruncate(memory, SHARED_BYTES)
        spec = {
            "tenant": "acme", "function": "sample", "version_id": "ver_1",
            "code_path": str(code_path), "handler": handler, "env": env or {}, "state": state, "describe": True,
            **limits,
        }  # fmt: skip
        where = min(os.sched_getaffinity(0)) if cpu is None else cpu
        request = self.ask(json.dumps(spec).encode(), where, [theirs.fileno(), memory])
        theirs.close()
        while (answer := self.reply())[0] == "exited":
            self.exits[answer[1]] = answer[3]
        kind, echoed, pid, _status, text, fds = answer
        assert kind == "spawned", text
        assert echoed == request
        shared = mmap.mmap(memory, SHARED_BYTES)
        os.close(memory)
        return Worker(pid, fds[0], request, ours, shared)

    def exit_of(self, worker: Worker) -> int:
        """The wait status that the zygote reports."""
        while worker.request not in self.exits:
            kind, request, _pid, status, _text, _fds = self.reply()
            assert kind == "exited"
            self.exits[request] = status
        return self.exits[worker.request]

    def close(self) -> None:
        self.socket.close()


class Zygote:
    """A real zygote on a socket in ``folder``."""

    def __init__(
        self, folder: Path, *, before: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """``before``: a command that runs it under other circumstances."""
        self.path = folder / "zygote.sock"
        self._before = before
        self._environment = environment or {}
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        self.listener.listen(16)
        self.start()

    def start(self) -> None:
        fd = self.listener.fileno()
        self.process = subprocess.Popen(
            [*self._before, sys.executable, "-m", "gateway.zygote", "--fd", str(fd)],
            pass_fds=[fd],
            env={**os.environ, "TAILCUT_SECRET_OF_THE_SERVER": "visible", **self._environment},
        )

    def connect(self) -> Connection:
        return Connection(self.path)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        self.listener.close()


def wait_until(condition: Any) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
