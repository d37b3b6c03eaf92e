"""The other limits: output, log, descriptors, threads, request; and that idle workers do not use the CPU."""

import time

import pytest

from tests.limits.conftest import Deploy
from tests.support.server import Server

ANSWERS = {
    "typed": "def handler(n: int):\n    return 'x' * (n - 2)\n",
    "request": "import tailcut\ndef handler(request: tailcut.Request):\n    return b'x' * request.json()['n']\n",
    "event": "import json\nasync def handler(event, context):\n"
    "    return {'statusCode': 200, 'body': 'x' * json.loads(event['body'])['n']}\n",
}


@pytest.mark.parametrize("style", ANSWERS)
def test_an_answer_over_the_limit_is_told_with_its_size(server: Server, deploy: Deploy, style: str) -> None:
    name = deploy(ANSWERS[style], output_bytes_max=50_000)
    assert len(server.invoke(name, n=50_000).content) == 50_000
    answer = server.invoke(name, n=50_001)
    problem = answer.json()
    assert (answer.status_code, problem["type"].rpartition("/")[2], problem["limit"]) == (500, "output-limit", "output")
    assert (problem["allowed_bytes"], problem["used_bytes"]) == (50_000, 50_001)
    assert len(server.invoke(name, n=50_000).content) == 50_000


def test_output_over_the_limit_is_cut_with_a_record_that_says_so(server: Server, deploy: Deploy) -> None:
    name = deploy("def handler(n: int):\n    print('x' * n)\n    return n\n", log_bytes_max=1_000)

    def said(request_id: str) -> list[tuple[str, int]]:
        lines = [line for line in server.function_logs() if line["request_id"] == request_id]
        return [(line["stream"], len(line["text"])) for line in lines]

    fits, over = server.invoke(name, n=999), server.invoke(name, n=1_000)
    server.wait_for(lambda: said(over.headers["tailcut-request-id"]), what="the record")
    assert said(fits.headers["tailcut-request-id"]) == [("stdout", 999)]
    assert said(over.headers["tailcut-request-id"]) == [("runtime", len("truncated"))]


def test_descriptors_and_threads_end_where_the_limit_is(server: Server, deploy: Deploy) -> None:
    name = deploy(
        "import os, resource, threading\n"
        "def handler():\n"
        "    fds = []\n"
        "    try:\n"
        "        while True: fds.append(os.open('/dev/null', 0))\n"
        "    except OSError as error: files = error.errno\n"
        "    highest = max(fds)\n"
        "    for fd in fds: os.close(fd)\n"
        "    threads, stop = 1, threading.Event()\n"
        "    try:\n"
        "        while True:\n"
        "            threading.Thread(target=stop.wait, daemon=True).start()\n"
        "            threads += 1\n"
        "    except RuntimeError: stop.set()\n"
        "    raised = []\n"
        "    for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):\n"
        "        hard = resource.getrlimit(what)[1]\n"
        "        try: resource.setrlimit(what, (hard, hard))\n"
        "        except (OSError, ValueError): continue\n"
        "        raised.append(what)\n"
        "    return [files, highest, threads, raised]\n",
        open_files_max=50,
        processes_max=6,
    )
    emfile = 24
    assert server.invoke(name).json() == [emfile, 49, 6, []]


def test_a_body_over_the_limit_is_413(server: Server, deploy: Deploy) -> None:
    name = deploy("def handler(s: str):\n    return len(s)\n", request_bytes_max=1_000)
    assert server.invoke(name, s="x" * 900).json() == 900
    problem = server.invoke(name, s="x" * 1_000).json()
    assert (problem["status"], problem["allowed_bytes"]) == (413, 1_000)


BURNS = (
    "import hashlib, threading\n"
    "def burn(rounds):\n    hashlib.pbkdf2_hmac('sha256', b'', b'', rounds)\n"
    "def handler(rounds: int):\n"
    "    threading.Thread(target=burn, args=(rounds,), daemon=True).start()\n"
)


def test_a_worker_that_computes_between_invocations_is_replaced(server: Server, deploy: Deploy) -> None:
    """C code without the GIL runs on after the answer: it does not last."""
    before = server.worker_pids()
    name = deploy(BURNS, concurrency_max=1, state="warm")
    server.invoke(name, rounds=500_000_000)
    server.wait_for(lambda: not server.worker_pids() - before, what="the end of a worker that burns the CPU")
    # Control: one whose thread is soon done stays.
    server.invoke(name, rounds=1)
    own = server.worker_pids() - before
    time.sleep(2.5)
    assert own & server.worker_pids() == own


def test_what_was_used_between_invocations_is_not_billed_to_the_next(server: Server, deploy: Deploy) -> None:
    name = deploy(BURNS, concurrency_max=1, state="warm")
    server.invoke(name, rounds=1)
    for _ in range(3):
        server.invoke(name, rounds=1_000_000_000)
        time.sleep(0.3)
        assert int(server.invoke(name, rounds=1).headers["tailcut-cpu-us"]) < 200_000


def test_who_computes_through_the_pauses_pays_for_them(server: Server, deploy: Deploy) -> None:
    """Each answer comes at once, and a thread computes until the next call: that would be a CPU for nothing."""
    source = BURNS.replace("def handler", "import time\ndef handler") + "    return time.process_time_ns() // 1000\n"
    name = deploy(source, concurrency_max=1, state="warm")

    def run(pause_s: float) -> tuple[int, int]:
        """CPU that was used and that was billed, us."""
        billed = used = last = 0
        for _ in range(12):
            answer = server.invoke(name, rounds=12_000)
            used += answer.json() - last if answer.json() > last else 0
            last = answer.json()
            billed += int(answer.headers["tailcut-cpu-us"])
            time.sleep(pause_s)
        return used, billed

    used, billed = run(0.01)
    assert billed > used / 2
    # Control: where the worker rests for most of the time, what it used is nobody's.
    used, billed = run(0.15)
    assert billed < used / 2
