"""The neighbour test: p99 of a function that computes for 5 ms, alone and while eight others burn CPU and memory.

Called by ``__main__``. Four places for the same function and the same eight hogs: a tenant with a CPU reservation; one
without, where an invocation that burns is demoted; and plain processes under gunicorn, one for each, unisolated, with
weights as far apart as they go (nice 0 against 19) and with equal ones. Weights alone are those of processes, since
demotion cannot be switched off, and a switch that only a benchmark uses would be a mode that nobody else tests. The
rate is fixed and open-loop (``neighbour_load``).

Tailcut's server, the function and the hogs have one CPU, the load another. The reservation's CPU is a third; where
there are but two it is the load's, on which the client goes before everybody but the reserved worker. Plain processes
have all CPUs that the reserved place has, so that the reservation is compared with what its CPU would do without it.
What always holds: a call that is not answered 200 makes no measurement, nor does a reservation that calls ran without.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.bench import neighbour_load
from tests.bench.host import PeerError, environment, free_port, pinned, script
from tests.bench.load import ROOT, Target
from tests.bench.neighbour_load import Latency

HOGS_COUNT = 8
RATE_PER_S = 20
_HOGS_START_S = 2.0
"""Until all of them burn, and those that can be demoted are."""
_RESERVED_SHARE_MIN = 0.9
"""Of the calls. A few may find the reserved workers busy, and run as their tier says: that is what its tenant gets."""
FUNCTION = """
import time

def handler() -> dict:
    end = time.thread_time_ns() + 5_000_000
    while time.thread_time_ns() < end:
        pass
    return {}
"""
HOG = """
import time

def handler() -> dict:
    block = bytearray(32 * 2**20)
    end = time.thread_time_ns() + 500_000_000
    while time.thread_time_ns() < end:
        block[:] = bytes(len(block))
    return {}
"""
WSGI = """
def application(environ, start_response):
    handler()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b"{}"]
"""


@dataclass(slots=True)
class Neighbour:
    """One place, its rounds in their order."""

    alone: list[Latency] = field(default_factory=list)
    noisy: list[Latency] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """p99 among hogs ÷ p99 alone, the median of the rounds each."""
        return self.noisy_p99_us / statistics.median(one.p99_us for one in self.alone)

    @property
    def noisy_p99_us(self) -> float:
        return statistics.median(one.p99_us for one in self.noisy)

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.alone + self.noisy)


@dataclass(frozen=True, slots=True)
class Cpus:
    server: int
    load: int

    @property
    def reserved(self) -> int:
        return next(iter(sorted(os.sched_getaffinity(0) - {self.server, self.load})), self.load)


@dataclass(frozen=True, slots=True)
class Place:
    """What to call, and who burns meanwhile."""

    quick: Target
    hogs: list[Target]


def measure(name: str, folder: Path, cpus: Cpus, seconds: float, rounds: int, tell: Callable[[str], None]) -> Neighbour:
    """``name``: of PLACES. Alone and noisy in turns."""
    found = Neighbour()
    with PLACES[name](folder, cpus) as place:
        for target in (place.quick, *place.hogs):
            until_served(target, folder)
        for number in range(rounds):
            alone = neighbour_load.measure(place.quick, RATE_PER_S, seconds, cpus.load)
            with neighbour_load.burning(place.hogs, cpus.load):
                time.sleep(_HOGS_START_S)
                noisy = neighbour_load.measure(place.quick, RATE_PER_S, seconds, cpus.load)
            for when, one in (("alone", alone), ("noisy", noisy)):
                failed = f", {one.failed} FAILED" if one.failed else ""
                times = f"p50 {one.p50_us / 1000:.1f} ms, p99 {one.p99_us / 1000:.1f} ms"
                share = f", {one.reserved} under the reservation" if name == "reserved" else ""
                what = f"neighbour, {name}, round {number + 1}/{rounds}, {when}"
                tell(f"{what}: {times}, {one.requests} calls{share}{failed}")
                if name == "reserved" and one.reserved < one.requests * _RESERVED_SHARE_MIN:
                    raise PeerError(f"only {one.reserved} of {one.requests} calls ran under the reservation")
            found.alone.append(alone)
            found.noisy.append(noisy)
    return found


# -- Tailcut ----------------------------------------------------------------------------------------------------------


def reserved(folder: Path, cpus: Cpus) -> AbstractContextManager[Place]:
    return tailcut(folder, "scale", cpus.server, cpus.reserved)


def best_effort(folder: Path, cpus: Cpus) -> AbstractContextManager[Place]:
    return tailcut(folder, "pro", cpus.server, None)


@contextlib.contextmanager
def tailcut(folder: Path, tier: str, cpu: int, reserved_cpu: int | None) -> Iterator[Place]:
    """A tenant for the function, on ``tier``, and one for each hog."""
    folder.mkdir()
    folder.chmod(0o755)
    data = folder / "data"
    usable = [cpu] if reserved_cpu is None else [cpu, reserved_cpu]
    command = [*pinned(",".join(map(str, usable))), script("tailcut-server"), "up", "--detach", "--no-example"]
    command += ["--data-dir", str(data), "--cpus", str(cpu)]
    command += [option for name in ("gateway", "control-plane", "admin") for option in (f"--{name}-port", "0")]
    command += [] if reserved_cpu is None else ["--reserved-cpus", str(reserved_cpu)]
    try:
        checked(command)
        credentials = json.loads((data / "dev-credentials.json").read_text())
        control_plane, gateway = credentials["control_plane_url"], credentials["gateway_url"]
        token = (data / "operator-token").read_text().strip()
        with httpx.Client(base_url=control_plane, headers={"Authorization": f"Bearer {token}"}, timeout=60) as operator:

            def target(tenant: str, tier: str, source: str) -> Target:
                key = deployed(operator, folder, tenant, tier, source)
                return Target(f"{gateway}/{tenant}/f", "{}", f"Bearer {key}")

            quick = target("quick", tier, FUNCTION)
            hogs = [target(f"hog{number}", "pro", HOG) for number in range(HOGS_COUNT)]
        yield Place(quick, hogs)
    finally:
        down = [script("tailcut-server"), "down", "--data-dir", str(data)]
        subprocess.run(down, cwd=ROOT, capture_output=True, timeout=90, env=environment())


def deployed(operator: httpx.Client, folder: Path, tenant: str, tier: str, source: str) -> str:
    """Makes the tenant with its one function ``f``; returns its key."""
    created = operator.post("/v1/tenants", json={"name": tenant}).raise_for_status().json()
    operator.put(f"/v1/tenants/{created['id']}/subscription", json={"tier": tier}).raise_for_status()
    key = str(created["key"].get("token") or created["key"]["key"])
    code = folder / f"code-{tenant}"
    code.mkdir()
    (code / "main.py").write_text(source)
    command = [script("tailcut"), "deploy", str(code), "--name", "f", "--handler", "main:handler", "--timeout", "30s"]
    checked([*command, "--json", "--server", str(operator.base_url), "--key", key])
    return key


def checked(command: list[str]) -> None:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, env=environment())
    if result.returncode:
        raise PeerError(f"{' '.join(command[:8])} failed:\n{(result.stdout + result.stderr)[-3000:]}")


# -- Plain processes --------------------------------------------------------------------------------------------------


def weights(folder: Path, cpus: Cpus) -> AbstractContextManager[Place]:
    return plain(folder, f"{cpus.server},{cpus.reserved}", 19)


def equal(folder: Path, cpus: Cpus) -> AbstractContextManager[Place]:
    return plain(folder, f"{cpus.server},{cpus.reserved}", 0)


@contextlib.contextmanager
def plain(folder: Path, cpus: str, hogs_nice: int) -> Iterator[Place]:
    """A gunicorn with one worker for the function and for each hog, wherever the kernel puts them on ``cpus``."""
    folder.mkdir()
    (folder / "quick.py").write_text(FUNCTION + WSGI)
    (folder / "hog.py").write_text(HOG + WSGI)
    with contextlib.ExitStack() as stack:
        quick = stack.enter_context(gunicorn(folder, "quick", cpus, 0))
        hogs = [stack.enter_context(gunicorn(folder, "hog", cpus, hogs_nice)) for _ in range(HOGS_COUNT)]
        yield Place(quick, hogs)


@contextlib.contextmanager
def gunicorn(folder: Path, module: str, cpus: str, nice: int) -> Iterator[Target]:
    port = free_port()
    command = [*pinned(cpus), "nice", "-n", str(nice), sys.executable, "-m", "gunicorn", "--workers", "1"]
    # Threads only so that connections are kept alive (a short while by default: one that closes is a request that
    # fails); the interpreter's lock lets one of them compute.
    command += ["--threads", "4", "--keep-alive", "75", "--timeout", "120", "--graceful-timeout", "5"]
    command += ["--bind", f"127.0.0.1:{port}", "--log-level", "error", f"{module}:application"]
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(folder)
    with (folder / f"{module}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=env)
    try:
        yield Target(f"http://127.0.0.1:{port}/", "{}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def until_served(target: Target, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while neighbour_load.post(threading.local(), target)[0] != 200:
        if time.monotonic() > deadline:
            logs = "".join(path.read_text() for path in folder.glob("*.log"))
            raise PeerError(f"{target.url} is not served: {logs[-1500:]}")
        time.sleep(0.05)


PLACES: dict[str, Callable[[Path, Cpus], AbstractContextManager[Place]]] = {
    "reserved": reserved,
    "best-effort": best_effort,
    "weights": weights,
    "gunicorn": equal,
}
TITLES = {
    "reserved": "reserved tier",
    "best-effort": "best effort, demotion",
    "weights": "gunicorn, weights alone",
    "gunicorn": "gunicorn",
}
