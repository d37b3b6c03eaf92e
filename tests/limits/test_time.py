"""Wall-clock and CPU limits: the exception where the handler is, the answer, and that nothing runs on."""

import pytest

from tests.limits.conftest import Deploy
from tests.support.server import Server

SPIN = "while True:\n    pass"
SLEEP = "time.sleep(60)"

STYLES = {
    "typed": "def handler(n: int = 0):\n    work()\n",
    "request": "def handler(request: tailcut.Request):\n    work()\n",
    "event": "def handler(event, context):\n    work()\n",
    "async typed": "async def handler(n: int = 0):\n    await awork()\n",
    "async request": "async def handler(request: tailcut.Request):\n    await awork()\n",
    "async event": "async def handler(event, context):\n    await awork()\n",
}
FIGURES = {"wall-clock": ("timeout_ms", 504, "/timeout", "TimeLimitExceeded"),
           "cpu": ("cpu_ms", 500, "/cpu-limit", "CpuLimitExceeded")}  # fmt: skip
SOURCE = """
import asyncio, time, tailcut

def work():
    {work}

async def awork():
    {awork}

{handler}
"""


def source(style: str, limit: str) -> str:
    work, awork = (SLEEP, "await asyncio.sleep(60)") if limit == "wall-clock" else (SPIN, SPIN)
    return SOURCE.format(work=work.replace("\n", "\n    "), awork=awork.replace("\n", "\n    "), handler=STYLES[style])


@pytest.mark.parametrize("limit", FIGURES)
@pytest.mark.parametrize("style", STYLES)
def test_the_limit_is_told_with_numbers_and_the_place(server: Server, deploy: Deploy, style: str, limit: str) -> None:
    option, status, kind, exception = FIGURES[limit]
    name = deploy(source(style, limit), **{"timeout_ms": 20_000, "cpu_ms": 20_000, option: 100})

    owner, stranger = server.invoke(name), server.invoke(name, key=None)

    for answer in (owner, stranger):
        problem = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert problem["type"].endswith(kind)
        assert problem["component"] == "function"
        assert not {"tier", "next_tier", "upgrade_url"} & set(problem)
        assert "link" not in answer.headers
    assert not {"limit", "allowed_ms", "used_ms", "traceback"} & set(stranger.json())
    assert (owner.json()["limit"], owner.json()["allowed_ms"]) == (limit, 100)
    assert owner.json()["used_ms"] >= 100
    # Where it was, down to the line, and what it saw; none of the server's own lines.
    traceback = owner.json()["traceback"]
    assert "in awork" in traceback if style.startswith("async") else "in work" in traceback
    assert f"tailcut.{exception}: the invocation has used its 100 ms of" in traceback
    assert "gateway/" not in traceback
    logged = [line for line in server.function_logs() if line["request_id"] == owner.headers["tailcut-request-id"]]
    assert [line["stream"] for line in logged] == ["runtime"]
    assert traceback.strip() in logged[0]["text"]
    if limit == "cpu":
        assert int(owner.headers["tailcut-cpu-us"]) >= 100_000


def test_control_below_its_limits_the_same_function_answers(server: Server, deploy: Deploy) -> None:
    name = deploy("import time\ndef handler(s: float):\n    time.sleep(s)\n    return 'done'\n", timeout_ms=2_000)
    assert server.invoke(name, s=0.05).json() == "done"
    assert server.invoke(name, s=10.0).status_code == 504
    assert server.invoke(name, s=0.05).json() == "done"


CLEANUPS = {
    "sync": """
import tailcut, time
def handler(catch: str):
    try:
        {work}
    except {exception} as error:
        print("cleaned up after", type(error).__name__, error.allowed.total_seconds(), error)
        return "partly"
""",
    "async": """
import asyncio, tailcut, time
async def inner():
    {awork}
async def handler(catch: str):
    task = asyncio.create_task(inner())
    try:
        await task
    except {exception} as error:
        print("cleaned up after", type(error).__name__, error.allowed.total_seconds(), error)
        return "partly"
""",
}


@pytest.mark.parametrize("limit", FIGURES)
@pytest.mark.parametrize("kind", CLEANUPS)
def test_a_handler_that_cleans_up_in_time_is_answered_with_what_it_returns(
    server: Server, deploy: Deploy, kind: str, limit: str
) -> None:
    option, _status, _kind, exception = FIGURES[limit]
    work, awork = (SLEEP, "await asyncio.sleep(60)") if limit == "wall-clock" else (SPIN, SPIN)
    text = CLEANUPS[kind].format(
        work=work.replace("\n", "\n        "),
        awork=awork.replace("\n", "\n    "),
        exception=f"tailcut.{exception}",
    )
    name = deploy(text, **{"timeout_ms": 20_000, "cpu_ms": 20_000, option: 100})

    for _ in range(2):
        answer = server.invoke(name, catch="x")
        assert (answer.status_code, answer.json()) == (200, "partly")

    said = [line["text"] for line in server.function_logs() if line["function"] == name]
    assert said[0].startswith(f"cleaned up after {exception} 0.1 the invocation has used its 100 ms")


def test_an_except_exception_does_not_swallow_it(server: Server, deploy: Deploy) -> None:
    name = deploy(
        "def handler():\n    while True:\n        try:\n            while True: pass\n"
        "        except Exception:\n            pass\n",
        cpu_ms=100,
    )
    assert server.invoke(name).json()["traceback"].endswith("100 ms of CPU\n")


@pytest.mark.parametrize("wait", ["lock", "queue", "thread", "sleep(0)", "many yields"])
def test_whatever_it_waits_for(server: Server, deploy: Deploy, wait: str) -> None:
    bodies = {
        "lock": "def handler():\n    lock = threading.Lock()\n    lock.acquire()\n    lock.acquire()\n",
        "queue": "def handler():\n    queue.Queue().get()\n",
        "thread": "def handler():\n    t = threading.Thread(target=time.sleep, args=(60,), daemon=True)\n"
        "    t.start()\n    t.join()\n",
        "sleep(0)": "async def handler():\n    while True:\n        await asyncio.sleep(0)\n",
        "many yields": "async def other():\n    while True:\n        await asyncio.sleep(0)\n"
        "async def handler():\n    await asyncio.gather(other(), other())\n",
    }
    name = deploy("import asyncio, queue, threading, time\n" + bodies[wait], timeout_ms=100)
    for _ in range(3):
        answer = server.invoke(name)
        assert answer.status_code == 504
        assert "in handler" in answer.json()["traceback"]


def test_a_signal_that_comes_too_late_is_nobodys(server: Server, deploy: Deploy) -> None:
    """Calls that end around their limit: each answer is its own, and the next call is never interrupted for it."""
    name = deploy(
        "import time\ndef handler(n: int, s: float):\n    time.sleep(s)\n    return n\n",
        timeout_ms=20,
        concurrency_max=1,
    )
    server.invoke(name, n=0, s=0.0)
    for n in range(60):
        late = server.invoke(name, n=n, s=0.018 + n % 20 / 4000)
        assert late.status_code == 504 or (late.status_code, late.json()) == (200, n)
        quick = server.invoke(name, n=-n, s=0.0)
        # On a busy machine even this may take 20 ms: then it is told as such.
        assert quick.status_code == 504 or (quick.status_code, quick.json()) == (200, -n)


SPINS = (
    "import time\n"
    "def handler(s: float):\n    end = time.process_time() + s\n    while time.process_time() < end: pass\n"
)
CHILD = (
    "import os, subprocess, sys\n"
    "def handler(s: float):\n"
    "    code = f'import time; end = time.process_time() + {s}\\nwhile time.process_time() < end: pass'\n"
    "    subprocess.run([sys.executable, '-c', code], check=True)\n"
)


@pytest.mark.parametrize("state", ["warm", "fresh", "forked"])
def test_in_every_state_of_its_memory(server: Server, deploy: Deploy, state: str) -> None:
    """``forked`` runs each call in a process of its own, whose CPU the worker's own clock does not count."""
    name = deploy(SPINS, cpu_ms=150, timeout_ms=20_000, state=state)
    for _ in range(2):
        within = server.invoke(name, s=0.1)
        assert within.status_code == 200, within.text
        # The kernel tells what ended processes have used in steps of 10 ms.
        assert 80_000 <= int(within.headers["tailcut-cpu-us"]) < 150_000
        over = server.invoke(name, s=60.0)
        assert (over.status_code, over.json()["limit"]) == (500, "cpu")
        assert "in handler" in over.json()["traceback"]


def test_what_its_children_use_counts(server: Server, deploy: Deploy) -> None:
    name = deploy(CHILD, cpu_ms=500, timeout_ms=20_000, processes=True)
    within = server.invoke(name, s=0.15)
    assert within.status_code == 200, within.text
    assert int(within.headers["tailcut-cpu-us"]) >= 130_000
    over = server.invoke(name, s=60.0).json()
    assert (over["status"], over["limit"], over["allowed_ms"]) == (500, "cpu", 500)
