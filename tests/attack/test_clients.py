"""Clients that hold on to what everybody shares: the buffers for large bodies are there for those who use them."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.core.conftest import ECHO, Plane

LARGE = b"x" * 100_000
BUFFERS = 64
"""body_buffers_count of zigcore/src/limits.zig: of one reactor, and these planes have one."""
HELD_S = 1.2
"""Longer than body_buffer_hold_ns."""


@contextmanager
def crowd(plane: Plane, count: int, request: bytes) -> Iterator[list[socket.socket]]:
    """So many clients that send ``request`` and read nothing."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", plane.port))
            client.sendall(request)
            clients.append(client)
        yield clients


def upload(path: str, sent: bytes = b"abc") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 6000000\r\n\r\n".encode() + sent


def echoed(plane: Plane) -> int:
    return plane.get("/acme/echo", method="POST", body=LARGE).status


@pytest.mark.parametrize("path", ["/-/healthz", "/acme/-/openapi.json", "/nobody/nothing", "/"])
def test_a_body_that_nobody_will_read_gets_no_buffer(plane: Plane, path: str) -> None:
    with crowd(plane, 2 * BUFFERS, upload(path)):
        assert [echoed(plane) for _ in range(3)] == [200] * 3


def test_slow_uploads_give_way_when_buffers_are_short(plane: Plane) -> None:
    with crowd(plane, BUFFERS, upload("/acme/echo")):
        assert echoed(plane) == 503, "the attack did not take place"
        time.sleep(HELD_S)
        assert [echoed(plane) for _ in range(20)] == [200] * 20


def test_a_slow_upload_is_left_alone_while_buffers_are_plenty(plane: Plane) -> None:
    with crowd(plane, BUFFERS // 2, upload("/acme/echo")) as clients:
        time.sleep(HELD_S)
        assert [echoed(plane) for _ in range(20)] == [200] * 20
        for client in clients:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)


def test_the_fast_keep_their_buffers(plane: Plane) -> None:
    """The one that has sent most is not the one that gives way."""
    with plane.connect() as fast:
        body = b"f" * 6_000_000
        fast.sendall(upload("/acme/echo", body[:-1]))
        with crowd(plane, BUFFERS, upload("/acme/echo")):
            time.sleep(HELD_S)
            assert [echoed(plane) for _ in range(20)] == [200] * 20
            fast.sendall(body[-1:])
            received = b""
            while not received.endswith(body[-100:]) or len(received) < len(body):
                more = fast.recv(1 << 20)
                assert more, received[:300]
                received += more
            assert received.startswith(b"HTTP/1.1 200 ")


def test_readers_who_do_not_read_give_way_when_buffers_are_short(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(ECHO)
    with crowd(plane, BUFFERS + 8, b"GET /acme/echo/big?n=6000000 HTTP/1.1\r\nHost: x\r\n\r\n"):
        time.sleep(2 * HELD_S)
        answers = [echoed(plane) for _ in range(20)]
        assert answers[1:] == [200] * 19, answers  # a buffer that the kernel was sending from comes back a moment later
