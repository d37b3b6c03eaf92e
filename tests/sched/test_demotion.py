"""On a shared CPU: whoever burns is demoted and promoted again, short calls stay quick, weights are nice values."""

import contextlib
import os
import signal
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.limits.test_memory_neighbours import another_tenant
from tests.sched import kernel
from tests.sched.conftest import FUNCTIONS, Scheduled
from tests.sched.hog import Hog

HOGS_COUNT = 8
CROWD_COUNT = 12


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


def test_the_process_of_a_forked_invocation_is_demoted_and_its_cpu_limit_holds(scheduled: Scheduled) -> None:
    server = scheduled.server
    server.deploy("forked-burn", FUNCTIONS, handler="main:burn_wall", state="forked", timeout_ms=60_000, cpu_ms=1_500)
    assert server.invoke("forked-burn", seconds=0.0).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.invoke, "forked-burn", seconds=50.0)
        demoted = server.wait_for(
            lambda: children_under(scheduled, kernel.IDLE), what="a process of it under SCHED_IDLE"
        )
        assert all(policy(kernel.parent(pid)) == kernel.IDLE for pid in demoted)
        answer = call.result()
    assert (answer.status_code, answer.json()["limit"], answer.json()["allowed_ms"]) == (500, "cpu", 1_500)
    server.wait_for(lambda: not any(server.alive(pid) for pid in demoted), what="the end of the process")


def test_processes_that_burn_are_demoted_with_their_worker(scheduled: Scheduled) -> None:
    """Also those that it started before; and who is not demoted any more has no demoted process."""
    server = scheduled.server
    server.deploy(
        "processes", FUNCTIONS, handler="main:burn_processes", processes=True, state="warm", timeout_ms=60_000,
        cpu_ms=60_000, processes_max=32,
    )  # fmt: skip
    assert server.invoke("processes", seconds=0.0, processes=0).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.invoke, "processes", seconds=2.0, processes=3)
        server.wait_for(lambda: len(children_under(scheduled, kernel.IDLE)) == 3, what="three demoted processes")
        assert call.result().status_code == 200
    server.wait_for(lambda: not burners(server.worker_pids(), 1), what="its promotion")


def test_a_tenant_with_many_burning_workers_leaves_another_its_part(scheduled: Scheduled) -> None:
    """Twelve against one: by workers alone the one would have a thirteenth of what the others have."""
    server = scheduled.server
    other, _subscribe = another_tenant(server, "lonely")
    other.deploy("burn-wall", FUNCTIONS, handler="main:burn_wall", timeout_ms=60_000, cpu_ms=60_000)
    with ThreadPoolExecutor(CROWD_COUNT + 1) as pool:
        crowd = [pool.submit(server.invoke, "burn-wall", seconds=8.0) for _ in range(CROWD_COUNT)]
        many = server.wait_for(lambda: burners(server.worker_pids(), CROWD_COUNT), what="the many")
        lonely = pool.submit(other.invoke, "burn-wall", seconds=8.0)
        (one,) = server.wait_for(lambda: burners(server.worker_pids() - many, 1), what="the one")
        time.sleep(1.5)  # it is raised a step at a time
        before = {pid: kernel.cpu_s(pid) for pid in (*many, one)}
        time.sleep(2.0)
        got = {pid: kernel.cpu_s(pid) - before[pid] for pid in (*many, one)}
        assert {call.result().status_code for call in (*crowd, lonely)} == {200}
    theirs = sum(got[pid] for pid in many)
    assert got[one] > theirs / 6, (got[one], theirs)


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
        demoted = server.wait_for(lambda: burners(server.worker_pids(), HOGS_COUNT), what="eight demoted")
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


def children_under(scheduled: Scheduled, wanted: int) -> list[int]:
    """Processes that workers have started, of that class."""
    workers = scheduled.server.worker_pids()
    return [pid for pid in workers if kernel.parent(pid) in workers and policy(pid) == wanted]


def burners(pids: set[int], count: int) -> set[int]:
    """Who has been demoted, in whichever class that ends; empty until there are so many."""
    found = {pid for pid in pids if policy(pid) in (kernel.IDLE, kernel.BATCH)}
    return found if len(found) == count else set()


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


def calls_until(url: str, tenant: str, key: str, until: float, hog: Future[httpx.Response]) -> int:
    """Short calls without a pause, until the hog has answered."""
    count = 0
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as client:
        while not hog.done() and time.monotonic() < until:
            assert client.post(f"{url}/{tenant}/burn-wall", json={"seconds": 0.003}).status_code == 200
            count += 1
    return count
