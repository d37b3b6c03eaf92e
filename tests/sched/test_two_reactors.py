"""A reserved worker is one reactor's; a call at another gets the reservation, or what its tier says instead."""

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import FREE_PORTS, server_environment
from tests.sched import kernel
from tests.sched.conftest import RESERVED_CPU, Scheduled, wait_for_no_partition
from tests.support.server import HANG_S, Server

CALLS = 16
"""Each on a connection of its own, and the kernel spreads these: that all are one reactor's happens once in 32,768."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduled]:
    wait_for_no_partition()
    option = () if kernel.why_best_effort() else ("--reserved-cpus", str(RESERVED_CPU))
    wrapper = (sys.executable, "-m", "tests.sched.two_reactors")
    folder = tmp_path_factory.mktemp("two-reactors")
    running = Scheduled(Server(folder, server_environment(), *FREE_PORTS, "--no-example", *option, wrapper=wrapper))
    running.deploy_all(("burn", "sleep"))
    yield running
    running.server.stop()


def call(scheduled: Scheduled, name: str, **arguments: float) -> str:
    """On a new connection: what its answer says about its scheduling."""
    server = scheduled.server
    answer = httpx.post(
        f"{server.gateway_url}/{server.tenant}/{name}",
        json=arguments,
        headers={"Authorization": f"Bearer {server.key}"},
        timeout=HANG_S,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["Tailcut-Sched"]


def test_with_fallback_the_other_reactors_calls_are_best_effort(both: Scheduled) -> None:
    both.reserve(20_000, workers_max=1)
    both.settled("burn", cpu_ms=1)
    seen = Counter(call(both, "burn", cpu_ms=1) for _ in range(CALLS))
    assert set(seen) <= {"deadline", "best-effort"}
    if both.can:
        # Control, for the test below: there are two reactors, and one worker with the reservation.
        assert set(seen) == {"deadline", "best-effort"}, seen
        assert len(both.deadline_workers()) == 1
    both.withdraw()


def test_without_fallback_the_reservation_goes_where_the_call_is_and_none_is_lost(both: Scheduled) -> None:
    both.reserve(20_000, workers_max=1, fallback=False)
    both.settled("burn", cpu_ms=1)
    assert Counter(call(both, "burn", cpu_ms=1) for _ in range(CALLS)) == {both.promised: CALLS}
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(call, both, "sleep", seconds=0.1) for _ in range(6)]
        assert Counter(one.result() for one in calls) == {both.promised: 6}
    assert not both.can or len(both.deadline_workers()) <= 1
    both.withdraw()
