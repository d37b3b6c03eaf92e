"""``forked``: each invocation in a process of its own, which is gone before its answer is sent."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from tests.support.frames import BODY_INLINE_BYTES_MAX, Worker, wait_until
from tests.worker.conftest import Start

COUNTER = "n = 0\ndef handler() -> int:\n    global n\n    n += 1\n    return n\n"


def children(worker: Worker) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_bytes().rpartition(b")")[2].split()[1])
    return [pid for pid, parent in parents.items() if parent == worker.pid]


def test_each_invocation_starts_from_the_import(start: Start) -> None:
    forked, warm = start(COUNTER, state="forked"), start(COUNTER)
    assert [forked.call().json for _ in range(20)] == [1] * 20
    assert [warm.call().json for _ in range(3)] == [1, 2, 3]


LEAVES = """
import os, threading, time
def handler(what: str) -> int:
    if what == "thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    elif os.fork() == 0:
        time.sleep(60)
    return 7
"""


@pytest.mark.parametrize("what", ["thread", "process"])
def test_what_an_invocation_leaves_has_ended_when_its_answer_comes(start: Start, what: str) -> None:
    worker = start(LEAVES, state="forked")
    for _ in range(3):
        assert worker.call(what=what).json == 7
        assert children(worker) == []


def test_randomness_is_new_in_each_process(start: Start) -> None:
    source = (
        "import os, random, secrets, ssl, uuid\nssl.RAND_bytes(8)\ndef handler() -> list[str]:\n"
        "    return [str(random.random()), secrets.token_hex(8), str(uuid.uuid4()), ssl.RAND_bytes(8).hex()]\n"
    )
    worker = start(source, state="forked")
    answers = [worker.call().json for _ in range(50)]
    for values in zip(*answers, strict=True):
        assert len(set(values)) == 50


def test_output_failures_and_bodies_are_as_in_a_warm_worker(start: Start) -> None:
    source = (
        "from tailcut import Request\ndef handler(request: Request):\n    print('line')\n"
        "    return b'' if request.body == b'' else request.body[::-1] if len(request.body) != 3 else 1 / 0\n"
    )
    worker = start(source, state="forked")
    for size in (10, BODY_INLINE_BYTES_MAX + 1, 200_000, 5 * 2**20, 0):
        body = os.urandom(size)
        outcome = worker.invoke(body)
        assert outcome.answer.body == body[::-1]
        assert outcome.logs == [(1, "line")]
    failed = worker.invoke(b"bad")
    assert failed.status == 500
    assert failed.headers["type"] == "ZeroDivisionError"
    assert worker.invoke(b"good").answer.body == b"doog"


@pytest.mark.parametrize(
    ("how", "status"), [("os.kill(os.getpid(), 9)", 137), ("os.abort()", 134), ("os._exit(3)", 3), ("os._exit(0)", 0)]
)
def test_a_process_that_ends_without_an_answer_ends_the_worker_in_the_same_way(
    start: Start, connection, how: str, status: int
) -> None:
    worker = start(
        f"import os\ndef handler(end: bool) -> int:\n    if end:\n        {how}\n    return 1\n", state="forked"
    )
    assert worker.call(end=False).json == 1
    worker.send(json.dumps({"end": True}).encode())
    with pytest.raises(EOFError):
        worker.receive()
    assert os.waitstatus_to_exitcode(connection.exit_of(worker)) == status


def test_killing_the_worker_ends_the_invocation(start: Start) -> None:
    worker = start("import time\ndef handler() -> None:\n    time.sleep(600)\n", state="forked")
    worker.send(b"{}")
    wait_until(lambda: children(worker))
    (child,) = children(worker)
    os.kill(worker.pid, 9)
    assert worker.ended()
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_memory_stays_flat(start: Start) -> None:
    worker = start(
        "kept = []\ndef handler() -> int:\n    kept.append(b'x' * (1 << 20))\n    return len(kept)\n", state="forked"
    )
    resident = Path(f"/proc/{worker.pid}/statm")
    assert worker.call().json == 1
    before = int(resident.read_text().split()[1])
    assert {worker.call().json for _ in range(200)} == {1}
    assert int(resident.read_text().split()[1]) < before + 256


WARMED = """
import os, tailcut
seen = []
@tailcut.warmup
def fill():
    seen.append(os.getpid())
@tailcut.warmup
async def fill_more():
    seen.append("async")
def handler() -> int:
    seen.append(1)
    return len(seen)
"""


@pytest.mark.parametrize(("state", "expected"), [("fresh", [3, 3, 3]), ("forked", [3, 3, 3]), ("warm", [3, 4, 5])])
def test_warmup_runs_once_before_the_state_that_calls_start_from(start: Start, state: str, expected: list[int]) -> None:
    worker = start(WARMED, state=state)
    assert [worker.call().json for _ in range(3)] == expected


def test_a_warmup_that_raises_fails_the_start(start: Start) -> None:
    source = "import tailcut\n@tailcut.warmup\ndef fill():\n    1 / 0\ndef handler(): pass\n"
    word = start(source, state="fresh", ready=False).first_word()
    assert word.kind == "failed"
    assert word.json["type"] == "ZeroDivisionError"


def test_files_in_tmp_are_gone_with_the_invocation(start: Start) -> None:
    source = (
        # Where this repository lies in /tmp, its folder is there from the start.
        "import pathlib\ntmp = pathlib.Path('/tmp')\nbefore = len(list(tmp.iterdir()))\n"
        "def handler() -> int:\n    found = len(list(tmp.iterdir())) - before\n"
        "    (tmp / 'a').mkdir(exist_ok=True)\n    (tmp / 'a' / 'b').write_text('x')\n    return found\n"
    )
    forked = start(source, state="forked")
    assert [forked.call().json for _ in range(3)] == [0, 0, 0]
    warm = start(source)
    assert [warm.call().json for _ in range(2)] == [0, 1]
