"""The neighbour test: p99 of a function that computes for 5 ms, alone and while eight others burn CPU and memory.

``python -m tests.bench.neighbour``. Three places for the same function and the same eight hogs: a tenant with a CPU
reservation, a tenant without one, and plain processes under gunicorn, unisolated, on all CPUs that the first one had.
The rate is fixed and open-loop: a latency counts from when the request was due. The client runs under SCHED_FIFO where
it may, or the hogs would be measured in it. What always holds: an answer that is not 200 makes the run no measurement.
"""

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.bench.host import PeerError, environment, free_port, script
from tests.bench.load import ROOT

HOGS_COUNT = 8
GOAL = 1.5
"""Noisy p99 ÷ p99 alone, of the tenant with a reservation."""
CLIENT_THREADS = 16
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


@dataclass(frozen=True, slots=True)
class Place:
    """What to call, and who burns meanwhile."""

    url: str
    authorization: str
    hogs: list[tuple[str, str]]
    """URL and Authorization of each."""


@dataclass(frozen=True, slots=True)
class Latency:
    p50_us: int
    p99_us: int
    max_us: int
    requests: int
    failed: int
    reserved: int
    """Answers that said Tailcut-Sched: deadline."""


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    results: dict[str, dict[str, Latency]] = {}
    with tempfile.TemporaryDirectory(prefix="tailcut-neighbour-") as folder:
        for name in options.places:
            print(f"neighbour: {name}: starting", flush=True)
            with PLACES[name](Path(folder) / name) as place:
                results[name] = measured(place, options)
            for when, latency in results[name].items():
                print(f"neighbour: {name}, {when}: {line(latency)}", flush=True)
    print()
    print(table(results))
    if options.out:
        document = {name: {when: asdict(one) for when, one in both.items()} for name, both in results.items()}
        options.out.write_text(json.dumps(document, indent=2) + "\n")
    failed = sum(one.failed for both in results.values() for one in both.values())
    if failed:
        print(f"neighbour: {failed} requests failed; this is no measurement")
    return 1 if failed else 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.neighbour", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--places", default=",".join(PLACES), help="of " + ", ".join(PLACES))
    parser.add_argument("--seconds", type=float, default=10.0, help="of one run (default 10)")
    parser.add_argument("--rate", type=float, default=20.0, help="requests per second (default 20)")
    parser.add_argument("--out", type=Path, help="a file for the figures as JSON")
    options = parser.parse_args(arguments)
    options.places = [one.strip() for one in options.places.split(",") if one.strip()]
    if unknown := set(options.places) - set(PLACES):
        parser.error(f"unknown places {', '.join(sorted(unknown))}: there are {', '.join(PLACES)}")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("a CPU to reserve and one to share are needed; this process may use one only")
    return options


def measured(place: Place, options: argparse.Namespace) -> dict[str, Latency]:
    open_loop(place, options.rate, 2.0)
    alone = open_loop(place, options.rate, options.seconds)
    with burning(place.hogs):
        time.sleep(2.0)
        noisy = open_loop(place, options.rate, options.seconds)
    return {"alone": alone, "noisy": noisy}


# -- The client -------------------------------------------------------------------------------------------------------


def open_loop(place: Place, rate_per_s: float, seconds: float) -> Latency:
    found: list[tuple[float, int, bool]] = []
    local = threading.local()

    def call(due_s: float) -> None:
        status, reserved = post(local, place.url, place.authorization)
        found.append((time.monotonic() - due_s, status, reserved))

    with ThreadPoolExecutor(CLIENT_THREADS, initializer=undisturbed) as pool:
        first_s = time.monotonic() + 0.2
        for number in range(int(rate_per_s * seconds)):
            due_s = first_s + number / rate_per_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            pool.submit(call, due_s)
    latencies = sorted(int(latency_s * 1e6) for latency_s, _status, _reserved in found)
    return Latency(
        p50_us=int(statistics.median(latencies)),
        p99_us=latencies[int(len(latencies) * 0.99)],
        max_us=latencies[-1],
        requests=len(found),
        failed=sum(status != 200 for _latency, status, _reserved in found),
        reserved=sum(reserved for _latency, _status, reserved in found),
    )


def undisturbed() -> None:
    """Otherwise the client waits for its turn among the hogs, and that would be measured. Of one thread."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def post(local: threading.local, url: str, authorization: str) -> tuple[int, bool]:
    parts = urlsplit(url)
    connection = getattr(local, "connection", None)
    if connection is None:
        connection = local.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        connection.request("POST", parts.path, b"{}", headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        local.connection = None
        return 0, False
    return answer.status, answer.headers.get("Tailcut-Sched") == "deadline"


@contextlib.contextmanager
def burning(hogs: list[tuple[str, str]]) -> Iterator[None]:
    """Each is called again as soon as it has answered, whatever it answered."""
    ended = threading.Event()

    def keep(url: str, authorization: str) -> None:
        local = threading.local()
        while not ended.is_set():
            if post(local, url, authorization)[0] != 200:
                time.sleep(0.01)

    threads = [threading.Thread(target=keep, args=hog) for hog in hogs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


# -- The places -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reserved(folder: Path) -> Iterator[Place]:
    cpu = max(os.sched_getaffinity(0))
    with tailcut(folder, "scale", "--reserved-cpus", str(cpu)) as place:
        yield place


@contextlib.contextmanager
def best_effort(folder: Path) -> Iterator[Place]:
    with tailcut(folder, "pro", "--cpus", str(min(os.sched_getaffinity(0)))) as place:
        yield place


@contextlib.contextmanager
def tailcut(folder: Path, tier: str, *options: str) -> Iterator[Place]:
    """A tenant for the function, on ``tier``, and one for each hog."""
    ports = [option for name in ("gateway", "control-plane", "admin") for option in (f"--{name}-port", "0")]
    command = [script("tailcut-server"), "up", "--detach", "--no-example", "--data-dir", str(folder), *ports, *options]
    checked(command)
    try:
        credentials = json.loads((folder / "dev-credentials.json").read_text())
        control_plane, gateway = credentials["control_plane_url"], credentials["gateway_url"]
        token = (folder / "operator-token").read_text().strip()
        with httpx.Client(base_url=control_plane, headers={"Authorization": f"Bearer {token}"}, timeout=60) as operator:
            key = deployed(operator, folder, "quick", tier, FUNCTION)
            hogs = [
                (f"{gateway}/hog{number}/f", f"Bearer {deployed(operator, folder, f'hog{number}', 'pro', HOG)}")
                for number in range(HOGS_COUNT)
            ]
        yield Place(f"{gateway}/quick/f", f"Bearer {key}", hogs)
    finally:
        subprocess.run([script("tailcut-server"), "down", "--data-dir", str(folder)], timeout=90, env=environment())


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


@contextlib.contextmanager
def plain(folder: Path) -> Iterator[Place]:
    """Under gunicorn, one worker for the function and one for each hog, wherever the kernel puts them."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        (folder / "quick.py").write_text(FUNCTION + WSGI)
        (folder / "hog.py").write_text(HOG + WSGI)
        url = stack.enter_context(gunicorn(folder, "quick", 1))
        hog_url = stack.enter_context(gunicorn(folder, "hog", HOGS_COUNT))
        yield Place(url, "", [(hog_url, "")] * HOGS_COUNT)


@contextlib.contextmanager
def gunicorn(folder: Path, module: str, workers: int) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", str(workers), "--bind", f"127.0.0.1:{port}"]
    # Threads only so that connections are kept alive; the interpreter's lock lets one of them compute.
    command += ["--threads", "4", "--timeout", "120", "--log-level", "error", f"{module}:application"]
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(folder)
    with (folder / f"{module}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=env)
    try:
        url = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + 60
        while post(threading.local(), url, "")[0] != 200:
            if time.monotonic() > deadline or process.poll() is not None:
                raise PeerError(f"gunicorn does not serve: {(folder / f'{module}.log').read_text()[-1500:]}")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def checked(command: list[str]) -> None:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, env=environment())
    if result.returncode:
        raise PeerError(f"{' '.join(command[:3])} failed:\n{(result.stdout + result.stderr)[-3000:]}")


PLACES: dict[str, Callable[[Path], Any]] = {"reserved": reserved, "best-effort": best_effort, "gunicorn": plain}


# -- What was found ---------------------------------------------------------------------------------------------------


def line(one: Latency) -> str:
    share = f", {one.reserved} under a reservation" if one.reserved else ""
    return f"p50 {one.p50_us / 1000:.1f} ms, p99 {one.p99_us / 1000:.1f} ms, {one.requests} requests{share}"


def table(results: dict[str, dict[str, Latency]]) -> str:
    rows = ["place         alone p50 / p99     noisy p50 / p99     noisy ÷ alone, p99"]
    for name, both in results.items():
        alone, noisy = both["alone"], both["noisy"]
        figures = [f"{one.p50_us / 1000:6.1f} / {one.p99_us / 1000:6.1f} ms" for one in (alone, noisy)]
        ratio = noisy.p99_us / alone.p99_us
        goal = f"   (goal: at most {GOAL})" if name == "reserved" else ""
        rows.append(f"{name:<12}  {figures[0]}  {figures[1]}  {ratio:5.2f}{goal}")
    if {"reserved", "best-effort"} <= set(results):
        ratios = {name: both["noisy"].p99_us / both["alone"].p99_us for name, both in results.items()}
        word = "beats" if ratios["reserved"] < ratios["best-effort"] else "does not beat"
        rows.append(
            f"\nThe reservation {word} demotion on a shared CPU: {ratios['reserved']:.2f} against "
            f"{ratios['best-effort']:.2f}."
        )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
