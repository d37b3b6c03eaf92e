"""Clients that are slow, absent, huge or hostile: they cost themselves a connection, and nobody else anything."""

import contextlib
import os
import socket
import threading
import time

import pytest

from tests.support.raw import connect, request

ECHO = (
    "import tailcut\n\n"
    "def handler(request: tailcut.Request):\n"
    "    return tailcut.Response(request.body, headers={'content-type': 'application/octet-stream'})\n"
)
SLOW = "import time\n\ndef handler(seconds: float):\n    time.sleep(seconds)\n    return 'slept'\n"
MIB = 2**20


@pytest.fixture(scope="module")
def functions(server):
    server.deploy("echo", ECHO, handler="main:handler")
    server.deploy("slow", SLOW, handler="main:handler", timeout_ms=30_000)
    return server


@pytest.mark.parametrize("size", [0, 1, 4096, 32 * 1024, 32 * 1024 + 1, 64 * 1024, MIB, 6 * MIB])
def test_bodies_of_every_size_come_back_byte_for_byte(functions, size):
    body = os.urandom(size)
    answer = functions.invoke("echo", content=body)
    assert answer.status_code == 200
    assert answer.content == body


def test_a_body_over_the_limit_is_413_before_it_is_read(functions):
    with connect(functions.gateway_url) as connection:
        head = request("POST", f"/{functions.tenant}/echo", key=functions.key).replace(
            b"Content-Length: 0", b"Content-Length: %d" % (6 * MIB + 1)
        )
        connection.send(head)
        answer = connection.answer()
        assert answer is not None
        assert answer.status == 413
        assert connection.closed()


def test_a_chunked_body_over_the_limit_is_413(functions):
    with connect(functions.gateway_url) as connection:
        head = request("POST", f"/{functions.tenant}/echo", key=functions.key).replace(
            b"Content-Length: 0", b"Transfer-Encoding: chunked"
        )
        connection.send(head)
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        try:
            for _ in range(6 * 16 + 2):
                connection.send(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused while we were still sending: what counts is the answer
        answer = connection.answer()
        assert answer is not None
        assert answer.status == 413


def test_chunked_and_expect_continue(functions):
    with connect(functions.gateway_url) as connection:
        connection.send(
            request("POST", f"/{functions.tenant}/echo", key=functions.key, headers={"Expect": "100-continue"}).replace(
                b"Content-Length: 0", b"Content-Length: 5"
            )
        )
        interim = connection.answer()
        assert interim is not None
        assert interim.status == 100
        connection.send(b"hello")
        answer = connection.answer()
        assert answer is not None
        assert answer.body == b"hello"


def test_pipelined_requests_are_answered_in_order(functions):
    with connect(functions.gateway_url) as connection:
        bodies = [b"%d" % i * 100 for i in range(200)]
        connection.send(
            b"".join(request("POST", f"/{functions.tenant}/echo", key=functions.key, body=body) for body in bodies)
        )
        for body in bodies:
            answer = connection.answer()
            assert answer is not None
            assert (answer.status, answer.body) == (200, body)


def test_a_pipelining_flood_is_held_back_or_ended_orderly(functions):
    """2 MiB of requests behind a slow one: more than is kept for one client, so the connection may end early (RFC 9112,
    section 9.3.2), but never in the middle of an answer, and never without the one that was being served."""
    with connect(functions.gateway_url) as connection:
        slow = request("POST", f"/{functions.tenant}/slow", key=functions.key, body=b'{"seconds": 0.5}')
        echo = request("POST", f"/{functions.tenant}/echo", key=functions.key, body=b"y" * 1000)
        count = 2 * MIB // len(echo)

        def flood() -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(slow + echo * count)

        sender = threading.Thread(target=flood)
        sender.start()
        first = connection.answer()
        assert first is not None
        assert first.json() == "slept"
        answered = 0
        while answered < count and (answer := connection.answer()) is not None:
            assert answer.body == b"y" * 1000
            answered += 1
        if answered < count:
            assert connection.closed()
        connection.socket.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert functions.invoke("echo", content=b"still here").content == b"still here"


def test_a_client_that_goes_away_in_the_middle_of_its_request(functions):
    for cut in (10, 60, 200, 5000):
        with connect(functions.gateway_url) as connection:
            whole = request("POST", f"/{functions.tenant}/echo", key=functions.key, body=b"z" * 10_000)
            connection.send(whole[:cut])
    assert functions.invoke("echo", content=b"still here").content == b"still here"


def test_a_client_that_goes_away_while_its_call_runs_or_its_answer_is_sent(functions):
    for _ in range(5):
        with connect(functions.gateway_url) as connection:
            connection.send(request("POST", f"/{functions.tenant}/slow", key=functions.key, body=b'{"seconds": 0.1}'))
    for _ in range(5):
        with connect(functions.gateway_url) as connection:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.send(request("POST", f"/{functions.tenant}/echo", key=functions.key, body=bytes(4 * MIB)))
            connection.socket.recv(1000)
            # Reset, not an orderly close: the rest of the answer hits a dead socket.
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert functions.invoke("slow", seconds=0).json() == "slept"
    assert functions.invoke("echo", content=b"still here").content == b"still here"


def test_a_slow_sender_gets_408_and_others_are_not_held_up(own_server):
    server = own_server(header_timeout_ms=500, body_timeout_ms=500)
    server.deploy("echo", ECHO, handler="main:handler")
    with connect(server.gateway_url) as head, connect(server.gateway_url) as body:
        whole = request("POST", f"/{server.tenant}/echo", key=server.key, body=b"abcdef")
        head.send(whole[:20])
        body.send(whole[:-3])
        assert server.invoke("echo", content=b"quick").content == b"quick"
        for connection in (head, body):
            answer = connection.answer()
            assert answer is not None
            assert answer.status == 408
            assert connection.closed()


def test_a_thousand_idle_connections(functions):
    idle = [connect(functions.gateway_url) for _ in range(1000)]
    opened = [manager.__enter__() for manager in idle]
    try:
        assert functions.invoke("echo", content=b"through the crowd").content == b"through the crowd"
        for connection in opened[::100]:
            connection.send(request("POST", f"/{functions.tenant}/echo", key=functions.key, body=b"me too"))
            answer = connection.answer()
            assert answer is not None
            assert answer.body == b"me too"
    finally:
        for manager in idle:
            manager.__exit__(None, None, None)


GARBAGE = {
    "TLS client hello": bytes.fromhex("1603010200010001fc0303") + os.urandom(200),
    "random": b"\x80\xff" + os.urandom(4096),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(24),
    "NULs": bytes(100_000),
    "a line without end": b"GET /" + b"a" * 100_000,
    "headers without end": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000,
    "redis": b"*1\r\n$4\r\nPING\r\n",
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_answered_with_an_error_and_closed(functions, case):
    with connect(functions.gateway_url) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(GARBAGE[case])
        try:
            answer = connection.answer()
        except ConnectionResetError:
            answer = None
        assert answer is None or answer.status in (400, 414, 431, 501, 505)
        assert connection.closed()
    assert functions.invoke("echo", content=b"fine").content == b"fine"


def test_random_garbage_on_many_connections_at_once(functions):
    for _ in range(300):
        with connect(functions.gateway_url) as connection:
            connection.send(os.urandom(64))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if functions.invoke("echo", content=b"fine").content == b"fine":
            return
    raise AssertionError("the gateway does not answer after garbage")
