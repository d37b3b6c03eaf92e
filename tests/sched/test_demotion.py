"""On a shared CPU: whoever burns is demoted and promoted again, short calls stay quick, weights are nice values."""

import contextlib
import os
import signal
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.sched import kernel
from tests.sched.conftest import Scheduled
from tests.sched.hog import Hog

HOGS_COUNT = 8


def test_who_burns_is_demoted_with_its_threads_and_promoted_after_its_answer(scheduled: Scheduled) -> None:
    server = scheduled.server
    before = demotions(scheduled)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.invoke, "burn-threads", seconds=2.0, threads=2)
        demoted = server.wait_for(
            lambda: [pid for pid in server.worker_pids() if policy(pid) == kernel.IDLE], what="it"
        )
        (pid,) = demoted
        threads = [int(folder.name) for folder in Path("/proc", str(pid), "task").iterdir()]
        assert len(threads) == 3
        assert {policy(thread) for thread in threads} == {kernel.IDLE}
        assert call.result().status_code == 200
    server.wait_for(lambda: policy(pid) == kernel.NORMAL, what="its promotion")
    assert demotions(scheduled) > before
    # The same worker serves on.
    assert server.invoke("burn-threads", seconds=0.0, threads=1).status_code == 200
    assert pid in server.worker_pids()


def test_who_sleeps_or_is_short_is_not_demoted(scheduled: Scheduled) -> None:
    server = scheduled.server
    before = demotions(scheduled)
    assert server.invoke("sleep", seconds=0.5).status_code == 200
    for _ in range(20):
        assert server.invoke("burn", cpu_ms=2).status_code == 200
    assert demotions(scheduled) == before


def test_short_calls_stay_quick_while_eight_burn(scheduled: Scheduled) -> None:
    """Against eight that nobody demotes: ordinary processes on the same CPU."""
    server = scheduled.server
    cpu = min(os.sched_getaffinity(0))
    with ThreadPoolExecutor(HOGS_COUNT) as pool:
        calls = [pool.submit(server.invoke, "burn-wall", seconds=50.0) for _ in range(HOGS_COUNT)]
        demoted = server.wait_for(lambda: who_is_demoted(scheduled, HOGS_COUNT), what="eight demoted")
        beside_demoted = median_us(scheduled)
        before = {pid: kernel.cpu_s(pid) for pid in demoted}
        with Hog(cpu) as ordinary:
            time.sleep(1.0)
            got = {pid: kernel.cpu_s(pid) - before[pid] for pid in demoted}
            theirs = ordinary.progress()
        assert not any(call.done() for call in calls), "the control needs hogs that still run"
        for pid in demoted:
            os.kill(pid, signal.SIGKILL)
        assert {call.result().status_code for call in calls} == {500}
    # The demoted keep a little each (about a sixteenth was seen), an ordinary process takes the rest: fairly, it would
    # have had a ninth.
    assert theirs > 3 * max(got.values()), (theirs, got)
    assert theirs > 2 / 9 * (theirs + sum(got.values())), (theirs, got)
    with contextlib.ExitStack() as ordinary_hogs:
        for _ in range(HOGS_COUNT):
            ordinary_hogs.enter_context(Hog(cpu))
        beside_ordinary = median_us(scheduled)
    assert beside_demoted < beside_ordinary


def test_endless_short_calls_do_not_stop_those_who_burn(scheduled: Scheduled) -> None:
    server = scheduled.server
    with ThreadPoolExecutor(3) as pool:
        hog = pool.submit(server.invoke, "burn", cpu_ms=150)
        until = time.monotonic() + 40
        rounds = [pool.submit(calls_until, server.gateway_url, server.tenant, server.key, until, hog) for _ in range(2)]
        assert hog.result().status_code == 200
        assert sum(one.result() for one in rounds) > 10
    assert time.monotonic() < until, "it ended only when the short calls did"


def test_a_tiers_weight_is_its_workers_nice_value(scheduled: Scheduled) -> None:
    server = scheduled.server
    try:
        for weight, nice in ((50, 3), (200, -3), (100, 0)):
            scheduled.table(lambda tenant, weight=weight: tenant.update(cpu_weight=weight))  # type: ignore[misc]
            assert server.invoke("burn", cpu_ms=1).status_code == 200
            server.wait_for(lambda nice=nice: nice in nices(scheduled), what=f"a worker at {nice}")  # type: ignore[misc]
    finally:
        scheduled.table(lambda tenant: tenant.update(cpu_weight=100))


def policy(pid: int) -> int | None:
    seen = kernel.scheduling(pid)
    return seen.policy if seen is not None else None


def nices(scheduled: Scheduled) -> set[int]:
    seen = [kernel.scheduling(pid) for pid in scheduled.server.worker_pids()]
    return {one.nice for one in seen if one is not None}


def demotions(scheduled: Scheduled) -> float:
    lines = scheduled.server.metrics().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("tailcut_demotions_total"))


def median_us(scheduled: Scheduled) -> float:
    """Of short calls, as their client sees them."""
    answers = [scheduled.server.invoke("burn", cpu_ms=4) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    return statistics.median(answer.elapsed.total_seconds() * 1e6 for answer in answers)


def who_is_demoted(scheduled: Scheduled, count: int) -> list[int]:
    """All of them, or none yet."""
    found = [pid for pid in scheduled.server.worker_pids() if policy(pid) == kernel.IDLE]
    return found if len(found) == count else []


def calls_until(url: str, tenant: str, key: str, until: float, hog: Future[httpx.Response]) -> int:
    """Short calls without a pause, until the hog has answered."""
    count = 0
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as client:
        while not hog.done() and time.monotonic() < until:
            assert client.post(f"{url}/{tenant}/burn-wall", json={"seconds": 0.003}).status_code == 200
            count += 1
    return count
