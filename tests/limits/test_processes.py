"""CPU time of processes that a function starts: all of it is its invocation's, whoever waited for their end.

The kernel adds what a process used to its parent's figures only when the parent waits for it. A tenant that does not,
or that ignores SIGCHLD, had CPU for nothing, over any limit.
"""

import pytest

from tests.limits.conftest import Deploy
from tests.support.server import Server

SOURCE = """
import os, signal, time

def burn(ms):
    end = time.process_time_ns() + ms * 1_000_000
    while time.process_time_ns() < end: pass

def handler(how: str, count: int = 4, ms: int = 30):
    if how == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(0 if how == "none" else count):
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            burn(ms)
            os._exit(0)
        os.close(write)
        os.read(read, 1)  # until it has ended
        os.close(read)
        if how == "waited":
            os.waitpid(pid, 0)

def chain(for_s: float):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if for_s and os.fork() == 0:
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            burn(5)
            if os.fork():
                os._exit(0)
        os._exit(0)
"""


@pytest.mark.parametrize("state", ["warm", "forked"])
def test_what_processes_used_is_billed_whoever_waited_for_them(server: Server, deploy: Deploy, state: str) -> None:
    name = deploy(SOURCE, state=state, processes="true", cpu_ms=2_000)

    def billed_ms(how: str) -> float:
        answer = server.invoke(name, how=how)
        assert answer.status_code == 200, answer.text
        return int(answer.headers["tailcut-cpu-us"]) / 1000

    assert [how for how in ("waited", "zombies", "ignored") if billed_ms(how) < 0.9 * 4 * 30] == []
    # Control: the figure is not of the call itself.
    assert billed_ms("none") < 60


@pytest.mark.parametrize("how", ["zombies", "ignored"])
def test_no_number_of_short_processes_goes_beyond_the_cpu_limit(server: Server, deploy: Deploy, how: str) -> None:
    name = deploy(SOURCE, state="warm", processes="true", cpu_ms=150)
    answer = server.invoke(name, how=how, count=20)
    assert (answer.status_code, answer.json().get("limit")) == (500, "cpu")
    # Control: so many as fit.
    assert server.invoke(name, how=how, count=3).status_code == 200


def test_a_chain_of_short_processes_does_not_outlive_its_answer_for_long(server: Server, deploy: Deploy) -> None:
    """Each lives for 5 ms and leaves the next behind: at no moment has one of them used much."""
    name = deploy(
        SOURCE.replace("def handler", "def other").replace("def chain", "def handler"),
        state="warm",
        processes="true",
        concurrency_max=1,
    )
    server.invoke(name, for_s=0)
    before = server.worker_pids()
    server.invoke(name, for_s=60)
    server.wait_for(lambda: before - server.worker_pids(), what="the end of the worker whose processes burn the CPU")
