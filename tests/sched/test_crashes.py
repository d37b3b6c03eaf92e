"""Whatever is killed: no partition, no deadline thread and no bandwidth is left, and the CPU sets are as they were."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cgroup.hierarchy import discover
from gateway.cgroup.instance import instance_name
from gateway.cgroup.partition import Partitions
from tests.sched import kernel
from tests.sched.conftest import Scheduled, start, wait_for_no_partition

BURNS = 50.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[], Scheduled]]:
    """A server whose tenant has a worker that burns its reservation at the moment."""
    wait_for_no_partition()
    before = kernel.cpusets()
    started: list[Scheduled] = []

    def make() -> Scheduled:
        running = start(tmp_path / f"server{len(started)}")
        started.append(running)
        running.deploy_all(("burn", "burn_wall"))
        running.reserve(20_000, workers_max=2)
        running.settled("burn-wall", seconds=0.0)
        return running

    yield make
    for one in started:
        one.server.stop()
    assert kernel.cpusets() == before


class Burning:
    """A call that never comes back by itself, in a process of its own: the server will be killed under it."""

    def __init__(self, scheduled: Scheduled) -> None:
        server = scheduled.server
        program = (
            "import sys, httpx\n"
            "httpx.post(sys.argv[1], json={'seconds': float(sys.argv[3])}, timeout=120, trust_env=False,"
            " headers={'Authorization': 'Bearer ' + sys.argv[2]})\n"
        )
        url = f"{server.gateway_url}/{server.tenant}/burn-wall"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, url, server.key, str(BURNS)], stderr=subprocess.DEVNULL
        )
        if scheduled.can:
            (self.worker,) = server.wait_for(scheduled.deadline_workers, what="the worker that burns")
            cpu_s = kernel.cpu_s(self.worker)
            server.wait_for(lambda: kernel.cpu_s(self.worker) > cpu_s + 0.05, what="its burning")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def test_after_kill_9_of_the_gateway_reservations_work_again(own: Callable[[], Scheduled]) -> None:
    scheduled = own()
    server = scheduled.server
    burning = Burning(scheduled)
    server.kill(server.pid("gateway"))
    if scheduled.can:
        server.wait_for(lambda: not server.alive(burning.worker), what="the end of its worker")
    server.wait_for(lambda: server.pid("gateway"), what="the next gateway")
    scheduled.settled("burn", cpu_ms=1)
    burning.end()


def test_after_kill_9_of_the_zygote_the_next_one_takes_its_partition_over(own: Callable[[], Scheduled]) -> None:
    scheduled = own()
    server = scheduled.server
    killed = server.pid("zygote")
    server.kill(killed)
    server.wait_for(lambda: server.pid("zygote") not in (None, killed), what="the next zygote")
    # A worker of the next zygote's, in the partition that the first one made.
    scheduled.settled("burn", cpu_ms=1)
    assert len(kernel.partitions()) == int(scheduled.can)
    scheduled.withdraw()


def test_after_kill_9_of_the_supervisor_nothing_is_left_without_anybody_s_help(own: Callable[[], Scheduled]) -> None:
    before = kernel.cpusets()
    scheduled = own()
    server = scheduled.server
    burning = Burning(scheduled)
    tree = server.process_tree()
    if scheduled.can:
        assert kernel.cpusets() != before, "the control: there is something to leave behind"
    server.process.kill()
    server.process.wait()
    server.wait_for(lambda: kernel.cpusets() == before, what="the CPU sets as they were")
    server.wait_for(lambda: not any(server.alive(pid) for pid in tree), what="the end of every process")
    burning.end()


def test_what_is_left_after_all_is_swept_by_the_next_server(own: Callable[[], Scheduled]) -> None:
    """A partition whose owner is dead, with a process in it, under SCHED_DEADLINE: nobody was left to clean up."""
    before = kernel.cpusets()
    if kernel.why_best_effort() is None:
        gone = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        partitions = Partitions.of(instance_name(gone.pid), discover())
        group = partitions.take(max(os.sched_getaffinity(0)))
        left = os.fork()
        if left == 0:
            group.enter()
            kernel.reserve(0, 80_000, 100_000)
            while True:
                signal.pause()
        gone.kill()
        gone.wait()
        assert kernel.cpusets() != before
    scheduled = own()
    if scheduled.can:
        assert os.waitpid(left, 0) == (left, signal.SIGKILL)
    # Its bandwidth is free again: the fixture's call was as promised.
    scheduled.withdraw()
    scheduled.server.wait_for(lambda: kernel.cpusets() == before, what="the CPU sets as they were")
