"""The two programs beside which neighbours are measured: the client that measures, and the callers that keep hogs busy.

``python -m tests.bench.neighbour_load client|hogs``, started by ``neighbour`` as a process each: in one interpreter the
callers would hold the lock while the client wants it, and that would be measured. A line of JSON on standard input says
what to call, one on standard output what was found. What always holds: a request starts when it is due, whether or not
earlier ones have been answered, and its latency counts from then, also when it waited in line for a thread (no
coordinated omission).
"""

import contextlib
import gc
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.bench.host import PeerError, environment, pinned
from tests.bench.load import ROOT, Target

WARM_UP_S = 1.0
"""Requests that are due before it are sent, but not counted."""
_THREADS = 16
_ANSWER_TIMEOUT_S = 60
_CALLERS_NICE = 19


@dataclass(frozen=True, slots=True)
class Latency:
    """One run of the client. Microseconds from when a request was due."""

    p50_us: int
    p99_us: int
    max_us: int
    requests: int
    failed: int
    """Answered something else than 200, or nothing. All requests, the first ones included."""
    reserved: int
    """Answers that said Tailcut-Sched: deadline; of those counted."""


@dataclass(slots=True)
class Calls:
    """Of each hog, in their order."""

    answered: list[int]
    refused: list[int]


def measure(target: Target, rate_per_s: float, seconds: float, cpu: int) -> Latency:
    """In a process of its own on ``cpu``; ``seconds`` after the warm-up are counted."""
    order = {"target": asdict(target), "rate_per_s": rate_per_s, "seconds": seconds}
    with _started("client", cpu) as process:
        output, errors = process.communicate(json.dumps(order) + "\n", timeout=seconds + 2 * _ANSWER_TIMEOUT_S)
    return Latency(**_answer(process, output, errors))


@contextlib.contextmanager
def burning(hogs: list[Target], cpu: int) -> Iterator[None]:
    """Each is called again as soon as it has answered. Ends when all have: nobody burns afterwards.

    Raises PeerError for a hog that never answered 200: then there was no neighbour.
    """
    with _started("hogs", cpu) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps([asdict(hog) for hog in hogs]) + "\n")
        process.stdin.flush()
        yield
        # The end of its input tells it to end.
        output, errors = process.communicate(timeout=2 * _ANSWER_TIMEOUT_S)
    calls = Calls(**_answer(process, output, errors))
    if 0 in calls.answered:
        raise PeerError(f"not every hog burned: {calls.answered} calls were answered, {calls.refused} were not")


@contextlib.contextmanager
def _started(role: str, cpu: int) -> Iterator[subprocess.Popen[str]]:
    command = [*pinned(cpu), sys.executable, "-m", "tests.bench.neighbour_load", role]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _answer(process: subprocess.Popen[str], output: str, errors: str) -> dict[str, Any]:
    if process.returncode:
        raise PeerError(f"the load failed: {(errors or output).strip()[-600:]}")
    found: dict[str, Any] = json.loads(output)
    return found


# -- In the process of its own ----------------------------------------------------------------------------------------


def main(role: str) -> None:
    order = json.loads(sys.stdin.readline())
    if role == "client":
        found: Latency | Calls = open_loop(Target(**order["target"]), order["rate_per_s"], order["seconds"])
    else:
        found = keep_busy([Target(**each) for each in order])
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


def open_loop(target: Target, rate_per_s: float, seconds: float) -> Latency:
    """Evenly spaced arrivals; whoever finds no thread waits in line, and has waited."""
    undisturbed()
    found: list[tuple[bool, int, int, bool]] = []
    local = threading.local()

    def call(counted: bool, due_s: float) -> None:
        status, reserved = post(local, target)
        found.append((counted, int((time.monotonic() - due_s) * 1e6), status, reserved))

    with ThreadPoolExecutor(_THREADS) as pool:
        first_s = time.monotonic() + 0.1
        for number in range(int(rate_per_s * (WARM_UP_S + seconds))):
            due_s = first_s + number / rate_per_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            pool.submit(call, due_s - first_s >= WARM_UP_S, due_s)
    counted = [each for each in found if each[0]]
    latencies = sorted(latency_us for _counted, latency_us, _status, _reserved in counted)
    return Latency(
        p50_us=percentile(latencies, 50),
        p99_us=percentile(latencies, 99),
        max_us=latencies[-1],
        requests=len(counted),
        failed=sum(status != 200 for _counted, _latency, status, _reserved in found),
        reserved=sum(reserved for _counted, _latency, _status, reserved in counted),
    )


def percentile(ordered: list[int], percent: int) -> int:
    """The least of them that ``percent`` of all are not above."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def undisturbed() -> None:
    """The client goes before whatever else is on its CPU, the callers of the hogs first of all. Its threads inherit it.

    Without the right to, the callers' nice value has to do.
    """
    gc.disable()
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def keep_busy(hogs: list[Target]) -> Calls:
    os.nice(_CALLERS_NICE)
    calls = Calls([0] * len(hogs), [0] * len(hogs))
    ended = threading.Event()

    def keep(number: int) -> None:
        local = threading.local()
        while not ended.is_set():
            if post(local, hogs[number])[0] == 200:
                calls.answered[number] += 1
            else:
                calls.refused[number] += 1
                ended.wait(0.01)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(len(hogs))]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    return calls


def post(local: threading.local, target: Target) -> tuple[int, bool]:
    """Status, 0 for no answer; and whether it ran under a reservation. One connection for each thread is kept."""
    url = urlsplit(target.url)
    connection = getattr(local, "connection", None)
    if connection is None:
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=_ANSWER_TIMEOUT_S)
        local.connection = connection
    try:
        headers = {"Authorization": target.authorization, "Content-Type": target.content_type}
        connection.request("POST", url.path, target.body, headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        local.connection = None
        return 0, False
    return answer.status, answer.headers.get("Tailcut-Sched") == "deadline"


if __name__ == "__main__":
    main(sys.argv[1])
