"""Many functions on one node: 50 in turns, and 1,000 deployed with 200 of them live.

Called by ``__main__``.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench import cold, load
from tests.bench.load import Run, Target
from tests.bench.tailcut_server import TailcutServer, private_bytes
from tests.bench.workloads import HELLO

_WEIGHED = 20


@dataclass(frozen=True, slots=True)
class Crowd:
    deployed: int
    live: int
    deploy_s: float
    """Until the last was ready: 8 deployments at a time."""
    gateway_bytes: int
    zygote_bytes: int
    worker_bytes: int
    """Private memory of an idle worker, on average."""
    run: Run
    """wrk, 16 connections, each call to the next of the live functions."""


def in_turns(targets: list[Target]) -> Target:
    return replace(targets[0], paths=tuple(urlsplit(target.url).path for target in targets))


def measure(folder: Path, cpu: int, load_cpu: int, deployed: int, live: int, seconds: int, state: str) -> Crowd:
    server = TailcutServer([cpu], folder, {"TAILCUT_WORKER_IDLE_TIMEOUT": "600"})
    try:
        server.start()
        started = time.monotonic()
        # Each is proven by one worker, which stays for the live ones only if it is called.
        targets = server.deploy_many([f"crowd-{n:04}" for n in range(deployed)], HELLO, state)
        deploy_s = time.monotonic() - started
        chosen = targets[-live:]
        cold.until_served(chosen[0])
        cold.together(chosen)
        target = in_turns(chosen)
        load.run(target, 1, 16, load_cpu)
        run = load.run(target, seconds, 16, load_cpu)
        workers = server.workers()
        pids = server.pids()
        weighed = [private_bytes(pid) for pid in workers[:_WEIGHED]]
        gateway = next(pid for name, pid in pids.items() if name.startswith("gateway"))
        zygote = next(pid for name, pid in pids.items() if "zygote" in name)
        return Crowd(
            deployed, len(workers), deploy_s, private_bytes(gateway), private_bytes(zygote),
            sum(weighed) // max(len(weighed), 1), run,
        )  # fmt: skip
    finally:
        server.stop()
