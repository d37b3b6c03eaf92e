"""Handlers that misbehave: each costs its own invocation, with a word that says what happened."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.frames import BODY_BYTES_MAX

CASES = {
    "raises": ("raise ValueError('the reason')", "ValueError", "the reason"),
    "sys.exit": ("import sys; sys.exit('the reason')", "SystemExit", "sys.exit(the reason)"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    "unserialisable": ("return {'a': [1, {'b': object()}]}", "TypeError", "object at $.a[1].b"),
    "generator": ("return (x for x in ())", "TypeError", "generator"),
    "yield": ("yield 1", "TypeError", "generator"),
    "lone surrogate": ("return '\\ud800'", "TypeError", "no JSON form"),
    "circle": ("a = []; a.append(a); return a", "TypeError", "no JSON form"),
    "recursion": ("return handler()", "RecursionError", "recursion"),
    "hostile __str__": ("raise Hostile", "Hostile", "str() of it raised"),
    "huge message": ("raise ValueError('x' * 1_000_000)", "ValueError", "left out"),
    "surrogates in the message": ("raise ValueError('\\ud800')", "ValueError", "ud800"),
    "memory": ("return bytearray(2**62)", "MemoryError", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failing_call_is_described_and_the_next_one_works(start, case):
    body, kind, words = CASES[case]
    worker = start(
        "class Hostile(Exception):\n    def __str__(self): raise SystemExit\n    __repr__ = __str__\n"
        f"def handler():\n    {body}\n"
    )
    for _ in range(2):
        answer = worker.invoke().answer
        assert answer.kind == "failure"
        assert answer.headers["kind"] == ("memory-limit" if kind == "MemoryError" else "function-error")
        assert answer.headers["type"] == kind
        assert words in answer.headers["message"]
        assert "gateway/" not in answer.headers.get("traceback", "")


@pytest.mark.parametrize("allowed", [1_000, 50_000, BODY_BYTES_MAX])
def test_an_answer_over_the_limit_is_not_sent_only_its_size(start, allowed):
    worker = start("def handler(size: int):\n    return 'x' * (size - 2)\n")

    def answered(size: int) -> tuple[str, dict[str, str]]:
        answer = worker.invoke(f'{{"size": {size}}}'.encode(), output_bytes_max=allowed).answer
        return answer.kind, answer.headers

    assert answered(allowed)[0] == "answer"
    assert answered(allowed + 1) == ("failure", {"kind": "output-limit", "message": str(allowed + 1)})
    assert answered(allowed)[0] == "answer"


HEADERS = {
    "value with CRLF": ("{'X-A': 'b\\r\\nSet-Cookie: stolen=1'}", "X-A"),
    "value with LF": ("{'X-A': 'b\\nc'}", "X-A"),
    "value with NUL": ("{'X-A': 'b\\0'}", "X-A"),
    "name with CRLF": ("{'X-A: b\\r\\nSet-Cookie': '1'}", "X-A"),
    "name with space": ("{'X A': 'b'}", "X A"),
    "empty name": ("{'': 'b'}", "''"),
    "not Latin-1": ("{'X-A': '\\u20ac'}", "X-A"),
    "number": ("{'X-A': 5}", "X-A"),
    "too many": ("{f'X-{n}': 'b' for n in range(65)}", "66 headers"),
    "too long": ("{'X-A': 'b' * 20000}", "X-A"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_would_forge_an_answer_are_refused(start, case):
    headers, named = HEADERS[case]
    worker = start(
        f"import tailcut\ndef handler(r: tailcut.Request):\n    return tailcut.Response(b'x', headers={headers})\n"
    )
    answer = worker.invoke().answer
    assert (answer.kind, answer.headers["type"]) == ("failure", "ValueError")
    assert named in answer.headers["message"]


@pytest.mark.parametrize("status", ["99", "600", "'x'", "None", "199"])
def test_a_status_that_is_none_is_refused(start, status):
    worker = start(f"import tailcut\ndef handler(r: tailcut.Request):\n    return tailcut.Response(b'', {status})\n")
    assert "status" in worker.invoke().answer.headers["message"]


def test_tracebacks_have_causes_and_groups_and_a_bound(start):
    worker = start(
        "def deep(n):\n"
        "    if n == 0: raise ExceptionGroup('many', [ValueError('one'), TypeError('two')])\n"
        "    try: deep(n - 1)\n"
        "    except Exception as error: raise RuntimeError(f'level {n} ' + 'x' * 2000) from error\n"
        "def handler(n: int):\n"
        "    deep(n)\n"
    )
    shown = worker.call(n=1).answer.headers["traceback"]
    assert "ValueError: one" in shown
    assert "direct cause" in shown
    assert 'File "main.py", line 6, in handler' in shown
    long = worker.call(n=40).answer.headers["traceback"]
    assert len(long.encode()) <= 16 * 1024
    assert "left out" in long


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, 1_000_003, BODY_BYTES_MAX])
def test_bodies_of_any_size_and_any_bytes_come_and_go_whole(start, size):
    worker = start(
        "import tailcut\n"
        "def handler(r: tailcut.Request):\n"
        "    return tailcut.Response(r.body[::-1], headers={'n': str(len(r.body))})\n"
    )
    body = os.urandom(size)
    outcome = worker.invoke(body)
    assert outcome.headers["n"] == str(size)
    assert outcome.answer.shared == (size > 32 * 1024)
    assert outcome.answer.body == body[::-1]


def test_a_worker_that_exits_or_is_killed_says_how(start, connection):
    worker = start("import os\ndef handler():\n    os._exit(7)\n")
    worker.send()
    with pytest.raises(EOFError):
        worker.receive()
    assert os.waitstatus_to_exitcode(connection.exit_of(worker)) == 7

    worker = start("import time\ndef handler():\n    print('in')\n    time.sleep(60)\n")
    worker.send()
    assert worker.receive().kind == "log"
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        worker.receive()
    assert os.WTERMSIG(connection.exit_of(worker)) == signal.SIGKILL


def test_a_flood_of_output_is_cut_with_one_record(start):
    worker = start("def handler(n: int):\n    for i in range(n): print('x' * 99)\n    return 'done'\n")
    outcome = worker.invoke(b'{"n": 5000}', log_bytes_max=1000)
    assert outcome.json == "done"
    assert outcome.logs == [(1, "x" * 99)] * 10 + [(3, "truncated")]
    assert worker.invoke(b'{"n": 1}', log_bytes_max=0).logs == [(3, "truncated")]
    assert worker.invoke(b'{"n": 1}').logs == [(1, "x" * 99)]


def test_lines_are_whole_and_long_ones_come_in_pieces(start):
    worker = start(
        "import logging, os, sys\n"
        "def handler():\n"
        "    print('a', 'b', sep='', end='')\n"
        "    print('c')\n"
        "    sys.stdout.buffer.write(b'raw\\xff\\nrest')\n"
        "    logging.warning('warned')\n"
        "    print('y' * 20_000, file=sys.stderr)\n"
        "    os.write(1, b'nowhere')\n"
        "    sys.stdout.close()\n"
        "    raise ValueError\n"
    )
    worker.send(b"", log_bytes_max=10**6)
    lines = []
    while (frame := worker.receive()).kind == "log":
        lines.append((frame.status, frame.body))
    assert lines == [
        (1, b"abc"), (1, b"raw\xff"), (2, b"WARNING:root:warned"), (2, b"y" * 8192), (2, b"y" * 8192),
        (2, b"y" * 3616), (1, b"rest"),
    ]  # fmt: skip
    assert frame.kind == "failure"
    # Closing sys.stdout silenced nobody.
    worker.send(log_bytes_max=10**6)
    assert worker.receive().body == b"abc"


def test_threads_left_running_stand_still_between_invocations(start):
    worker = start(
        "import threading, time\n"
        "beats = [0]\n"
        "def beat():\n"
        "    while True: beats[0] += 1\n"
        "def handler(begin: bool = False):\n"
        "    if begin: threading.Thread(target=beat, daemon=True).start()\n"
        "    first = beats[0]\n"
        "    return [first, beats[0]]\n"
    )
    worker.call(begin=True)
    # The thread runs while a handler runs; between two calls only what fits around them.
    before = worker.call().json[1]
    used = _cpu_ticks(worker.pid)
    time.sleep(0.3)
    assert _cpu_ticks(worker.pid) - used <= 5
    assert worker.call().json[0] >= before


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
