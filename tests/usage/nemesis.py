"""Faults for a running server, at moments that a seed chooses: kill -9 of everything on the way of a usage record.

Used by ``soak`` (and through it by the tests and ``make soak-books``). Moments are counts of answered calls, so that
the faults are spread over the whole load on a slow machine and on a quick one.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.support.server import Server
from tests.usage.client import Hammer

# What is struck, and how often beside the others. All of it lies between a call and Stripe.
WEIGHTS = {
    "gateway": 5,
    "consumer": 6,
    "valkey": 5,
    "control-plane": 3,
    "simulated-stripe": 2,
    "consumer stopped": 1,
    "valkey emptied": 2,
}
_STOPPED_S = 1.0
_JITTER_S = 0.4


def consumer_pid(server: Server) -> int | None:
    """The process that books usage: the only grandchild of the control plane."""
    control_plane = server.pid("control-plane")
    if control_plane is None:
        return None
    for pid in server.process_tree(control_plane) - {control_plane}:
        with contextlib.suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
            if parent != control_plane:
                return pid
    return None


@dataclass
class Nemesis:
    server: Server
    hammer: Hammer
    calls: int
    faults: int
    seed: int
    struck: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        self._random = random.Random(self.seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self) -> None:
        """Until the last fault."""
        self._thread.join()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        moments = sorted(self._random.randrange(self.calls) for _ in range(self.faults))
        kinds = self._random.sample(list(WEIGHTS), len(WEIGHTS))  # each once, then as they are weighed
        kinds += self._random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=self.faults)
        for moment, kind in zip(moments, kinds, strict=False):
            delay_s = self._random.random() * _JITTER_S
            while self.hammer.count < moment and not self._stop.is_set():
                time.sleep(0.005)
            if self._stop.is_set():
                return
            time.sleep(delay_s)
            self._strike(kind)

    def _strike(self, kind: str) -> None:
        """One that cannot be struck because it is being restarted is waited for."""
        match kind:
            case "valkey emptied":
                self._empty()
            case "consumer" | "consumer stopped":
                pid = self.server.wait_for(lambda: consumer_pid(self.server), what="a consumer")
                with contextlib.suppress(ProcessLookupError):  # its control plane may have been struck just before
                    if kind == "consumer":
                        os.kill(pid, signal.SIGKILL)
                    else:
                        os.kill(pid, signal.SIGSTOP)
                        time.sleep(_STOPPED_S)
                        os.kill(pid, signal.SIGCONT)
            case _:
                pid = self.server.wait_for(lambda: self.server.pid(kind), what=f"a running {kind}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.struck[kind] += 1

    def _empty(self) -> None:
        """All that Redis knows is lost, and it lives on."""

        def emptied() -> bool:
            try:
                with redis.Redis(unix_socket_path=str(valkey_socket(self.server)), socket_timeout=5) as client:
                    return bool(client.flushall())
            except (redis.RedisError, OSError):
                return False

        self.server.wait_for(emptied, what="a Valkey to be emptied")


def valkey_socket(server: Server) -> Path:
    """Its configuration says where."""
    for line in (server.data_dir / "valkey" / "valkey.conf").read_text().splitlines():
        if line.startswith("unixsocket "):
            return Path(line.split('"')[1])
    raise AssertionError("valkey.conf names no socket")
