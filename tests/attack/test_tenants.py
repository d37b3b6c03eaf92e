"""One tenant's appetite and another's calls."""

import time
from collections.abc import Callable
from typing import Any

from tests.core.conftest import Plane, revision, route, version

WORKERS_MAX = 256
SPARE = WORKERS_MAX // 4
"""workers_max and workers_spare_count of zigcore/src/limits.zig."""


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
