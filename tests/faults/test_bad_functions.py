"""Functions that fail in every way we know: each costs its caller a typed answer and nobody else anything."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.raw import connect, request

FAILING_STARTS = {
    "syntax error": ("def handler(:\n    return 1\n", "SyntaxError"),
    "import error": ("import no_such_module_anywhere\n\ndef handler():\n    return 1\n", "ModuleNotFoundError"),
    "error at import": ("raise RuntimeError('born broken')\n\ndef handler():\n    return 1\n", "RuntimeError"),
    "handler missing": ("def other():\n    return 1\n", "handler"),
    "handler not callable": ("handler = 42\n", "handler"),
    "positional-only argument": ("def handler(a, /):\n    return 1\n", "positional"),
    "variable arguments": ("def handler(*args):\n    return 1\n", "args"),
    "sys.exit at import": ("import sys\nsys.exit(3)\n\ndef handler():\n    return 1\n", "SystemExit"),
    "os._exit at import": ("import os\nos._exit(3)\n\ndef handler():\n    return 1\n", "exit"),
}


@pytest.mark.parametrize("case", FAILING_STARTS)
def test_a_version_that_cannot_start_says_why_and_the_old_one_serves_on(server, case):
    source, expected = FAILING_STARTS[case]
    name = "start-" + case.replace(" ", "-").replace(".", "-").replace("_", "")
    server.deploy(name, "def handler():\n    return 'old'\n", handler="main:handler")
    assert server.invoke(name).json() == "old"

    failed = server.deploy(name, source, handler="main:handler", expect="failed")

    said = f"{failed.error['type']}: {failed.error['message']}\n{failed.error['traceback']}"
    assert expected.lower() in said.lower()
    answer = server.invoke(name)
    assert (answer.status_code, answer.json()) == (200, "old")


def test_a_first_version_that_cannot_start_is_500_with_its_traceback_for_the_owner_only(server):
    server.deploy(
        "never",
        "import no_such_module\n\ndef handler():\n    return 1\n",
        handler="main:handler",
        public=True,
        expect="failed",
    )

    owner = server.invoke("never")
    stranger = server.invoke("never", key=None)

    assert owner.status_code == 500
    assert owner.json()["type"].endswith("/not-ready")
    assert "no_such_module" in owner.text
    assert stranger.status_code == 503
    assert "no_such_module" not in stranger.text


FAILING_CALLS = {
    "raises": ("def handler():\n    raise ValueError('the reason')\n", "ValueError", "the reason"),
    "sys.exit": ("import sys\n\ndef handler():\n    sys.exit('the reason')\n", "SystemExit", "the reason"),
    "KeyboardInterrupt": (
        "def handler():\n    raise KeyboardInterrupt('the reason')\n",
        "KeyboardInterrupt",
        "the reason",
    ),
    "unserialisable": ("def handler():\n    return {'a': object()}\n", "TypeError", "object"),
    "generator": ("def handler():\n    yield 1\n", "TypeError", "generator"),
    "recursion": ("def handler():\n    return handler()\n", "RecursionError", "recursion"),
    "hostile __str__": (
        "class E(Exception):\n    def __str__(self):\n        raise RuntimeError\n\ndef handler():\n    raise E\n",
        "E",
        "",
    ),
    "header injection": (
        "import tailcut\n\ndef handler(request: tailcut.Request):\n"
        "    return tailcut.Response(b'x', headers={'X-A': 'b\\r\\nSet-Cookie: stolen=1'})\n",
        "ValueError",
        "x-a",
    ),
    "header name injection": (
        "import tailcut\n\ndef handler(request: tailcut.Request):\n"
        "    return tailcut.Response(b'x', headers={'X-A: b\\r\\nSet-Cookie': 'stolen=1'})\n",
        "ValueError",
        "x-a",
    ),
}


@pytest.mark.parametrize("case", FAILING_CALLS)
def test_a_failing_call_is_a_typed_500_and_the_next_one_works(server, case):
    source, kind, message = FAILING_CALLS[case]
    name = "call-" + case.lower().replace(" ", "-").replace(".", "-").replace("_", "")
    server.deploy(name, source, handler="main:handler", public=True)

    for _ in range(2):  # the worker outlives it
        owner = server.invoke(name)
        problem = owner.json()
        assert owner.status_code == 500
        assert owner.headers["content-type"] == "application/problem+json"
        assert "set-cookie" not in owner.headers
        assert problem["type"].endswith("/function-error")
        assert problem["component"] == "function"
        assert problem["error"]["type"] == kind
        assert message.lower() in problem["error"]["message"].lower()
        assert problem["request_id"] == owner.headers["tailcut-request-id"]

    stranger = server.invoke(name, key=None).json()
    assert "traceback" in problem
    assert "traceback" not in stranger


DYING = {
    "os._exit": ("import os\n\ndef handler():\n    os._exit(7)\n", "exit_status", 7),
    # The first process of its PID namespace: its own SIGABRT does not reach it, what abort() does next ends it.
    "abort": ("import os\n\ndef handler():\n    os.abort()\n", "signal_name", "SIGSEGV"),
    "forbidden call": ("import os\n\ndef handler():\n    os.unshare(os.CLONE_NEWUSER)\n", "signal_name", "SIGSYS"),
    "segmentation fault": ("import ctypes\n\ndef handler():\n    ctypes.string_at(0)\n", "signal_name", "SIGSEGV"),
}


@pytest.mark.parametrize("case", DYING)
def test_a_worker_that_dies_costs_its_own_call_only(server, case):
    source, member, value = DYING[case]
    name = "die-" + case.replace(" ", "-").replace(".", "-").replace("_", "")
    server.deploy(name, source + "\n\ndef fine():\n    return 'fine'\n", handler="main:handler")

    for _ in range(3):
        answer = server.invoke(name)
        assert answer.status_code == 500
        assert answer.json()["type"].endswith("/function-crashed")
        assert answer.json()["component"] == "function"
        assert answer.json()[member] == value


def test_kill_minus_9_of_a_worker_in_the_middle_of_a_call(server):
    before = server.worker_pids()
    server.deploy(
        "victim",
        "import time\n\n"
        "def handler(wait: bool):\n"
        "    if wait:\n"
        "        print('it waits', flush=True)\n"
        "        time.sleep(30)\n"
        "    return 'alive'\n",
        handler="main:handler",
        timeout_ms=60_000,
    )
    with connect(server.gateway_url) as connection:
        connection.send(request("POST", f"/{server.tenant}/victim", key=server.key, body=b'{"wait": true}'))
        server.wait_for(
            lambda: any(line["text"] == "it waits" for line in server.function_logs()), what="the call's start"
        )
        for pid in server.worker_pids() - before:
            server.kill(pid)
        answer = connection.answer()
        assert answer is not None
        assert answer.status == 500
        assert answer.json()["type"].endswith("/function-crashed")
        assert answer.json()["signal_name"] == "SIGKILL"
        # The connection lives, and so does the function.
        connection.send(request("POST", f"/{server.tenant}/victim", key=server.key, body=b'{"wait": false}'))
        again = connection.answer()
        assert again is not None
        assert (again.status, again.json()) == (200, "alive")


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(60)",
        "\n    while True: pass",
        "\n    import signal\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    while True: pass",
    ],
    ids=["sleeping", "spinning", "spinning with signals blocked"],
)
def test_a_hanging_handler_is_cut_off_and_no_code_of_it_runs_on(server, body):
    source = (
        "import threading, time\n\n"
        "def beat():\n"
        "    while True:\n"
        "        time.sleep(0.01)\n\n"
        "def handler():\n"
        "    threading.Thread(target=beat, daemon=True).start()\n"
        f"    {body.strip()}\n"
    )
    before = server.worker_pids()
    server.deploy(f"hang-{abs(hash(body)) % 10_000}", source, handler="main:handler", timeout_ms=1_000)

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.invoke, f"hang-{abs(hash(body)) % 10_000}")
        hanging = server.wait_for(
            lambda: {pid for pid in server.worker_pids() - before if threads_of(pid) == 2}, what="the call's start"
        )
        answer = call.result()
    # Already when the answer is here: nothing of it runs on.
    assert not any(server.alive(pid) for pid in hanging)

    assert answer.status_code == 504
    problem = answer.json()
    assert problem["type"].endswith("/timeout")
    assert problem["limit"] == "wall-clock"
    assert problem["allowed_ms"] == 1_000
    assert problem["used_ms"] >= 1_000


def threads_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition("\nThreads:")[2].split(maxsplit=1)[0])
    except OSError:
        return 0


def test_what_is_not_json_is_422_and_says_so(server):
    server.deploy(
        "typed",
        "def handler(count: int, name: str = 'x') -> dict:\n    return {'count': count}\n",
        handler="main:handler",
    )
    cases = {
        b"not json": "JSON",
        b"": "count",
        b"[1, 2]": "object",
        b'{"count": "three"}': "count",
        b'{"name": "y"}': "count",
        b'{"count": 1, "nmae": "y"}': "nmae",
        b'{"count": 1, "name": 5}': "name",
        b"\xff\xfe\x00": "JSON",
    }
    for body, named in cases.items():
        answer = server.invoke("typed", content=body)
        assert answer.status_code == 422, (body, answer.text)
        assert answer.json()["type"].endswith("/invalid-arguments")
        assert named in answer.text, (body, answer.text)

    both = server.invoke("typed", content=b'{"count": "three", "name": 5}').json()
    assert sorted(error["argument"] for error in both["errors"]) == ["count", "name"]
    assert server.invoke("typed", count=3).json() == {"count": 3}


def test_a_flood_of_output_is_cut_with_a_marker(server):
    server.deploy(
        "loud",
        "def handler():\n    for i in range(100_000):\n        print('x' * 80)\n    return 'done'\n",
        handler="main:handler",
        timeout_ms=30_000,
    )

    answer = server.invoke("loud")

    assert answer.json() == "done"
    lines = server.wait_for(
        lambda: [line for line in server.function_logs() if line["function"] == "loud" and line["stream"] == "runtime"],
        what="the truncation record in the function's log",
    )
    assert "truncated" in lines[-1]["text"]
