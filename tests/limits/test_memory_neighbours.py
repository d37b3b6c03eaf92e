"""Who uses too much memory ends alone; what was measured is this invocation's; a bound moves without a new deploy."""

import copy
import threading
from collections.abc import Callable

import pytest
from httpx import Response

from tests.limits.conftest import Deploy
from tests.support.server import Server

MIB = 2**20
HOG = """
import mmap
def handler(mib: int):
    area = mmap.mmap(-1, mib * 2**20)
    for at in range(0, len(area), 4096):
        area[at] = 1
    return mib
"""
NEIGHBOUR = """
def handler():
    return "served"
"""
VARYING = """
def handler(mib: int):
    return len(bytearray(mib * 2**20)) if mib else 0
"""


def test_neighbours_of_the_same_tenant_and_of_another_live_on(server: Server, deploy: Deploy) -> None:
    hog = deploy(HOG, memory_bytes=32 * MIB)
    other, _subscribe = another_tenant(server, "somebody")
    before = server.worker_pids()
    other.deploy("neighbour", NEIGHBOUR, memory_bytes=32 * MIB, workers_min=1, concurrency_max=1)
    server.deploy("neighbour", NEIGHBOUR, memory_bytes=32 * MIB, workers_min=1, concurrency_max=1)
    server.wait_for(lambda: len(server.worker_pids() - before) >= 2, what="their workers")
    neighbours = server.worker_pids() - before
    stop = threading.Event()
    hogs = [threading.Thread(target=fill_until, args=(server, hog, stop)) for _ in range(2)]
    for thread in hogs:
        thread.start()
    try:
        for _ in range(200):
            for one in (server, other):
                assert one.invoke("neighbour").status_code == 200
    finally:
        stop.set()
        for thread in hogs:
            thread.join()
    assert all(server.alive(pid) for pid in neighbours), "none of theirs has died"
    assert server.invoke(hog, mib=1).json() == 1


def fill_until(server: Server, hog: str, stop: threading.Event) -> None:
    while not stop.is_set():
        assert server.invoke(hog, mib=100).json()["limit"] == "memory"


def another_tenant(server: Server, name: str) -> tuple[Server, Callable[[str], None]]:
    """The same server as somebody else sees it, and how its tier is changed."""
    operator = (server.data_dir / "operator-token").read_text().strip()
    made = server.api().post(
        "/v1/tenants", json={"name": name, "tier": "development"}, headers={"Authorization": f"Bearer {operator}"}
    )
    assert made.is_success, made.text
    other = copy.copy(server)
    other.tenant, other.key, other._clients = name, made.json()["key"]["token"], {}

    def subscribe(tier: str) -> None:
        path = f"/v1/tenants/{made.json()['id']}/subscription"
        answer = server.api().put(path, json={"tier": tier}, headers={"Authorization": f"Bearer {operator}"})
        assert answer.is_success, answer.text

    return other, subscribe


def test_a_bound_moves_for_workers_that_live(server: Server) -> None:
    tenant, subscribe = another_tenant(server, "moving")
    tenant.deploy("moving", MOVING, memory_bytes=1024 * MIB, concurrency_max=1, public=True)
    started = tenant.invoke("moving", mib=300).json()

    def answered(status: int) -> Callable[[], Response | None]:
        def look() -> Response | None:
            answer = tenant.invoke("moving", mib=300)
            return answer if answer.status_code == status else None

        return look

    subscribe("free")
    problem = server.wait_for(answered(402), what="the smaller bound").json()
    assert (problem["limit"], problem["allowed_bytes"]) == ("memory", 256 * MIB)
    assert (problem["tier"], problem["next_tier"]) == ("free", "scale")
    assert "MemoryError" in problem["traceback"]
    stranger = tenant.invoke("moving", key=None, mib=300)
    assert (stranger.status_code, stranger.json()["type"].rpartition("/")[2]) == (500, "memory-limit")
    figures = {"limit", "allowed_bytes", "used_bytes"}
    assert not {"tier", "next_tier", "upgrade_url", "traceback", *figures} & set(stranger.json())
    assert tenant.invoke("moving", mib=0).json() == started, "by the same worker"
    subscribe("scale")
    assert server.wait_for(answered(200), what="the larger bound").json() == started


MOVING = """
import time
started = time.monotonic_ns()
def handler(mib: int):
    bytearray(mib * 2**20)
    return started
"""


def test_what_is_measured_is_each_invocations_own(server: Server, deploy: Deploy) -> None:
    name = deploy(VARYING, memory_bytes=256 * MIB)
    small = measured(server, name, 0)
    assert MIB < small < 32 * MIB
    assert 100 * MIB < measured(server, name, 100) < 124 * MIB
    assert 60 * MIB < measured(server, name, 60) < 84 * MIB
    assert measured(server, name, 0) < 40 * MIB, "what the one before used is not this one's"


def measured(server: Server, name: str, mib: int) -> int:
    answer = server.invoke(name, mib=mib)
    assert answer.json() == mib * MIB
    return int(answer.headers["Tailcut-Memory-Bytes"])


def test_an_honest_function_fits_into_a_small_bound(server: Server, deploy: Deploy) -> None:
    """What it shares with the zygote is not charged to it."""
    name = deploy(VARYING, memory_bytes=32 * MIB)
    assert measured(server, name, 16) < 32 * MIB


@pytest.mark.parametrize("state", ["warm", "fresh"])
def test_a_handler_that_catches_its_memory_error_goes_on(server: Server, deploy: Deploy, state: str) -> None:
    name = deploy(CATCHING, memory_bytes=64 * MIB, state=state)
    assert server.invoke(name).json() == "caught"


CATCHING = """
def handler():
    try:
        kept = [bytearray(2**20) for _ in range(200)]
    except MemoryError:
        kept = None
        return "caught"
"""
