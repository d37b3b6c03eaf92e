"""Versions without a worker: how long the first call takes, how long 100 of them take at once, what a worker weighs.

Called by ``__main__``. The server of these measurements ends idle workers soon, so that a version is cold again.
"""

import contextlib
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.host import PeerError, environment
from tests.bench.load import ROOT, Target
from tests.bench.tailcut_server import TailcutServer, private_bytes
from tests.bench.workloads import HELLO

BURST = 100
_IDLE_S = 6
_ANSWER_TIMEOUT_S = 60.0
_REST_S = 0.8
"""A fresh worker gives half of its memory back when it has rested for half a second (docs/decisions, 0026)."""
_FORKS = 200
_SERVED_IN_A_ROW = 300
_WEIGHED = 20


@dataclass(frozen=True, slots=True)
class Cold:
    """All of one state mode; milliseconds."""

    state: str
    first_call_ms: list[float]
    burst_ms: list[float]
    private_bytes: list[int]
    """Of idle workers that have answered once."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the cold figures are divided by."""

    python_ms: float
    """`python3 -c pass`, whatever `python3` is here."""
    interpreter_ms: float
    """The same with the interpreter itself: `python3` may be a script that looks for one."""
    fork_ms: float
    """fork + exit + wait of a process that is what the zygote is."""
    cpus: int


def baseline(rounds: int) -> Baseline:
    python, interpreter = [], []
    for _ in range(rounds):
        python.append(_timed(["python3", "-c", "pass"]))
        interpreter.append(_timed([str(Path(sys.executable).resolve()), "-c", "pass"]))
    command = [sys.executable, "-m", "tests.bench.zygote_fork", str(_FORKS)]
    result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    if result.returncode:
        raise PeerError(f"the zygote's forks cannot be timed: {result.stderr[-500:]}")
    usable = len(os.sched_getaffinity(0))
    return Baseline(statistics.median(python), statistics.median(interpreter), float(result.stdout) / 1000, usable)


def measure(folder: Path, states: list[str], calls: int, bursts: int) -> list[Cold]:
    settings = {"TAILCUT_WORKER_IDLE_TIMEOUT": str(_IDLE_S)}
    server = TailcutServer(sorted(os.sched_getaffinity(0)), folder, settings)
    try:
        server.start()
        prime = server.deploy("prime", HELLO, "warm", workers_min=1)
        return [_state(server, prime, state, calls, bursts) for state in states]
    finally:
        server.stop()


def _state(server: TailcutServer, prime: Target, state: str, calls: int, bursts: int) -> Cold:
    targets = server.deploy_many([f"cold-{state}-{n:03}" for n in range(BURST)], HELLO, state)
    first, bursts_ms, weights = [], [], []
    _until_cold(server)
    until_served(prime)
    for target in targets[:calls]:
        started = time.perf_counter()
        together([target])
        first.append((time.perf_counter() - started) * 1000)
    for _ in range(bursts):
        _until_cold(server)
        until_served(prime)
        started = time.perf_counter()
        together(targets)
        bursts_ms.append((time.perf_counter() - started) * 1000)
        time.sleep(_REST_S)
        for pid in server.workers()[:_WEIGHED]:
            # One may have been idle for long enough meanwhile.
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                weights.append(private_bytes(pid))
    return Cold(state, first, bursts_ms, weights)


def together(targets: list[Target]) -> None:
    """One request to each, on connections that are open before; returns when all have answered 200."""
    with selectors.DefaultSelector() as selector:
        connections = []
        for target in targets:
            url = urlsplit(target.url)
            connection = socket.create_connection((url.hostname or "", url.port or 80))
            head = f"POST {url.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nConnection: close\r\n"
            head += f"Authorization: {target.authorization}\r\nContent-Length: {len(target.body)}\r\n\r\n"
            selector.register(connection, selectors.EVENT_READ, bytearray())
            connections.append((connection, (head + target.body).encode()))
        for connection, request in connections:
            connection.sendall(request)
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        while selector.get_map():
            for key, _ in selector.select(1.0):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                piece = client.recv(65536)
                key.data.extend(piece)
                if not piece:
                    selector.unregister(client)
                    client.close()
                    if not key.data.startswith(b"HTTP/1.1 200"):
                        raise PeerError(f"a cold call was answered {bytes(key.data[:600])!r}")
            if time.monotonic() > deadline:
                raise PeerError(f"{len(selector.get_map())} cold calls were not answered in {_ANSWER_TIMEOUT_S:g} s")


def until_served(target: Target) -> None:
    """A node leases its tenants' quotas in slices, by what they used lately: a burst out of silence may find too little
    (and is refused). Calls of a function that is warm make it lease enough."""
    deadline = time.monotonic() + _ANSWER_TIMEOUT_S
    served = 0
    while served < _SERVED_IN_A_ROW:
        try:
            together([target])
            served += 1
        except PeerError:
            served = 0
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _until_cold(server: TailcutServer) -> None:
    deadline = time.monotonic() + 60
    # One on each CPU is kept, to be called before a burst.
    while len(workers := server.workers()) > len(server.cpus.split(",")):
        if time.monotonic() > deadline:
            raise PeerError(f"{len(workers)} workers do not end when they are idle")
        time.sleep(0.2)


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment())
    return (time.perf_counter() - started) * 1000
