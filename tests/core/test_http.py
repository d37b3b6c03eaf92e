"""HTTP as clients see it: framing, pipelining, bodies, refusals, time-outs, connections."""

import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from .conftest import ECHO, Answer, Plane, revision, route, version


def ends(client: socket.socket) -> bytes:
    """What still comes until the connection ends."""
    data = b""
    try:
        while more := client.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


def test_a_function_answers_over_http(plane: Plane) -> None:
    answer = plane.get("/acme/echo", body=b"body", method="POST")
    assert (answer.status, answer.body) == (200, b"body")
    assert len(answer.headers["tailcut-request-id"]) == 32
    assert answer.headers["tailcut-version"] == "ver_echo0"
    assert answer.headers["tailcut-start"] == "cold"
    assert answer.headers["connection"] == "close"
    assert int(answer.headers["tailcut-cpu-us"]) >= 0
    assert int(answer.headers["tailcut-queue-us"]) > 0
    assert plane.get("/acme/echo").headers["tailcut-start"] == "warm"


def test_a_connection_serves_many_requests_and_ids_differ(plane: Plane) -> None:
    ids = set()
    with plane.connect() as client:
        for number in range(50):
            body = b"n%d" % number
            client.sendall(b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            answer = Answer.read(client)
            assert answer.body == body
            assert "connection" not in answer.headers
            ids.add(answer.headers["tailcut-request-id"])
    assert len(ids) == 50


def test_pipelined_requests_are_answered_in_order(plane: Plane) -> None:
    count = 200
    with plane.connect() as client:
        client.sendall(
            b"".join(b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n%03d" % n for n in range(count))
        )
        rest = bytearray()
        assert [Answer.read(client, rest=rest).body for _ in range(count)] == [b"%03d" % n for n in range(count)]


@pytest.mark.parametrize("size", [1, 4095, 32 * 1024, 32 * 1024 + 1, 100_000, 6 * 2**20])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_every_size_come_back_whole(plane: Plane, size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    follow = b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nnext"
    if chunked:
        parts = [body[at : at + 60_001] for at in range(0, size, 60_001)]
        framed = b"".join(b"%x;e=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nT: 1\r\n\r\n"
        raw = b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + framed
    else:
        raw = b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (size, body)
    with plane.connect() as client:
        client.sendall(raw + follow)
        rest = bytearray()
        answer = Answer.read(client, rest=rest)
        assert answer.status == 200
        assert answer.body == body
        assert Answer.read(client, rest=rest).body == b"next"


def test_a_large_request_waits_behind_one_that_runs(plane: Plane) -> None:
    """Backpressure: what does not fit is read later, and nothing of it is lost."""
    body = bytes(range(251)) * 20_000
    with plane.connect() as client:
        client.sendall(b"GET /acme/echo/sleep?s=0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        client.sendall(b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        rest = bytearray()
        assert Answer.read(client, rest=rest).body == b"slept"
        assert Answer.read(client, rest=rest).body == body


def test_connections_that_pipeline_without_end_do_not_stop_others(make_plane: Callable[..., Plane]) -> None:
    """What waits behind running requests takes a bounded part of the buffers that all connections receive into."""
    held_max = 512  # limits.receive_buffers_held_max, of 1024
    document = revision([version(0, "slow"), version(1, "fast")], [route("slow", 0), route("fast", 1)])
    plane = make_plane(document, queue_timeout=60)
    assert plane.get("/acme/fast").status == 200
    hostile = [plane.connect() for _ in range(100)]
    behind = b"POST /acme/fast HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(400_000)
    for client in hostile:
        client.sendall(b"GET /acme/slow/sleep?s=0.5 HTTP/1.1\r\nHost: x\r\n\r\n" + behind[:150_000])
        client.setblocking(False)
    held = 0
    for _ in range(20):
        for client in hostile:
            with contextlib.suppress(BlockingIOError):
                client.send(behind[150_000:])
        held = max(held, plane.command("metrics")["reactors"][0]["receive_buffers_held"])
        began = time.monotonic()
        assert plane.get("/acme/fast").status == 200
        assert time.monotonic() - began < 5
        time.sleep(0.02)
    # The pressure was real: as much as may be was held (one connection's share may just have been dropped).
    assert held_max - 64 <= held <= held_max
    closed = 0
    for client in hostile:
        client.settimeout(60)
        rest = bytearray()
        answer = Answer.read(client, rest=rest)
        assert (answer.status, answer.body) == (200, b"slept")
        closed += answer.headers.get("connection") == "close"
    assert 0 < closed < len(hostile)
    for client in hostile:
        client.close()
    deadline = time.monotonic() + 20
    while plane.command("metrics")["reactors"][0]["receive_buffers_held"] > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_head_has_the_length_and_no_body(plane: Plane) -> None:
    with plane.connect() as client:
        client.sendall(b"HEAD /acme/echo HTTP/1.1\r\nHost: x\r\n\r\nGET /acme/echo HTTP/1.1\r\nHost: x\r\n\r\n")
        rest = bytearray()
        assert Answer.read(client, head_only=True, rest=rest).headers["content-length"] == "5"
        assert Answer.read(client, rest=rest).body == b"hello"


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize(("status", "length"), [(204, None), (304, None), (205, "0"), (206, "4")])
def test_statuses_without_a_body_have_none(plane: Plane, status: int, length: str | None, method: bytes) -> None:
    """Whatever the worker says, the next answer begins where a reader looks for it. (206 is the control.)"""
    with plane.connect() as client:
        client.sendall(b"%s /acme/echo/status?n=%d&body=lost HTTP/1.1\r\nHost: x\r\n\r\n" % (method, status))
        client.sendall(b"GET /acme/echo HTTP/1.1\r\nHost: x\r\n\r\n")
        rest = bytearray()
        answer = Answer.read(client, head_only=method == b"HEAD", rest=rest)
        assert (answer.status, answer.headers.get("content-length")) == (status, length)
        assert answer.body == (b"lost" if (status, method) == (206, b"GET") else b"")
        assert Answer.read(client, rest=rest).body == b"hello"


def test_http_1_0_closes_unless_asked(plane: Plane) -> None:
    with plane.connect() as client:
        client.sendall(b"GET /acme/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert Answer.read(client).headers["connection"] == "keep-alive"
        client.sendall(b"GET /acme/echo HTTP/1.0\r\n\r\n")
        assert Answer.read(client).headers["connection"] == "close"
        assert ends(client) == b""


def test_expect_continue_is_answered_before_the_body(plane: Plane) -> None:
    for length in (4, 100_000):
        with plane.connect() as client:
            client.sendall(
                b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length
            )
            assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"b" * length)
            assert Answer.read(client).body == b"b" * length


def test_a_body_that_will_be_refused_is_not_asked_for(plane: Plane) -> None:
    with plane.connect() as client:
        client.sendall(b"POST /acme/none HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        answer = Answer.read(client)
        assert answer.status == 404
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("raw", "status", "slug"),
    [
        (b"garbage\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri-too-long"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 17000 + b"\r\n\r\n", 431, "header-fields-too-large"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "not-implemented"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400, "bad-request"),
        (b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6291457\r\n\r\n", 413, "content-too-large"),
        (
            b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n600001\r\n",
            413,
            "content-too-large",
        ),
        (b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad-request"),
        (b"GET /acme/echo/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad-request"),
        (bytes(range(256)) * 40, 400, "bad-request"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ends(
    plane: Plane, raw: bytes, status: int, slug: str
) -> None:
    with plane.connect() as client:
        client.sendall(raw)
        rest = bytearray()
        answer = Answer.read(client, rest=rest)
        assert answer.status == status
        assert answer.problem["type"] == f"https://docs.example/errors/{slug}"
        assert answer.problem["component"] == "gateway"
        assert answer.headers["connection"] == "close"
        assert bytes(rest) + ends(client) == b""


def test_the_client_of_a_refused_upload_can_read_the_answer(plane: Plane) -> None:
    """It is still sending: closing at once would reset the connection under the answer."""
    with plane.connect() as client:
        client.sendall(b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
        try:
            for _ in range(100):
                client.sendall(b"x" * 50_000)
                time.sleep(0.001)
        except (BrokenPipeError, ConnectionResetError):
            pytest.fail("the connection was reset before the answer was read")
        assert Answer.read(client).status == 413


def test_the_functions_own_limit_on_requests_holds(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(revision([version(0, "echo", request_bytes_max=10)], [route("echo", 0)]))
    assert plane.get("/acme/echo", method="POST", body=b"x" * 10).status == 200
    assert plane.get("/acme/echo", method="POST", body=b"x" * 11).status == 413
    assert plane.get("/acme/echo", method="POST", body=b"x" * 50_000).status == 413


def test_slow_clients_are_timed_out(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(header_timeout=0.3, body_timeout=0.3, idle_timeout=0.5)
    with plane.connect() as head, plane.connect() as body, plane.connect() as idle, plane.connect() as used:
        head.sendall(b"GET / HTTP/1.1\r\n")
        body.sendall(b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        used.sendall(b"GET /acme/echo HTTP/1.1\r\nHost: x\r\n\r\n")
        assert Answer.read(used).status == 200
        assert Answer.read(head).status == 408
        assert Answer.read(body).status == 408
        assert ends(idle) == b""
        assert ends(used) == b""


def test_one_byte_at_a_time_is_served(plane: Plane) -> None:
    raw = b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with plane.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw:
            client.sendall(bytes([byte]))
            time.sleep(0.001)
        assert Answer.read(client).body == b"abc"


def test_a_client_that_has_sent_all_may_close_its_half(plane: Plane) -> None:
    with plane.connect() as client:
        client.sendall(b"GET /acme/echo/sleep?s=0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert Answer.read(client).body == b"slept"
        assert ends(client) == b""


def test_a_thousand_idle_connections_disturb_nobody(plane: Plane) -> None:
    clients = [plane.connect() for _ in range(1000)]
    try:
        assert plane.get("/acme/echo").status == 200
        for client in clients[::97]:
            client.sendall(b"GET /acme/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            assert Answer.read(client).status == 200
    finally:
        for client in clients:
            client.close()


def test_a_full_table_of_connections_answers_503(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(connections_max=4)
    kept = [plane.connect() for _ in range(4)]
    try:
        for client in kept:
            client.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert Answer.read(client).status == 200
        with plane.connect() as client:
            answer = Answer.read(client)
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
    finally:
        for client in kept:
            client.close()
    deadline = time.monotonic() + 20
    while plane.get("/-/healthz").status != 200:
        assert time.monotonic() < deadline


def test_clients_that_go_away_disturb_nobody(plane: Plane) -> None:
    linger = b"\x01\0\0\0\0\0\0\0"
    for raw in (
        b"GET /acme/ec",
        b"POST /acme/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\nabc",
        b"GET /acme/echo/sleep?s=0.2 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /acme/echo/big?n=6000000 HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        for reset in (False, True):
            with plane.connect() as client:
                client.sendall(raw)
                time.sleep(0.05)
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert plane.get("/acme/echo").body == b"hello"
    deadline = time.monotonic() + 20
    while plane.command("metrics")["reactors"][0]["connections_open"] > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while plane.command("metrics")["tenants"][0]["in_flight"] > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_reader_that_stops_is_cut_off_and_the_worker_goes_on(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(write_timeout=0.5)
    with plane.connect() as client:
        client.sendall(b"GET /acme/echo/big?n=6291456 HTTP/1.1\r\nHost: x\r\n\r\n" * 4)
        time.sleep(0.2)
        assert plane.get("/acme/echo").body == b"hello"
        deadline = time.monotonic() + 20
        while plane.command("metrics")["reactors"][0]["connections_open"] > 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_our_own_paths(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(None)
    assert plane.get("/-/healthz").status == 200
    assert plane.get("/-/readyz").status == 503
    assert plane.get("/acme/echo").problem["type"].endswith("/not-ready")
    plane.apply(ECHO)
    assert plane.get("/-/readyz").status == 200
    assert plane.get("/-/healthz", method="POST", body=b"x").status == 405
    assert plane.get("/-/metrics").status == 404
    with plane.connect() as client:
        client.sendall(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
        assert Answer.read(client).status == 204
