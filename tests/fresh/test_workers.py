"""A fresh worker over many invocations: flat memory, new randomness, an end where nothing can be undone."""

import json
import socket
from pathlib import Path

import pytest

from tests.support.frames import BODY_INLINE_BYTES_MAX, Worker
from tests.worker.conftest import Start


def resident_kib(worker: Worker) -> int:
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(status.partition("\nVmRSS:")[2].split(maxsplit=1)[0])


LEAK = """
kept = []

def handler(mib: int) -> int:
    kept.append(b"x" * (mib << 20))
    kept.extend(str(n) for n in range(2000))
    return len(kept)
"""


def test_a_leak_of_a_mebibyte_per_call_leaves_memory_flat(start: Start) -> None:
    worker = start(LEAK, state="fresh")
    for _ in range(200):
        assert worker.call(mib=1).json == 2001
    after_200 = resident_kib(worker)
    for _ in range(3000):
        assert worker.call(mib=1).json == 2001
    assert resident_kib(worker) < after_200 + 2048
    control = start(LEAK)
    before = resident_kib(control)
    for _ in range(30):
        control.call(mib=1)
    assert resident_kib(control) > before + 20 * 1024


def test_a_large_invocation_gives_its_memory_back(start: Start) -> None:
    worker = start(LEAK, state="fresh")
    worker.call(mib=1)
    before = resident_kib(worker)
    assert worker.call(mib=200).json == 2001
    assert worker.call(mib=1).json == 2001
    assert resident_kib(worker) < before + 16 * 1024


RANDOM = """
import os, random, secrets, ssl, uuid, tempfile
context = ssl.create_default_context()
ssl.RAND_bytes(8)

def handler() -> list[str]:
    return [str(random.random()), str(random.getrandbits(64)), str(random.gauss(0, 1)),
            secrets.token_hex(8), str(uuid.uuid4()),
            str(uuid.uuid1()), os.urandom(8).hex(), str(random.Random().random()), ssl.RAND_bytes(8).hex(),
            next(tempfile._get_candidate_names())]
"""


def test_randomness_is_new_in_every_invocation(start: Start) -> None:
    worker = start(RANDOM, state="fresh")
    answers = [worker.call().json for _ in range(300)]
    for values in zip(*answers, strict=True):
        assert len(set(values)) == len(answers)
    numbers = [float(answer[0]) for answer in answers]
    assert 0.4 < sum(numbers) / len(numbers) < 0.6


def test_a_seed_does_not_reach_the_next_invocation(start: Start) -> None:
    source = (
        "import random\ndef handler() -> float:\n    found = random.random()\n    random.seed(7)\n    return found\n"
    )
    assert len(set(values(start(source, state="fresh"), 50))) == 50
    assert len(set(values(start(source), 50))) == 2


def values(worker: Worker, count: int) -> list[float]:
    return [worker.call().json for _ in range(count)]


ENDINGS = {
    "thread": "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "child": "subprocess.Popen(['sleep', '60'])",
    "timer of the kernel": "ctypes.CDLL(None).timer_create(1, None, ctypes.byref(ctypes.c_void_p()))",
    "closed file": "f.close()",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_what_cannot_be_undone_ends_the_worker_after_its_answer(start_unjailed: Start, name: str) -> None:
    source = (
        "import ctypes, subprocess, threading, time\nf = open(__file__)\n"
        f"def handler(leave: bool) -> int:\n    if leave:\n        {ENDINGS[name]}\n    return 7\n"
    )
    worker = start_unjailed(source, state="fresh")
    for _ in range(3):
        assert not worker.call(leave=False).answer.last
    outcome = worker.call(leave=True)
    assert outcome.json == 7
    assert outcome.answer.last
    # As the gateway does.
    worker.channel.shutdown(socket.SHUT_RDWR)
    assert worker.ended()


REFUSALS = {
    "thread": (
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "2 threads run after the import",
    ),
    "child": ("subprocess.Popen(['sleep', '1'])", "left a child process"),
    "socket": ("s = socket.socket()", "left a socket, pipe or the like open"),
    "shared memory": ("m = mmap.mmap(-1, 4096)", "writable shared memory"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_no_checkpoint_can_hold_fails_the_start_and_says_why(start_unjailed: Start, name: str) -> None:
    statement, reason = REFUSALS[name]
    source = f"import mmap, socket, subprocess, threading, time\n{statement}\ndef handler() -> int: return 1\n"
    start = start_unjailed
    word = start(source, state="fresh", ready=False).first_word()
    assert word.kind == "failed"
    assert word.json["type"].endswith("FreshStateUnavailable")
    assert reason in word.json["message"]
    assert start(source).call().json == 1


ASYNC = """
import asyncio
seen = []

async def handler(n: int) -> list[int]:
    async def one(i):
        await asyncio.sleep(0.001)
        seen.append(i)
        return i
    left = asyncio.create_task(asyncio.sleep(100))
    await asyncio.to_thread(seen.append, -1) if n == 0 else None
    found = await asyncio.gather(*(one(i) for i in range(n)))
    return [*found, len(seen)]
"""


def test_coroutines_run_and_leave_nothing(start: Start) -> None:
    worker = start(ASYNC, state="fresh")
    for _ in range(300):
        outcome = worker.call(n=3)
        assert outcome.json == [0, 1, 2, 3]
        assert not outcome.answer.last


def test_failures_and_output_are_as_in_a_warm_worker(start: Start) -> None:
    source = (
        "n = 0\ndef handler(a: int) -> int:\n    global n\n    n += 1\n"
        "    print('line', n, end='')\n    return 10 // a\n"
    )
    worker = start(source, state="fresh")
    for _ in range(50):
        good, bad, wrong = worker.call(a=2), worker.call(a=0), worker.call(a="x")
        assert (good.json, good.logs) == (5, [(1, "line 1")])
        assert (bad.answer.kind, bad.headers["type"], bad.logs) == ("failure", "ZeroDivisionError", [(1, "line 1")])
        assert wrong.headers["kind"] == "invalid-arguments"


BODIES = """
from tailcut import Request

def handler(request: Request):
    return bytes(request.body[::-1])
"""

PEEK = """
import ctypes, re
from tailcut import Request, Response

def handler(request: Request):
    shared = next(line for line in open("/proc/self/maps") if "tailcut-body" in line or "memfd:shared" in line)
    start = int(shared.split("-")[0], 16)
    if request.body:
        return bytes(request.body)
    found = ctypes.string_at(start, 1 << 20).count(b"s") + ctypes.string_at(start + 6 * 2**20, 1 << 20).count(b"s")
    return Response(str(found))
"""


def test_large_bodies_come_and_go(start: Start) -> None:
    worker = start(BODIES, state="fresh")
    for size in (0, 10, BODY_INLINE_BYTES_MAX, BODY_INLINE_BYTES_MAX + 1, 200_000, 5 * 2**20, 100) * 5:
        body = bytes(n % 251 for n in range(1000)) * (size // 1000 + 1)
        assert worker.invoke(body[:size]).answer.body == body[:size][::-1]


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_bodies_in_shared_memory_are_not_seen_by_the_next_invocation(start_unjailed: Start, size: int) -> None:
    start = start_unjailed
    fresh, warm = start(PEEK, state="fresh"), start(PEEK)
    for worker in (fresh, warm):
        assert worker.invoke(b"s" * size).answer.body == b"s" * size
    assert int(fresh.invoke().answer.body) == 0
    assert int(warm.invoke().answer.body) == 2 * size


FIGURES = """
import ctypes
path = next(line.split()[-1] for line in open("/proc/self/maps") if "libzigcore" in line)
library = ctypes.CDLL(path)
seen = {}

def handler(ask: bool = False) -> list[int]:
    seen[len(seen)] = [1] * 1000
    found = (ctypes.c_uint64 * 8)()
    if ask:
        library.zc_worker_figures(found)
    return list(found)
"""


def test_in_the_steady_state_nothing_is_searched_and_few_pages_are_copied(start_unjailed: Start) -> None:
    worker = start_unjailed(FIGURES, state="fresh")
    for _ in range(2000):
        worker.call()
    generation, scans, mends, _ns, hot_pages, *_ = worker.call(ask=True).json
    assert generation == 2000
    assert scans < 40
    assert mends < 10
    assert 0 < hot_pages < 150


def test_arguments_of_the_invocation_before_are_nowhere_in_memory(start_unjailed: Start) -> None:
    source = """
import re

def handler(secret: str = "") -> int:
    if secret:
        return len(secret)
    needle = "".join(reversed("edoc-terces-eht")).encode()
    found = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps:
            area, permissions, *_rest = line.split()
            if "r" not in permissions or "[v" in line or "w" not in permissions:
                continue
            start, end = (int(part, 16) for part in area.split("-"))
            for at in range(start, end, 1 << 20):
                memory.seek(at)
                try:
                    piece = memory.read(min(1 << 20, end - at))
                except OSError:
                    continue
                for match in re.finditer(re.escape(needle), piece):
                    found += piece[match.end():][:4] == b"1234"
    return found
"""
    secret = "the-secret-code1234"
    start = start_unjailed
    fresh, warm = start(source, state="fresh"), start(source)
    for worker in (fresh, warm):
        assert worker.call(secret=secret).json == len(secret)
    assert json.dumps(fresh.call().json) == "0"
    assert warm.call().json > 0
