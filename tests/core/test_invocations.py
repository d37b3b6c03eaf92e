"""What becomes of an invocation: who may, what the function's worker may do, and what the caller then hears."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import KEY, NO_SCOPE_KEY, OTHER_KEY, OWNER, Answer, Plane, revision, route, version


@pytest.fixture
def guarded(make_plane: Callable[..., Plane]) -> Plane:
    return make_plane(
        revision(
            [version(0, "open"), version(1, "closed", timeout_ms=300)],
            [
                route("open", 0),
                route("closed", 1, public=False),
                route("closed", 1, qualifier="canary", public=False),
                route("unready", -1, public=False, error="ImportError: no module"),
            ],
        )
    )


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/acme/open", None, 200),
        ("/acme/open", "nonsense", 200),
        ("/acme/open", "tck_unknown", 401),
        ("/acme/open", OTHER_KEY, 200),
        ("/acme/closed", None, 401),
        ("/acme/closed", "tck_unknown", 401),
        ("/acme/closed", NO_SCOPE_KEY, 403),
        ("/acme/closed", OTHER_KEY, 403),
        ("/acme/closed", KEY, 200),
        ("/acme/closed@canary", KEY, 200),
        ("/acme/closed@blue", KEY, 404),
        ("/acme/none", KEY, 404),
        ("/none/open", KEY, 404),
        ("/acme", KEY, 404),
        ("/", None, 404),
        ("/acme/unready", KEY, 500),
        ("/acme/unready", None, 401),
    ],
)
def test_who_may_call_what(guarded: Plane, path: str, key: str | None, status: int) -> None:
    answer = guarded.get(path, *([] if key is None else [f"Authorization: Bearer {key}"]))
    assert answer.status == status
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if status == 500:
        assert answer.problem["traceback"] == "ImportError: no module"


def test_the_function_sees_the_request_and_not_the_key(guarded: Plane) -> None:
    answer = guarded.get(
        "/acme/closed/seen/a%20b?x=1",
        f"Authorization: Bearer {KEY}",
        "X-Thing: v",
        "TE: trailers",
        method="PUT",
        body=b"abc",
    )
    seen = json.loads(answer.body)
    assert (seen["method"], seen["path"], seen["query"], seen["body"]) == ("PUT", "/seen/a b", {"x": "1"}, 3)
    headers = dict(seen["headers"])
    assert headers["x-thing"] == "v"
    assert headers["host"] == "x"
    assert not {"authorization", "connection", "te"} & set(headers)
    seen = json.loads(guarded.get("/acme/open/seen", "Authorization: Basic eDp5").body)
    assert dict(seen["headers"])["authorization"] == "Basic eDp5"


def test_openapi_is_the_tenants_for_its_keys_and_public_for_others(guarded: Plane) -> None:
    for key, document in ((None, "public"), (OTHER_KEY, "public"), (KEY, "all")):
        answer = guarded.get("/acme/-/openapi.json", *([] if key is None else [f"Authorization: Bearer {key}"]))
        assert json.loads(answer.body) == {"openapi": document}
    assert guarded.get("/none/-/openapi.json").status == 404


def test_a_base_domain_names_the_tenant(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(base_domain="fn.example")
    answer = plane.ask(b"GET /echo HTTP/1.1\r\nHost: acme.fn.example:80\r\nConnection: close\r\n\r\n")
    assert answer.body == b"hello"


def test_a_function_that_takes_too_long_is_killed_and_runs_no_further(
    make_plane: Callable[..., Plane], tmp_path: Path
) -> None:
    plane = make_plane(revision([version(0, "echo", timeout_ms=200)], [route("echo", 0)]))
    marks = tmp_path / "marks"
    answer = plane.get(f"/acme/echo/mark?s=1&file={marks}", OWNER)
    problem = answer.problem
    assert answer.status == 504
    assert problem["type"].endswith("/timeout")
    assert problem["component"] == "function"
    assert (problem["limit"], problem["allowed_ms"]) == ("wall-clock", 200)
    assert problem["used_ms"] >= 200
    time.sleep(1.2)
    assert marks.read_text() == "before\n"
    assert plane.get("/acme/echo").body == b"hello"


@pytest.mark.parametrize(
    ("path", "member", "value"),
    [
        ("signal?n=9", "signal", 9),
        ("signal?n=11", "signal", 11),
        ("exit?n=3", "exit_status", 3),
        ("exit?n=0", "exit_status", 0),
    ],
)
def test_a_worker_that_dies_costs_its_own_invocation_only(plane: Plane, path: str, member: str, value: int) -> None:
    problem = plane.get(f"/acme/echo/{path}").problem
    assert (problem["status"], problem["component"]) == (500, "function")
    assert problem["type"].endswith("/function-crashed")
    assert problem[member] == value
    assert plane.event("exited")["pid"] > 0
    assert plane.get("/acme/echo").body == b"hello"


@pytest.mark.parametrize(
    "kind", ["short", "magic", "kind", "sequence", "length", "long", "status", "block", "ready", "empty"]
)
def test_garbage_from_a_worker_kills_it(plane: Plane, kind: str) -> None:
    problem = plane.get(f"/acme/echo/garbage?kind={kind}").problem
    assert problem["status"] == 500
    assert problem["type"].endswith("/function-crashed")
    assert plane.event("exited")["status"] == 9
    assert plane.get("/acme/echo").body == b"hello"


def test_an_answer_too_many_is_never_anybodys(plane: Plane) -> None:
    assert plane.get("/acme/echo/twice").body == b"one"
    assert plane.event("exited")["pid"] > 0
    assert plane.get("/acme/echo").body == b"hello"


@pytest.mark.parametrize(
    ("name", "value"), [("x", "a\r\nset-cookie: b"), ("x", "a\nb"), ("x", "\0"), ("a b", "c"), ("", "c"), ("x:y", "c")]
)
def test_headers_cannot_be_injected(plane: Plane, name: str, value: str) -> None:
    answer = plane.get(
        f"/acme/echo/header?name={name.encode().hex()}&value={value.encode().hex()}"
        if name
        else f"/acme/echo/garbage?kind=block&value={value}"
    )
    assert answer.status == 500
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "name", ["Content-Length", "transfer-encoding", "Connection", "Date", "tailcut-cpu-us", "ratelimit"]
)
def test_headers_that_are_ours_are_dropped(plane: Plane, name: str) -> None:
    answer = plane.get(f"/acme/echo/header?name={name.encode().hex()}&value={b'forged'.hex()}")
    assert answer.status == 200
    assert "forged" not in answer.headers.values()


def test_cookies_of_ours_are_neither_shown_to_functions_nor_set_by_them(plane: Plane) -> None:
    seen = json.loads(plane.get("/acme/echo/seen", "Cookie: a=b; tailcut_session=secret; c=d").body)
    assert dict(seen["headers"])["cookie"] == "a=b; c=d"
    seen = json.loads(plane.get("/acme/echo/seen", "COOKIE: tailcut_sign_in=secret", "X-Thing: v").body)
    assert "cookie" not in dict(seen["headers"])
    assert dict(seen["headers"])["x-thing"] == "v"
    for value, kept in ((b"a=b", True), (b"tailcut_session=x; Path=/", False), (b"=tailcut_session=x", False)):
        answer = plane.get(f"/acme/echo/header?name={b'set-cookie'.hex()}&value={value.hex()}")
        assert answer.status == 200
        assert ("set-cookie" in answer.headers) == kept, value


def test_failures_of_the_function(guarded: Plane) -> None:
    problem = guarded.get("/acme/closed/raise", f"Authorization: Bearer {KEY}").problem
    assert problem["type"].endswith("/function-error")
    assert problem["error"] == {"type": "ValueError", "message": 'bad "x"'}
    assert problem["traceback"] == "Traceback…"
    assert "traceback" not in guarded.get("/acme/open/raise").problem
    problem = guarded.get("/acme/open/arguments").problem
    assert problem["status"] == 422
    assert problem["errors"] == [
        {"argument": "amount", "detail": "must be a number"},
        {"argument": "id", "detail": "is missing"},
    ]
    assert problem["detail"] == "The arguments do not fit the function's signature."
    problem = guarded.get("/acme/open/nonsense").problem
    assert (problem["status"], problem["detail"], problem["errors"]) == (422, "The body is not JSON.", [])


def test_output_over_the_limit_is_refused_and_the_worker_lives(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(revision([version(0, "echo", output_bytes_max=50_000)], [route("echo", 0)]))
    pid = plane.get("/acme/echo/pid").body
    assert len(plane.get("/acme/echo/big?n=50000").body) == 50_000
    for size in (50_001, 7 * 2**20):
        problem = plane.get(f"/acme/echo/big?n={size}", OWNER).problem
        assert problem["type"].endswith("/output-limit")
        assert (problem["allowed_bytes"], problem["used_bytes"]) == (50_000, size)
    assert plane.get("/acme/echo/pid").body == pid


def test_lines_of_output_become_events(plane: Plane) -> None:
    answer = plane.get("/acme/echo/log?lines=one,two")
    for line in ("one", "two"):
        event = plane.event("log")
        assert (event["payload"], event["stream"], event["version"]) == (line, 1, 0)
        assert event["invocation"] == answer.headers["tailcut-request-id"]


def test_output_without_end_is_ended(plane: Plane) -> None:
    assert plane.get("/acme/echo/flood").status in (500, 504)
    assert plane.get("/acme/echo").body == b"hello"


def test_concurrency_over_the_tenants_limit_is_429(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(revision([version(0, "echo")], [route("echo", 0)], concurrency_max=2))
    with plane.connect() as one, plane.connect() as two:
        for client in (one, two):
            client.sendall(b"GET /acme/echo/sleep?s=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.3)
        answer = plane.get("/acme/echo")
        assert answer.status == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.problem["violated-policies"] == ["concurrency"]
    deadline = time.monotonic() + 20
    while plane.get("/acme/echo").status != 200:
        assert time.monotonic() < deadline


def test_long_invocations_get_more_workers_up_to_the_bound_and_others_wait(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(revision([version(0, "echo", concurrency_max=3)], [route("echo", 0)]), queue_timeout=0.8)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(plane.get("/acme/echo/sleep?s=0.6").status)) for _ in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert plane.command("metrics")["reactors"][0]["workers_started_total"] == 3
    # Three run at once, three more find a worker in time, the rest wait too long.
    assert 3 <= statuses.count(200) <= 6
    assert statuses.count(503) == 9 - statuses.count(200) > 0


def test_one_functions_queue_does_not_stand_before_anothers_call(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(
        revision([version(0, "slow", concurrency_max=1), version(1, "fast")], [route("slow", 0), route("fast", 1)])
    )
    clients = [plane.connect() for _ in range(10)]
    for client in clients:
        client.sendall(b"GET /acme/slow/sleep?s=0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
    began = time.monotonic()
    assert plane.get("/acme/fast").status == 200
    alone = 10 * 0.5
    assert time.monotonic() - began < alone
    for client in clients:
        client.close()


def test_each_of_a_crowd_gets_its_own_answer_though_some_leave(plane: Plane) -> None:
    """Answers of short invocations in a row are sent together: to who waits, and to nobody else."""
    for turn in range(20):
        stay, leave = [plane.connect() for _ in range(12)], [plane.connect() for _ in range(4)]
        for number, client in enumerate([*stay, *leave]):
            body = f"{turn}-{number}".encode()
            client.sendall(b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        for client in leave:
            client.close()
        for number, client in enumerate(stay):
            assert Answer.read(client).body == f"{turn}-{number}".encode()
            client.close()
    deadline = time.monotonic() + 20
    while plane.command("metrics")["tenants"][0]["in_flight"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
