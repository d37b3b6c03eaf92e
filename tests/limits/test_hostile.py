"""Functions that do not want to end: each is killed, alone, with all that it started, and its caller told the limit."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.limits.conftest import Deploy
from tests.support.server import Server

HEAD = "import asyncio, ctypes, os, signal, sys, threading, time\nlibc = ctypes.PyDLL(None)\n"
STUBBORN = {
    "C code that holds the GIL": "    libc.usleep(500_000)\n    libc.sleep(60)\n",
    "C code that holds the GIL and computes": "    len(str(7 ** 3_000_000))\n",
    "signals blocked": "    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    while True: pass\n",
    "signals blocked, asleep": "    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    time.sleep(60)\n",
    "handler ignored": "    try: signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n    except OSError: print('refused')\n"
    "    while True: pass\n",
    "handler replaced in C": "    libc.signal(24, 1)\n    while True: pass\n",
    "timers disarmed": "    signal.setitimer(signal.ITIMER_REAL, 0)\n    signal.alarm(0)\n    while True: pass\n",
    "except BaseException": "    while True:\n        try:\n            while True: pass\n"
    "        except BaseException: pass\n",
    "finally": "    try:\n        while True: pass\n    finally:\n        while True: pass\n",
    "threads that burn": "    def burn():\n        while True: pass\n"
    "    for _ in range(8): threading.Thread(target=burn, daemon=True).start()\n    burn()\n",
    "a thread that burns while the handler sleeps": "    def burn():\n        while True: pass\n"
    "    threading.Thread(target=burn, daemon=True).start()\n    while True:\n"
    "        try: time.sleep(60)\n        except BaseException: pass\n",
    "a trace function": "    def trace(*_): return trace\n    sys.settrace(trace)\n    while True:\n"
    "        try:\n            while True: pass\n        except BaseException: pass\n",
    "recursion": "    def again():\n        try: again()\n        except RecursionError: again()\n    again()\n",
    "a __del__ that hangs": "    class Late:\n        def __del__(self):\n            while True: pass\n"
    "    late = Late()\n    while True: pass\n",
    "a result that never ends": "    class Endless:\n        def __str__(self):\n            while True: pass\n"
    "    raise ValueError(Endless())\n",
}
LIMITS = {"wall-clock": {"timeout_ms": 100}, "cpu": {"timeout_ms": 20_000, "cpu_ms": 100}}
SLEEPERS = {"C code that holds the GIL", "signals blocked, asleep"}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("case", STUBBORN)
def test_it_is_killed_and_its_caller_is_told(server: Server, deploy: Deploy, case: str, limit: str) -> None:
    if limit == "cpu" and case in SLEEPERS:
        limits = {"timeout_ms": 100, "cpu_ms": 50}  # it uses none: the other limit ends it
        limit = "wall-clock"
    else:
        limits = LIMITS[limit]
    before = server.worker_pids()
    name = deploy(HEAD + "def handler():\n" + STUBBORN[case], **limits)
    own = server.worker_pids() - before

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.invoke, name)
        while not call.done():
            own |= server.worker_pids() - before
        problem = call.result().json()

    assert "limit" in problem, problem
    assert (problem["limit"], problem["status"]) == (limit, {"wall-clock": 504, "cpu": 500}[limit])
    assert problem["used_ms"] >= problem["allowed_ms"] > 0
    # When the answer is here no code of it runs any more, its threads included.
    assert not all(server.alive(pid) for pid in own)


def test_a_stopped_worker_is_killed(server: Server, deploy: Deploy) -> None:
    before = server.worker_pids()
    name = deploy(
        "import time\ndef handler(s: float):\n    print('in', flush=True)\n    time.sleep(s)\n", timeout_ms=3_000
    )
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.invoke, name, s=30.0)
        server.wait_for(lambda: any(line["function"] == name for line in server.function_logs()), what="the call")
        own = server.worker_pids() - before
        for pid in own:
            server.kill(pid, signal.SIGSTOP)
        problem = call.result().json()
    assert (problem["limit"], problem["allowed_ms"]) == ("wall-clock", 3_000)
    assert not all(server.alive(pid) for pid in own)
    for pid in own:
        if server.alive(pid):
            server.kill(pid, signal.SIGCONT)
