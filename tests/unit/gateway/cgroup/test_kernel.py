"""The same interface on this machine's own control groups, whichever version holds the controller."""

import os
import time
from collections.abc import Iterator

import pytest

from gateway.cgroup.bounds import Bounds
from gateway.cgroup.hierarchy import discover
from gateway.cgroup.instance import Instance, instance_name, leftover_count, sweep_dead

MIB = 2**20


@pytest.fixture
def instance() -> Iterator[Instance]:
    opened = Instance.open(instance_name(os.getpid()), discover(), ("memory", "pids"))
    yield opened
    opened.close()


def _run(instance: Instance, bounds: Bounds, touch_bytes: int) -> tuple[int, int, int]:
    """Exit status, OOM kills and peak of a process that fills ``touch_bytes`` in such a group."""
    group = instance.worker_group()
    group.bound(bounds)
    pid = os.fork()
    if pid == 0:
        group.enter()
        os._exit(len(bytearray(touch_bytes)) != touch_bytes)
    status = os.waitpid(pid, 0)[1]
    result = status, group.oom_kills(), group.memory_peak_bytes()
    instance.remove(group)
    assert not any(folder.exists() for folder in group.folders.values())
    return result


def test_memory_beyond_the_bound_ends_the_process_and_is_counted(instance: Instance) -> None:
    assert instance.missing == {}
    status, kills, peak = _run(instance, Bounds(memory_bytes=32 * MIB), 64 * MIB)
    assert (status, kills) == (9, 1)
    assert 31 * MIB < peak <= 32 * MIB


def test_control_within_the_bound_it_lives(instance: Instance) -> None:
    status, kills, peak = _run(instance, Bounds(memory_bytes=96 * MIB), 64 * MIB)
    assert (status, kills) == (0, 0)
    assert 64 * MIB < peak < 80 * MIB


def test_what_a_killed_server_left_is_ended_and_removed() -> None:
    owner = os.fork()
    if owner == 0:
        group = Instance.open(instance_name(os.getpid()), discover(), ("memory", "pids")).worker_group()
        if os.fork() == 0:
            group.enter()
            time.sleep(60)
        while not group.processes():
            time.sleep(0.001)
        os._exit(0)
    os.waitpid(owner, 0)
    assert leftover_count(discover()) >= 1
    assert sweep_dead(discover()) == []
    assert leftover_count(discover()) == 0
