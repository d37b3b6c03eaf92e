"""Workers that cheat on their channel: what they may cost is their own invocations, never another tenant's bytes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.core.conftest import Plane, revision, route, version

MINE = b"m" * 30_000
SECRET = b"s" * 30_000


def test_a_worker_that_answers_without_reading_never_gets_the_next_tenants_frame(
    hostile_plane: Callable[..., Plane], tmp_path: Path
) -> None:
    """Its channel fills up; a frame that the kernel still held back would be sent from memory that serves another."""
    evil = version(0, "evil", concurrency_max=1)
    plane = hostile_plane(revision([evil], [route("evil", 0)]))
    go, loot = tmp_path / "go", tmp_path / "loot"
    count = 16
    paths = [f"/acme/evil/deaf?n={count - 2}&go={go}&loot={loot}", *["/acme/evil/queued"] * (count - 1)]
    callers = [
        threading.Thread(target=plane.get, args=(path,), kwargs={"method": "POST", "body": MINE}) for path in paths
    ]
    for caller in callers:
        caller.start()
        time.sleep(0.01)
    for caller in callers:
        caller.join()
    victim = version(1, "victim")
    plane.apply(revision([victim], [route("victim", 1)], number=2))
    assert plane.get("/acme/victim", method="POST", body=SECRET).body == SECRET
    go.touch()
    deadline = time.monotonic() + 30
    while not loot.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = loot.read_bytes()
    assert found.count(MINE) > 1, "the attack did not take place"
    assert found.count(SECRET) == 0
