"""One tenant's appetite and another's calls."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.core.conftest import Plane, revision, route, version

WORKERS_MAX = 256
SPARE = WORKERS_MAX // 4
FORKS_MAX = 2
"""workers_max, workers_spare_count and tenant_forks_max of zigcore/src/limits.zig."""


def workers(plane: Plane) -> dict[str, Any]:
    (reactor,) = plane.command("metrics")["reactors"]
    counts: dict[str, Any] = reactor["workers"]
    return counts


def test_workers_that_are_only_kept_leave_room_for_calls(make_plane: Callable[..., Plane]) -> None:
    """Seventeen versions ask for sixteen idle workers each: more than the reactor has places for."""
    greedy = [version(index, f"greedy{index}", workers_min=16, concurrency_max=16, tenant=1) for index in range(17)]
    victim = version(17, "victim")
    plane = make_plane(revision([*greedy, victim], [route("victim", 17)]))
    deadline = time.monotonic() + 60
    while sum(workers(plane).values()) < WORKERS_MAX - SPARE:
        assert time.monotonic() < deadline, f"the attack did not take place: {workers(plane)}"
        time.sleep(0.1)
    pid = plane.get("/acme/victim/pid").body
    time.sleep(0.5)
    assert plane.get("/acme/victim/pid").body == pid, "its warm worker had to make room"
    assert sum(workers(plane).values()) <= WORKERS_MAX - SPARE + 1


def test_a_crowd_of_starts_does_not_stand_before_anothers(make_plane: Callable[..., Plane]) -> None:
    """The zygote forks one after the other, for everybody: a tenant has two requests there, however many it needs."""
    crowd = [version(index, f"crowd{index}") for index in range(12)]
    victim = version(12, "victim", tenant=1)
    routes = [route(f"crowd{index}", index) for index in range(12)]
    plane = make_plane(revision([*crowd, victim], [*routes, route("victim", 12) | {"tenant": 1}]))
    answers: list[int] = []

    def call(path: str) -> threading.Thread:
        caller = threading.Thread(target=lambda: answers.append(plane.get(path).status))
        caller.start()
        return caller

    def waiting(count: int) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            (reactor,) = plane.command("metrics")["reactors"]
            if reactor["queue_length"] == count:
                counts: dict[str, Any] = reactor["workers"]
                return counts
            assert time.monotonic() < deadline, f"{count} calls were to wait: {reactor}"
            time.sleep(0.01)

    plane.zygote.process.send_signal(signal.SIGSTOP)
    try:
        callers = [call(f"/acme/crowd{index}") for index in range(12)]
        assert waiting(12)["starting"] == FORKS_MAX
        callers.append(call("/other/victim"))
        assert waiting(13)["starting"] == FORKS_MAX + 1
    finally:
        plane.zygote.process.send_signal(signal.SIGCONT)
    for caller in callers:
        caller.join()
    # Control: none was lost, those that had to wait for their turn included.
    assert answers == [200] * 13
