"""What the gateway's own answers say: the members that docs/errors.md promises, and that each answer is counted."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import KEY, OWNER, Answer, Plane, revision, route, version


def answers(plane: Plane) -> dict[str, int]:
    counts: dict[str, int] = plane.command("metrics")["answers"]
    return counts


def members(problem: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(problem[name] for name in names)


REFUSED = {
    "malformed": (b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400, "bad-request", {}),
    "line too long": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "uri-too-long", {"allowed_bytes": 8192}),
    "head too long": (
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17_000 + b"\r\n\r\n",
        431,
        "header-fields-too-large",
        {"allowed_bytes": 16_384},
    ),
    "too many headers": (
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 70 + b"\r\n",
        431,
        "header-fields-too-large",
        {"allowed_count": 64},
    ),
    "body announced too large": (
        b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 7000000\r\n\r\n",
        413,
        "content-too-large",
        {"allowed_bytes": 6 * 2**20, "used_bytes": 7_000_000},
    ),
    "small body over the function's limit": (
        b"POST /acme/small HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890",
        413,
        "content-too-large",
        {"allowed_bytes": 10, "used_bytes": 11},
    ),
    "chunks over the function's limit": (
        b"POST /acme/small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n",
        413,
        "content-too-large",
        {"allowed_bytes": 10},
    ),
    "expectation": (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", 417, "expectation-failed", {}),
    "method": (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501, "not-implemented", {}),
    "version": (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505, "version-not-supported", {}),
}


@pytest.fixture
def limited(make_plane: Callable[..., Plane]) -> Plane:
    document = revision(
        [version(0, "echo", timeout_ms=200), version(1, "small", request_bytes_max=10, output_bytes_max=100)],
        [route("echo", 0), route("small", 1)],
    )
    return make_plane(document, header_timeout=0.3, body_timeout=0.4)


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_bound_and_is_counted(limited: Plane, case: str) -> None:
    raw, status, slug, wanted = REFUSED[case]
    answer = limited.ask(raw)
    problem = answer.problem
    assert (answer.status, problem["component"]) == (status, "gateway")
    assert problem["type"].endswith(f"/{slug}")
    numbers = {name: value for name, value in problem.items() if name.startswith(("allowed", "used"))}
    assert numbers == wanted
    assert answers(limited) == {str(status): 1}


def test_a_late_request_is_told_how_long_it_had(limited: Plane) -> None:
    for raw, allowed_ms in (
        (b"GET / HTTP/1.1\r\n", 300),
        (b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", 400),
    ):
        problem = limited.ask(raw).problem
        assert members(problem, "status", "allowed_ms") == (408, allowed_ms)
    assert answers(limited) == {"408": 2}


def test_limits_of_the_function_come_with_what_was_used(limited: Plane) -> None:
    problem = limited.get("/acme/echo/sleep?s=5", OWNER).problem
    assert members(problem, "status", "limit", "allowed_ms") == (504, "wall-clock", 200)
    assert 200 <= problem["used_ms"] < 5000
    problem = limited.get("/acme/small/big?n=101", OWNER).problem
    assert members(problem, "status", "limit", "allowed_bytes", "used_bytes") == (500, "output", 100, 101)


def test_a_wait_for_a_worker_that_ends_says_how_long_it_was(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(revision([version(0, "echo", concurrency_max=1)], [route("echo", 0)]), queue_timeout=0.3)
    with plane.connect() as client:
        client.sendall(b"GET /acme/echo/sleep?s=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        answer = plane.get("/acme/echo")
        assert (answer.status, answer.problem["allowed_ms"]) == (503, 300)
        assert Answer.read(client).status == 200


def test_a_full_queue_is_503_and_other_functions_are_served(make_plane: Callable[..., Plane]) -> None:
    queue_version_max = 1024  # limits.zig
    document = revision(
        [version(0, "echo", concurrency_max=1, timeout_ms=60_000), version(1, "other")],
        [route("echo", 0), route("other", 1)],
        concurrency_max=4000,
    )
    plane = make_plane(document, queue_timeout=60)
    assert plane.get("/acme/echo").status == 200  # the worker is there: exactly one of the calls leaves the queue
    clients = [plane.connect() for _ in range(queue_version_max + 1)]
    for client in clients:
        client.sendall(b"GET /acme/echo/sleep?s=30 HTTP/1.1\r\nHost: x\r\n\r\n")
    deadline = time.monotonic() + 20
    while plane.command("metrics")["reactors"][0]["queue_length"] < queue_version_max:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer = plane.get("/acme/echo")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert "queue" in answer.problem["detail"]
    assert plane.get("/acme/other").body == b"hello"
    for client in clients:
        client.close()


def test_a_function_that_crashes_every_worker_is_started_more_slowly(plane: Plane) -> None:
    crashes_free_max = 16  # limits.zig
    for _ in range(crashes_free_max + 1):
        assert plane.get("/acme/echo/exit?n=1").status == 500
    began = time.monotonic()
    answer = plane.get("/acme/echo/exit?n=1")
    assert (answer.status, answer.problem["type"].rpartition("/")[2]) == (503, "not-ready")
    started = plane.command("metrics")["reactors"][0]["workers_started_total"]
    while (answer := plane.get("/acme/echo")).status == 503:
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    assert answer.body == b"hello"
    assert plane.command("metrics")["reactors"][0]["workers_started_total"] == started + 1


def test_quotas_tell_the_owner_the_numbers_and_others_only_the_name(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(revision([version(0, "echo")], [route("echo", 0)], concurrency_max=1))
    with plane.connect() as client:
        client.sendall(b"GET /acme/echo/sleep?s=0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        owner = plane.get("/acme/echo", f"Authorization: Bearer {KEY}").problem
        assert members(owner, "status", "limit", "allowed", "used") == (429, "concurrency", 1, 1)
        stranger = plane.get("/acme/echo").problem
        assert members(stranger, "limit", "violated-policies") == ("concurrency", ["concurrency"])
        assert not {"allowed", "used"} & stranger.keys()
        assert Answer.read(client).status == 200


def test_a_full_table_of_connections_is_counted(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(connections_max=1)
    with plane.connect() as kept, plane.connect() as refused:
        kept.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert Answer.read(kept).status == 200
        assert Answer.read(refused).status == 503
    assert answers(plane) == {"200": 1, "503": 1}
    assert plane.command("metrics")["reactors"][0]["connections_refused_total"] == 1


def test_header_names_are_all_written_alike(plane: Plane) -> None:
    for path in ("/acme/echo", "/acme/echo/raise", "/-/healthz"):
        with plane.connect() as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while more := client.recv(65536):
                data += more
        names = [line.split(b":")[0] for line in data.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
        assert b"Content-Type" in names
        assert all(part[:1].isupper() for name in names for part in name.split(b"-")), names


# -- Large buffers: 64 in all, 48 of them for requests too (limits.zig) ------------------------------------------------

UPLOADS, READERS, LARGE = 48, 16, 6 * 2**20


class Hogs:
    """Clients that hold every large buffer: uploads that do not go on, answers that are not read."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.uploads = [plane.connect() for _ in range(UPLOADS)]
        for client in self.uploads:
            client.sendall(b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
        self.readers = [plane.connect() for _ in range(READERS)]
        for client in self.readers:
            client.sendall(b"GET /acme/echo/big?n=%d HTTP/1.1\r\nHost: x\r\n\r\n" % LARGE)
        deadline = time.monotonic() + 20
        while self.used() < UPLOADS + READERS:
            assert time.monotonic() < deadline, self.used()
            time.sleep(0.02)

    def used(self) -> int:
        count: int = self.plane.command("metrics")["reactors"][0]["body_buffers_used"]
        return count

    def end(self) -> None:
        for client in (*self.uploads, *self.readers):
            client.close()


def test_an_answer_waits_for_a_buffer_instead_of_being_lost(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(small_windows=True)
    hogs = Hogs(plane)
    # A large request is refused before it runs; a small one is served.
    answer = plane.get("/acme/echo", method="POST", body=b"x" * 100_000)
    assert answer.problem["type"].endswith("/overloaded")
    assert plane.get("/acme/echo").body == b"hello"
    got: list[Answer] = []
    threads = [threading.Thread(target=lambda: got.append(plane.get("/acme/echo/big?n=100000"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    with plane.connect() as impatient:
        impatient.sendall(b"GET /acme/echo/big?n=100000 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.5)
    assert not got
    hogs.readers.pop().close()
    for thread in threads:
        thread.join(20)
    assert [(answer.status, len(answer.body)) for answer in got] == [(200, 100_000)] * 3
    hogs.end()
    deadline = time.monotonic() + 20
    while hogs.used() or plane.command("metrics")["tenants"][0]["in_flight"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_uploads_alone_never_keep_answers_from_their_buffers(plane: Plane) -> None:
    clients = [plane.connect() for _ in range(UPLOADS + 8)]
    for client in clients:
        client.sendall(b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
    assert all(Answer.read(client).status == 503 for client in clients[UPLOADS:])
    assert len(plane.get("/acme/echo/big?n=100000").body) == 100_000
    for client in clients:
        client.close()


def test_an_answer_never_waits_for_readers_that_trickle(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(write_timeout=20, small_windows=True)
    hogs = Hogs(plane)
    stop = threading.Event()

    def trickle() -> None:
        """Reads just enough to keep the buffers: some progress within each write time-out."""
        while not stop.is_set():
            for client in hogs.readers:
                with contextlib.suppress(OSError):  # the one that gave way
                    client.recv(300_000)
            time.sleep(0.2)

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        answer = plane.get("/acme/echo/big?n=100000")
    finally:
        stop.set()
        thread.join()
    assert (answer.status, len(answer.body)) == (200, 100_000)
    assert plane.get("/acme/echo").body == b"hello"
    hogs.end()
