"""CPU that the kernel guarantees: who gets it, what an answer says, what happens where there is none left.

On a machine without the means (``Scheduled.missing``) the same tests assert what is promised then: best effort, and
said so.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from gateway.cgroup.group import Group
from tests.sched import kernel
from tests.sched.conftest import RESERVED_CPU, Scheduled
from tests.sched.hog import Hog


def test_without_a_reservation_calls_are_best_effort_on_a_shared_cpu(scheduled: Scheduled) -> None:
    assert scheduled.sched("burn", cpu_ms=1) == "best-effort"
    assert kernel.partitions() == []
    workers = scheduled.server.worker_pids()
    assert workers
    if len(os.sched_getaffinity(0)) > 1:
        assert all(RESERVED_CPU not in os.sched_getaffinity(pid) for pid in scheduled.server.process_tree())


def test_a_reservation_is_admitted_by_the_kernel_in_a_partition_that_goes_with_it(scheduled: Scheduled) -> None:
    before = kernel.cpusets()
    scheduled.reserve(20_000)
    scheduled.settled("burn", cpu_ms=1)
    if scheduled.can:
        (pid,) = scheduled.deadline_workers()
        assert kernel.scheduling(pid) == kernel.Scheduling(kernel.DEADLINE, 0, 20_000, 100_000)
        assert os.sched_getaffinity(pid) == {RESERVED_CPU}
        (partition,) = kernel.partitions()
        assert (partition / "cpuset.cpus").read_text().strip() == str(RESERVED_CPU)
        assert (partition / "cpuset.cpu_exclusive").read_text().strip() == "1"
        assert str(pid) in (partition / "cgroup.procs").read_text().split()
        gateway, zygote = scheduled.server.pid("gateway"), scheduled.server.pid("zygote")
        assert gateway
        assert zygote
        assert RESERVED_CPU not in os.sched_getaffinity(gateway) | os.sched_getaffinity(zygote)
        assert "tailcut_workers_deadline" in scheduled.server.metrics()
    else:
        assert scheduled.deadline_workers() == set()
    scheduled.withdraw()
    assert scheduled.sched("burn", cpu_ms=1) == "best-effort"
    scheduled.server.wait_for(lambda: kernel.cpusets() == before, what="the CPU sets as they were")


def test_what_the_kernel_has_not_got_left_is_served_best_effort(scheduled: Scheduled) -> None:
    """Somebody else holds bandwidth that our books do not know of: EBUSY is an answer."""
    scheduled.reserve(10_000, workers_max=2)
    scheduled.settled("burn", cpu_ms=1)
    if not scheduled.can:
        return
    with holder(75_000):
        # 0.10 and 0.75 are admitted; another 0.10 would be more than the 0.90 that there are.
        seen = set()

        def refused_meanwhile() -> bool:
            seen.add(scheduled.sched("sleep", seconds=0))
            return refused(scheduled) > 0

        scheduled.server.wait_for(refused_meanwhile, what="the kernel's refusal")
        assert seen == {"best-effort"}
        assert scheduled.sched("burn", cpu_ms=1) == "deadline"
    scheduled.settled("sleep", seconds=0)


def test_a_tier_that_waits_instead_gets_its_turn(scheduled: Scheduled) -> None:
    scheduled.reserve(20_000, workers_max=1, fallback=False)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(scheduled.server.invoke, "sleep", seconds=0.3) for _ in range(3)]
        answers = [call.result() for call in calls]
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    if scheduled.can:
        assert {answer.headers["Tailcut-Sched"] for answer in answers} == {"deadline"}
        assert len(scheduled.deadline_workers()) == 1
        # Control: they did not run beside each other.
        assert max(queue_us(answer) for answer in answers) > 300_000
        # Its other function takes the place of the first, which is idle now.
        assert scheduled.sched("burn", cpu_ms=1) == "deadline"
    else:
        assert {answer.headers["Tailcut-Sched"] for answer in answers} == {"best-effort"}


def test_beyond_what_was_bought_a_tier_with_fallback_is_served_best_effort(scheduled: Scheduled) -> None:
    scheduled.reserve(20_000, workers_max=1)
    scheduled.settled("sleep", seconds=0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(scheduled.sched, "sleep", seconds=1.5)
        time.sleep(0.3)
        second = pool.submit(scheduled.sched, "sleep", seconds=0.1)
        assert (first.result(), second.result()) == (scheduled.promised, "best-effort")


def test_the_kernel_enforces_what_was_bought_other_threads_included(scheduled: Scheduled) -> None:
    """20 % for the thread that serves, and as much again for all others together."""
    alone = {name: share(scheduled, name) for name in ("burn-wall", "burn-threads")}
    scheduled.reserve(20_000)
    for name, arguments in (("burn-wall", {"seconds": 0.05}), ("burn-threads", {"seconds": 0.05, "threads": 1})):
        scheduled.settled(name, **arguments)
        if not scheduled.can:
            continue
        # The quota follows the admission by a moment.
        time.sleep(1.0)
        reserved = share(scheduled, name)
        told = f"{name}: {reserved:.2f} of a CPU, {alone[name]:.2f} without a reservation"
        assert reserved < 0.5, told
        # What is guaranteed comes however busy the machine is; the other threads take what there is.
        assert reserved > 0.1 or name == "burn-threads", told


def test_a_function_cannot_leave_its_place(scheduled: Scheduled) -> None:
    scheduled.reserve(20_000)
    scheduled.settled("escape")
    assert set(scheduled.server.invoke("escape").json().values()) == {"Operation not permitted"}


def test_sleeping_hands_the_reservation_to_others_and_idle_workers_keep_it(scheduled: Scheduled) -> None:
    scheduled.reserve(50_000)
    scheduled.settled("sleep", seconds=0)
    if not scheduled.can:
        return
    (pid,) = scheduled.deadline_workers()
    with Hog(RESERVED_CPU) as hog:
        before = kernel.cpu_s(pid)
        hog.progress()
        assert scheduled.sched("sleep", seconds=1.0) == "deadline"
        assert kernel.cpu_s(pid) - before < 0.25, "half of the CPU is its own, and it only slept"
        assert hog.progress() > 0
    time.sleep(0.3)
    seen = kernel.scheduling(pid)
    assert seen is not None
    assert seen.policy == kernel.DEADLINE, "it lost its class between two invocations"
    assert scheduled.sched("sleep", seconds=0) == "deadline"


def share(scheduled: Scheduled, function: str) -> float:
    """CPU time ÷ wall clock of two seconds of burning, from outside."""
    arguments = {"seconds": 2.0} | ({"threads": 3} if function == "burn-threads" else {})
    started = time.monotonic()
    answer = scheduled.server.invoke(function, **arguments)
    assert answer.status_code == 200, answer.text
    return int(answer.headers["Tailcut-Cpu-Us"]) / 1e6 / (time.monotonic() - started)


def queue_us(answer: httpx.Response) -> int:
    return int(answer.headers["Tailcut-Queue-Us"])


def refused(scheduled: Scheduled) -> float:
    lines = scheduled.server.metrics().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("tailcut_reservations_refused_total"))


class holder:  # noqa: N801 - reads as a statement
    """A process of nobody's, in the partition, that holds bandwidth."""

    def __init__(self, runtime_us: int) -> None:
        self.runtime_us = runtime_us

    def __enter__(self) -> None:
        (partition,) = kernel.partitions()
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                Group({"cpuset": partition}, {"cpuset": 1}).enter()
                os.write(tell, bytes([kernel.reserve(0, self.runtime_us, 100_000)]))
                time.sleep(600)
            finally:
                os._exit(1)
        assert os.read(ready, 1) == b"\0"
        os.close(ready)
        os.close(tell)

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
