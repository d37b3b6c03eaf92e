"""Overruns as the data plane tells them, and with which tier to whom; usage records; limits that change."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.conftest import OTHER_KEY, OWNER, Plane, revision, route, version

URL = "https://example.org/upgrade?from=free"
OVERRUNS = {
    "wall-clock": ("/sleep?s=30", 504, "/timeout", "ms"),
    "cpu": ("/burn?s=30", 500, "/cpu-limit", "ms"),
    "output": ("/big?n=101", 500, "/output-limit", "bytes"),
}
LIMITS = {"timeout_ms": 300, "output_bytes_max": 100}


def document(url: str = URL, **upgrades: str) -> dict[str, Any]:
    result = revision(
        [
            version(0, "echo", **LIMITS, **upgrades),
            version(1, "burner", **LIMITS | {"cpu_ms": 50, "timeout_ms": 20_000}, **upgrades),
        ],
        [route("echo", 0), route("burner", 1)],
    )
    result["tenants"][0] |= {"tier": "free", "upgrade_url": url}
    return result


ALL = {"upgrade_timeout": "pro-t", "upgrade_cpu": "pro-c", "upgrade_output": "pro-o"}


def path_of(limit: str) -> str:
    return ("/acme/burner" if limit == "cpu" else "/acme/echo") + OVERRUNS[limit][0]


@pytest.mark.parametrize("limit", OVERRUNS)
def test_the_owner_is_told_the_tier_that_would_have_been_enough_and_nobody_else(
    make_plane: Callable[..., Plane], limit: str
) -> None:
    plane = make_plane(document(**ALL))
    _path, status, kind, unit = OVERRUNS[limit]

    owner = plane.get(path_of(limit), OWNER)
    assert (owner.status, owner.headers["link"]) == (402, f'<{URL}>; rel="payment"')
    assert owner.problem["type"].endswith("/tier-limit")
    wanted = {"tier": "free", "next_tier": f"pro-{limit[0].replace('w', 't')}", "upgrade_url": URL, "limit": limit}
    assert {name: owner.problem[name] for name in wanted} == wanted
    assert owner.problem[f"used_{unit}"] >= owner.problem[f"allowed_{unit}"] > 0

    for headers in ((), (f"Authorization: Bearer {OTHER_KEY}",)):
        stranger = plane.get(path_of(limit), *headers)
        assert stranger.status == status
        assert stranger.problem["type"].endswith(kind)
        assert set(stranger.problem) == {"type", "title", "status", "detail", "component", "request_id"}
        assert "link" not in stranger.headers
        assert not any(name.startswith("ratelimit") for name in stranger.headers)
        assert not any(letter.isdigit() for letter in stranger.problem["detail"])


@pytest.mark.parametrize("limit", OVERRUNS)
def test_without_a_tier_that_allows_more_it_is_no_402(make_plane: Callable[..., Plane], limit: str) -> None:
    others = {name: tier for name, tier in ALL.items() if not name.endswith(limit.replace("wall-clock", "timeout"))}
    plane = make_plane(document(**others))
    owner = plane.get(path_of(limit), OWNER)
    assert owner.status == OVERRUNS[limit][1], owner.problem
    assert "link" not in owner.headers
    assert "next_tier" not in owner.problem


def test_where_nothing_can_be_bought_there_is_no_link(make_plane: Callable[..., Plane]) -> None:
    answer = make_plane(document(url="", **ALL)).get(path_of("output"), OWNER)
    assert (answer.status, answer.problem["next_tier"]) == (402, "pro-o")
    assert "link" not in answer.headers


def test_a_worker_that_stops_itself_is_killed_at_its_limit(make_plane: Callable[..., Plane]) -> None:
    problem = make_plane(document()).get(f"/acme/echo/signal?n={int(signal.SIGSTOP)}", OWNER).problem
    assert (problem["limit"], problem["allowed_ms"]) == ("wall-clock", 300)


def test_a_worker_that_claims_to_be_interrupted_is_not_believed(make_plane: Callable[..., Plane]) -> None:
    problem = make_plane(document()).get("/acme/echo/interrupted").problem
    assert (problem["type"].rpartition("/")[2], problem["reason"]) == ("function-crashed", "garbage")


def test_a_gateway_that_was_stopped_does_not_kill_finished_work(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(document())
    assert plane.get("/acme/echo").status == 200
    clients = [plane.connect() for _ in range(6)]
    for client in clients:
        client.sendall(b"GET /acme/echo/sleep?s=0.1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    deadline = time.monotonic() + 20
    while plane.command("metrics")["tenants"][0]["in_flight"] < len(clients):
        assert time.monotonic() < deadline
    plane.process.send_signal(signal.SIGSTOP)
    time.sleep(0.8)
    plane.process.send_signal(signal.SIGCONT)
    for client in clients:
        head = client.recv(65536)
        # One that was still queued when the gateway stopped is dispatched, and runs, afterwards.
        assert head.startswith(b"HTTP/1.1 200"), head
        client.close()


def totals(plane: Plane) -> dict[str, int]:
    reactor = plane.command("metrics")["reactors"][0]
    return {name: value for name, value in reactor.items() if name.startswith("usage_")}


def test_every_admitted_invocation_has_one_usage_record(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(document())
    cpu_us = 0
    for path in ("", "/burn?s=0.02", "/status?n=404", "/exit?n=3", "/sleep?s=30", "/big?n=50", "/big?n=101"):
        cpu_us += int(plane.get(f"/acme/echo{path}", OWNER).headers["tailcut-cpu-us"])
    executed = 7
    plane.get("/acme/nothing")
    plane.get("/acme/echo", "Authorization: Bearer tck_" + "x" * 40)
    found = totals(plane)
    assert (found["usage_records_total"], found["usage_executed_total"]) == (executed, executed)
    # What the answers said is what the records say, to the microsecond that each was rounded down to.
    assert 0 <= found["usage_cpu_ns_total"] // 1000 - cpu_us <= executed
    assert cpu_us >= 20_000
    assert found["usage_wall_ns_total"] >= 300_000_000

    # A client that goes away costs its record, too.
    with plane.connect() as client:
        client.sendall(b"GET /acme/echo/sleep?s=0.1 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.02)
    deadline = time.monotonic() + 20
    while totals(plane)["usage_records_total"] < executed + 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert totals(plane)["usage_records_total"] == executed + 1


@pytest.mark.parametrize("movable", [1, 0], ids=["from outside", "by a new worker"])
def test_limits_of_live_workers_change_without_a_redeploy(make_plane: Callable[..., Plane], movable: int) -> None:
    def limited(number: int, open_files: int) -> dict[str, Any]:
        spawn = f'{{"spawned": {movable}}}'
        row = version(0, "echo", spawn=spawn, open_files_max=open_files, workers_min=1)
        return revision([row], [route("echo", 0)], number)

    plane = make_plane(limited(1, 200))
    before = int(plane.get("/acme/echo/pid").body)
    plane.get("/acme/echo")
    plane.apply(limited(2, 100))
    deadline = time.monotonic() + 20
    while True:
        now = int(plane.get("/acme/echo/pid").body)
        soft = Path(f"/proc/{now}/limits").read_text().partition("Max open files")[2].split()[0] if movable else ""
        if (movable and soft == "100") or (not movable and now != before):
            break
        assert time.monotonic() < deadline, (before, now, soft)
    assert (now == before) == bool(movable)
