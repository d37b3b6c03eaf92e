"""How precisely limits are acted on: percentiles of what was used beyond 100 ms, and of when the answer came.

By hand, on a quiet machine: ``python -m tests.bench.kills [CALLS]``. Starts a server of its own, calls functions that
never end, and prints, for each: how far beyond its limit the invocation was when it was over (the gateway's ``used_ms``
has whole milliseconds; CPU from ``Tailcut-Cpu-Us``), and the caller's own clock. Asserts nothing: it measures.
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import FREE_PORTS, server_environment
from tests.support.server import Server

LIMIT_MS = 100
CALLS_DEFAULT = 100
SPIN = "def handler():\n    while True: pass\n"
SLEEP = "import time\ndef handler():\n    time.sleep(60)\n"
STUBBORN_SLEEP = "import ctypes\nlibc = ctypes.PyDLL(None)\ndef handler():\n    libc.sleep(60)\n    libc.sleep(60)\n"
STUBBORN_SPIN = "def handler():\n    return len(str(7 ** 20_000_000))\n"
SWALLOWS = (
    "def handler():\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass\n"
)
BLOCKED = (
    "import signal\ndef handler():\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    while True: pass\n"
)
Cases = dict[str, tuple[str, str]]
THREADS = (
    "import hashlib, threading\n"
    "def burn():\n    while True: hashlib.pbkdf2_hmac('sha256', b'x', b'y', 20_000)\n"
    "def handler():\n"
    "    for _ in range(3): threading.Thread(target=burn).start()\n"
    "    threading.Event().wait()\n"
)
"""They hold no lock; the handler's own thread sleeps."""
STOPPED = "import os, signal\ndef handler():\n    os.kill(os.getpid(), signal.SIGSTOP)\n    while True: pass\n"
"""In the jail it is the first process of its PID namespace, and runs on; without one (see ``main``) it stops."""
CASES: Cases = {
    "wall clock, sleeping": (SLEEP, "timeout_ms"),
    "wall clock, computing": (SPIN, "timeout_ms"),
    "wall clock, asleep in C, GIL held": (STUBBORN_SLEEP, "timeout_ms"),
    "wall clock, computing, signals blocked": (BLOCKED, "timeout_ms"),
    "wall clock, swallows the exception (grace)": (SWALLOWS, "timeout_ms"),
    "CPU, computing": (SPIN, "cpu_ms"),
    "CPU, computing in C, GIL held": (STUBBORN_SPIN, "cpu_ms"),
    "CPU, computing, signals blocked": (BLOCKED, "cpu_ms"),
    "wall clock, in three threads, GIL free": (THREADS, "timeout_ms"),
    "CPU, in three threads, GIL free": (THREADS, "cpu_ms"),
    "wall clock, stops itself (SIGSTOP), jailed": (STOPPED, "timeout_ms"),
    "CPU, stops itself (SIGSTOP), jailed": (STOPPED, "cpu_ms"),
}
UNJAILED: Cases = {"wall clock, stopped by itself, no jail": (STOPPED, "timeout_ms")}
"""Only an ordinary process stops at its own SIGSTOP."""


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS_DEFAULT
    print(f"{calls} calls each, limit {LIMIT_MS} ms; ms beyond it: p50 p90 p99 max")
    for jail, cases in (("on", CASES), ("off", UNJAILED)):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(Path(folder) / "server", server_environment(jail=jail), *FREE_PORTS, "--no-example")
            try:
                for name, (source, option) in cases.items():
                    report(server, name, source, option, calls)
            finally:
                server.stop()


def report(server: Server, name: str, source: str, option: str, calls: int) -> None:
    function = "kill-" + "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-").replace("--", "-")[:50]
    timeout_ms, cpu_ms = (LIMIT_MS, 20_000) if option == "timeout_ms" else (20_000, LIMIT_MS)
    server.deploy(function.strip("-"), source, timeout_ms=timeout_ms, cpu_ms=cpu_ms)
    beyond: list[float] = []
    answered: list[float] = []
    for _ in range(calls):
        started = time.perf_counter()
        answer = server.invoke(function.strip("-"))
        elapsed_ms = (time.perf_counter() - started) * 1000
        assert answer.json()["allowed_ms"] == LIMIT_MS, answer.text
        queue_ms = int(answer.headers["tailcut-queue-us"]) / 1000
        used_ms = int(answer.headers["tailcut-cpu-us"]) / 1000 if option == "cpu_ms" else answer.json()["used_ms"]
        beyond.append(used_ms - LIMIT_MS)
        answered.append(elapsed_ms - queue_ms - LIMIT_MS)
    print(f"{name:44} used {row(beyond)}   answered {row(answered)}", flush=True)


def row(values: list[float]) -> str:
    ordered = sorted(values)
    marks = [ordered[min(len(ordered) - 1, round(len(ordered) * part))] for part in (0.5, 0.9, 0.99)]
    return " ".join(f"{value:6.1f}" for value in (*marks, ordered[-1]))


if __name__ == "__main__":
    main()
