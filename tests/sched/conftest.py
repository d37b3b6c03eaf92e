"""A server with a CPU that may be reserved; the tenant's reservation is put into its table, as a tier would do it."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.contract.table import REVISION_CHANNEL, TABLE_KEY
from tests.conftest import FREE_PORTS, server_environment
from tests.sched import kernel
from tests.support.server import Server

FUNCTIONS = """
import hashlib, os, threading, time
import tailcut


def burn(cpu_ms: float) -> dict:
    '''So much CPU time of this thread.'''
    end = time.thread_time_ns() + int(cpu_ms * 1e6)
    while time.thread_time_ns() < end:
        pass
    return {"pid": 1}


def burn_wall(seconds: float) -> dict:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return {}


def burn_threads(seconds: float, threads: int) -> dict:
    '''Without the interpreter's lock, so that the threads are as many CPU hogs.'''
    def hash_on() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2000)
    others = [threading.Thread(target=hash_on) for _ in range(threads)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    return {}


def burn_processes(seconds: float, processes: int) -> dict:
    '''In processes that are there before anybody can have seen that they burn.'''
    import subprocess, sys
    program = f"import time\\nend = time.monotonic() + {seconds}\\nwhile time.monotonic() < end: pass"
    others = [subprocess.Popen([sys.executable, "-I", "-S", "-c", program]) for _ in range(processes)]
    for one in others:
        one.wait()
    return {}


def sleep(seconds: float) -> dict:
    time.sleep(seconds)
    return {}


def escape() -> dict:
    '''What a function may not do to its own place.'''
    def attempt(what) -> str:
        try:
            what()
        except OSError as error:
            return error.strerror
        return "done"
    return {
        "class": attempt(lambda: os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))),
        "fifo": attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
        "nice": attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -1)),
        "affinity": attempt(lambda: os.sched_setaffinity(0, range(64))),
    }
"""
STYLES = ("burn", "burn_wall", "burn_threads", "sleep", "escape")
RESERVED_CPU = max(os.sched_getaffinity(0))


class Scheduled:
    """A server whose last CPU may be reserved, if the machine has two; ``can``: reservations must work here."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.missing = kernel.why_best_effort()

    @property
    def can(self) -> bool:
        return self.missing is None

    @property
    def promised(self) -> str:
        """What an answer must say once the reservation is in force: on a machine without the means, that it is not."""
        return "deadline" if self.can else "best-effort"

    def deploy_all(self, names: tuple[str, ...] = STYLES) -> None:
        for name in names:
            self.server.deploy(
                name.replace("_", "-"), FUNCTIONS, handler=f"main:{name}", timeout_ms=60_000, cpu_ms=60_000
            )

    def table(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes the tenant's row of the table, as a change of its tier would; returns once it is served."""
        (path,) = (self.server.data_dir / "run").glob("valkey.sock")
        with redis.Redis(unix_socket_path=str(path)) as client:
            document = json.loads(client.get(TABLE_KEY))  # type: ignore[arg-type]
            document["revision"] += 1
            (tenant,) = (one for one in document["tenants"] if one["name"] == self.server.tenant)
            change(tenant)
            client.set(TABLE_KEY, json.dumps(document))
            client.publish(REVISION_CHANNEL, document["revision"])
        self.server.wait_for(lambda: self._revision() >= document["revision"], what="the new revision")

    def reserve(self, runtime_us: int, period_us: int = 100_000, **more: Any) -> None:
        reservation = {"runtime_us": runtime_us, "deadline_us": period_us, "period_us": period_us, **more}
        self.table(lambda tenant: tenant.update(reservation=reservation))

    def withdraw(self) -> None:
        """And waits until nothing of it is left."""
        self.table(lambda tenant: tenant.update(reservation=None))
        self.server.wait_for(lambda: not kernel.partitions(), what="the end of the partitions")

    def sched(self, function: str, **arguments: Any) -> str:
        """Calls it once: what the answer says about its scheduling."""
        answer = self.server.invoke(function, **arguments)
        assert answer.status_code == 200, answer.text
        return str(answer.headers["Tailcut-Sched"])

    def settled(self, function: str, **arguments: Any) -> None:
        """Calls it until it runs as promised: the first worker may still be the one from before the reservation."""
        self.server.wait_for(lambda: self.sched(function, **arguments) == self.promised, what=f"{self.promised} calls")

    def _revision(self) -> int:
        lines = self.server.metrics().splitlines()
        return next((int(float(line.split()[1])) for line in lines if line.startswith("tailcut_revision ")), 0)

    def deadline_workers(self) -> set[int]:
        return kernel.deadline_threads() & self.server.worker_pids()


def start(data_dir: Path) -> Scheduled:
    option = ["--reserved-cpus", str(RESERVED_CPU)] if len(os.sched_getaffinity(0)) > 1 else []
    return Scheduled(Server(data_dir, server_environment(), *FREE_PORTS, "--no-example", *option))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduled]:
    wait_for_no_partition()
    running = start(tmp_path_factory.mktemp("sched"))
    running.deploy_all()
    yield running
    running.server.stop()


@pytest.fixture
def scheduled(shared: Scheduled) -> Iterator[Scheduled]:
    """Without a reservation before and after."""
    yield shared
    shared.withdraw()


def wait_for_no_partition() -> None:
    """Another test's server may be giving its CPU back."""
    deadline = time.monotonic() + 60
    while kernel.partitions():
        assert time.monotonic() < deadline, f"somebody holds {kernel.partitions()}"
        time.sleep(0.05)
