"""A zygote and workers made of plain Python, speaking the wire format of ``zigcore/src/pool/frame.zig``.

Run as a program: ``python fake_zygote.py SOCKET_PATH``. What a worker does is chosen by the path of each request, so
one program can play an honest function, a crashing one and a hostile one. Nothing here is shared with the real runtime:
the tests of the gateway do not depend on it being right.
"""

import array
import json
import mmap
import os
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

MAGIC = 0x54434631
REQUEST = struct.Struct("<IBBBBQ16sHHHHIIQQII")
ANSWER = struct.Struct("<IBBHQHHIII")
SPAWN = struct.Struct("<IB3xQII")
REPLY = struct.Struct("<IB3xQiiI4xQQ")
ANSWER_KIND, FAILURE_KIND, LOG_KIND, READY_KIND, FAILED_KIND, INTERRUPTED_KIND = 2, 3, 4, 5, 6, 7
SPAWNED, REFUSED, EXITED = 17, 18, 19
SHARED_BYTES = 12 * 2**20
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]


@dataclass
class Call:
    sequence: int
    method: str
    path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]
    body: bytes
    timeout_ns: int


def block(pairs: list[tuple[str, str]]) -> bytes:
    out = b""
    for name, value in pairs:
        n, v = name.encode("latin-1"), value.encode("latin-1")
        out += struct.pack("<HH", len(n), len(v)) + n + v
    return out


class Worker:
    def __init__(self, channel: socket.socket, memory_fd: int, spec: dict[str, Any]) -> None:
        self.channel = channel
        self.memory = mmap.mmap(memory_fd, SHARED_BYTES)
        self.spec = spec

    def frame(
        self, kind: int, sequence: int = 0, status: int = 0, headers: bytes = b"", count: int = 0, body: bytes = b""
    ) -> bytes:
        return ANSWER.pack(MAGIC, kind, 0, status, sequence, count, 0, len(headers), len(body), 0) + headers + body

    def run(self) -> None:
        time.sleep(self.spec.get("start_s", 0))
        if "exit_at_start" in self.spec:
            os._exit(self.spec["exit_at_start"])
        if "fail" in self.spec:
            self.channel.send(self.frame(FAILED_KIND, body=json.dumps(self.spec["fail"]).encode()))
            return
        self.channel.send(self.frame(READY_KIND, body=json.dumps({"style": "request", "pid": os.getpid()}).encode()))
        while data := self.channel.recv(65536 + 64):
            self.serve(self.decode(data))

    def decode(self, data: bytes) -> Call:
        fields = REQUEST.unpack_from(data)
        (
            magic,
            kind,
            flags,
            method,
            _,
            sequence,
            _,
            path_n,
            query_n,
            count,
            _,
            headers_n,
            body_n,
            timeout_ns,
            _,
            _,
            _,
        ) = fields
        assert (magic, kind) == (MAGIC, 1)
        at = REQUEST.size
        path = data[at : at + path_n].decode()
        at += path_n
        query = data[at : at + query_n].decode()
        at += query_n
        headers, end = [], at + headers_n
        for _ in range(count):
            n, v = struct.unpack_from("<HH", data, at)
            at += 4
            headers.append((data[at : at + n].decode("latin-1"), data[at + n : at + n + v].decode("latin-1")))
            at += n + v
        assert at == end
        body = bytes(self.memory[:body_n]) if flags & 1 else data[at:]
        assert len(body) == body_n
        return Call(
            sequence, METHODS[method], path, {k: v[-1] for k, v in parse_qs(query).items()}, headers, body, timeout_ns
        )

    def answer(self, call: Call, body: bytes, status: int = 200, headers: list[tuple[str, str]] | None = None) -> None:
        pairs = [("content-type", "application/octet-stream")] if headers is None else headers
        encoded = block(pairs)
        if len(body) > 32 * 1024:
            fits = body[: SHARED_BYTES // 2]
            self.memory[SHARED_BYTES // 2 : SHARED_BYTES // 2 + len(fits)] = fits
            head = ANSWER.pack(MAGIC, ANSWER_KIND, 1, status, call.sequence, len(pairs), 0, len(encoded), len(body), 0)
            self.channel.send(head + encoded)
        else:
            self.channel.send(self.frame(ANSWER_KIND, call.sequence, status, encoded, len(pairs), body))

    def serve(self, call: Call) -> None:
        q = call.query
        match call.path.split("/")[1]:
            case "sleep":
                time.sleep(float(q["s"]))
                self.answer(call, b"slept")
            case "burn":
                until = time.process_time() + float(q["s"])
                while time.process_time() < until:
                    pass
                self.answer(call, b"burnt")
            case "interrupted":
                self.channel.send(self.frame(INTERRUPTED_KIND, call.sequence, body=b"made up"))
                time.sleep(10)
            case "mark":
                # Says that code runs: once before the sleep, once after it.
                with Path(q["file"]).open("a") as file:
                    file.write("before\n")
                    file.flush()
                    time.sleep(float(q["s"]))
                    file.write("after\n")
                self.answer(call, b"marked")
            case "signal":
                os.kill(os.getpid(), int(q["n"]))
                time.sleep(10)
            case "exit":
                os._exit(int(q["n"]))
            case "big":
                self.answer(call, b"x" * int(q["n"]))
            case "status":
                self.answer(call, q.get("body", "").encode(), int(q["n"]))
            case "header":
                self.answer(
                    call,
                    b"",
                    headers=[(bytes.fromhex(q["name"]).decode("latin-1"), bytes.fromhex(q["value"]).decode("latin-1"))],
                )
            case "pid":
                self.answer(call, str(os.getpid()).encode())
            case "seen":
                seen = {
                    "method": call.method,
                    "path": call.path,
                    "query": q,
                    "headers": call.headers,
                    "body": len(call.body),
                }
                self.answer(call, json.dumps(seen).encode(), headers=[("content-type", "application/json")])
            case "log":
                for line in q["lines"].split(","):
                    self.channel.send(self.frame(LOG_KIND, call.sequence, 1, body=line.encode()))
                self.answer(call, b"logged")
            case "flood":
                while True:
                    self.channel.send(self.frame(LOG_KIND, call.sequence, 1, body=b"x" * 1000))
            case "raise":
                pairs = [
                    ("kind", "function-error"),
                    ("type", "ValueError"),
                    ("message", 'bad "x"'),
                    ("traceback", "Traceback…".encode().decode("latin-1")),
                ]
                encoded = block(pairs)
                self.channel.send(self.frame(FAILURE_KIND, call.sequence, 0, encoded, len(pairs)))
            case "arguments":
                pairs = [
                    ("kind", "invalid-arguments"),
                    ("argument", "amount\0must be a number"),
                    ("argument", "id\0is missing"),
                ]
                encoded = block(pairs)
                self.channel.send(self.frame(FAILURE_KIND, call.sequence, 0, encoded, len(pairs)))
            case "nonsense":
                pairs = [("kind", "invalid-arguments"), ("type", "TypeError"), ("message", "The body is not JSON.")]
                encoded = block(pairs)
                self.channel.send(self.frame(FAILURE_KIND, call.sequence, 0, encoded, len(pairs)))
            case "garbage":
                self.channel.send(
                    {
                        "short": b"x",
                        "magic": bytes(32),
                        "kind": self.frame(99, call.sequence),
                        "sequence": self.frame(ANSWER_KIND, call.sequence + 1, 200),
                        "length": self.frame(ANSWER_KIND, call.sequence, 200, body=b"abc")[:-1],
                        "long": self.frame(ANSWER_KIND, call.sequence, 200, body=b"x" * 65536),
                        "status": self.frame(ANSWER_KIND, call.sequence, 199),
                        "block": self.frame(ANSWER_KIND, call.sequence, 200, b"\xff\xff\0\0", 1),
                        "ready": self.frame(READY_KIND, body=b"{}"),
                        "empty": b"",
                    }[q["kind"]]
                )
                time.sleep(10)
            case "twice":
                self.answer(call, b"one")
                self.answer(call, b"two")
            case _:
                self.answer(call, call.body or b"hello")


def reply(connection: socket.socket, kind: int, request: int, pid: int, status: int, fd: int | None = None) -> None:
    ancillary = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    connection.sendmsg([REPLY.pack(MAGIC, kind, request, pid, status, 0, 0, 0)], ancillary)


class Zygote:
    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen(64)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.children: dict[int, tuple[socket.socket, int]] = {}
        self.wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.selector.register(self.wake_read, selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.selector.register(self.listener.accept()[0], selectors.EVENT_READ)
                elif key.fileobj == self.wake_read:
                    os.read(self.wake_read, 4096)
                    self.reap()
                else:
                    self.hear(key.fileobj)  # type: ignore[arg-type]

    def hear(self, connection: socket.socket) -> None:
        try:
            data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(8))
        except ConnectionResetError:  # a gateway that ended without reading its last reply
            data = b""
        if not data:
            self.selector.unregister(connection)
            connection.close()
            return
        fds = array.array("i", ancillary[0][2])
        _, _, request, _, spec_bytes = SPAWN.unpack_from(data)
        spec = json.loads(data[SPAWN.size : SPAWN.size + spec_bytes])
        if "refuse" in spec:
            for fd in fds:
                os.close(fd)
            reply(connection, REFUSED, request, 0, spec["refuse"])
            return
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self.listener.close()
            for key in list(self.selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
            try:
                Worker(socket.socket(fileno=fds[0]), fds[1], spec).run()
            finally:
                os._exit(0)
        for fd in fds:
            os.close(fd)
        self.children[pid] = (connection, request)
        pidfd = os.pidfd_open(pid)
        reply(connection, SPAWNED, request, pid, spec.get("spawned", 0), pidfd)
        os.close(pidfd)

    def reap(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection, request = self.children.pop(pid)
            try:
                reply(connection, EXITED, request, pid, status)
            except OSError:
                continue


if __name__ == "__main__":
    Zygote(sys.argv[1]).run()
