"""Every stream of the parser's table against the running gateway: whole, and byte by byte.

``check_case`` needs only an address. With ``echo_path`` (a public function that answers what it was sent) it also
checks
that method and body arrive as they were meant, and that the answers of a pipeline come in order.
"""

import base64
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.http.exchange import Answer, answers, exchange
from tests.http.table import Case, Expected, load

CASES = load()

MALFORMED = {400, 408, 411, 413, 414, 417, 431, 501, 505}
"""Statuses that blame the bytes: no well-formed request may get one of them here."""

PROBE = b"GET /-/healthz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"
"""Sent behind a stream after which the connection must still be usable, and in step."""

PIECE_BYTES_LONG = 97
"""For streams that would need too many packets byte by byte; no divisor of anything in the table."""

ECHO = """
import base64
import tailcut

def handler(request: tailcut.Request):
    return {"method": request.method, "body": base64.b64encode(request.body).decode()}
"""


@pytest.fixture(scope="module")
def address(server: Any) -> tuple[str, int]:
    parts = urlsplit(server.gateway_url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@pytest.fixture(scope="module")
def echo_path(server: Any) -> str:
    server.deploy("table-echo", ECHO, handler="main:handler", public=True)
    return f"/{server.tenant}/table-echo"


def test_the_table_is_as_large_as_promised() -> None:
    assert len(CASES) >= 150
    assert sum(1 for case in CASES if any(one.status is not None for one in case.expected)) >= 100
    assert sum(1 for case in CASES if all(one.accepted for one in case.expected)) >= 50


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole(case: Case, address: tuple[str, int], echo_path: str) -> None:
    check_case(case, *address, echo_path=echo_path, piece_bytes=None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_in_pieces(case: Case, address: tuple[str, int], echo_path: str) -> None:
    piece_bytes = 1 if len(case.stream) <= 2048 else PIECE_BYTES_LONG
    check_case(case, *address, echo_path=echo_path, piece_bytes=piece_bytes)


def check_case(case: Case, host: str, port: int, *, echo_path: str | None, piece_bytes: int | None) -> None:
    """Sends one case and compares what comes back with what the table says."""
    sent = case.to(echo_path) if echo_path is not None else case
    usable = all(one.accepted and one.keep_alive for one in case.expected) and not case.rest
    received = exchange(
        host,
        port,
        sent.stream,
        piece_bytes=piece_bytes,
        half_close=any(one.incomplete for one in case.expected),
        after=PROBE if usable else b"",
    )
    got = answers(received, [one.method or "" for one in case.expected])

    for index, expected in enumerate(case.expected):
        if expected.incomplete:
            # Nobody is owed an answer to half a request; saying so before closing is allowed (RFC 9112 section 8).
            assert all(answer.status in (400, 408) for answer in got[index:]), got
            assert len(got) <= index + 1
            return
        assert index < len(got), f"{len(got)} answers to {len(case.expected)} requests"
        answer = got[index]
        if expected.status is not None:
            check_refusal(answer, expected)
            assert len(got) == index + 1, "something was served behind a refused request"
            return
        echoed = echo_path is not None and expected.target == "/" and sent is not case
        check_accepted(answer, expected, echoed=echoed)
        if not echoed and expected.has_body and answer.closes:
            # Nobody reads the body of a request that nobody wants: the gateway may close instead.
            assert len(got) == index + 1
            return
        assert answer.closes or expected.keep_alive, "the answer promises a connection that must close"
    assert len(got) == len(case.expected) + usable, "more was served than was sent"
    if usable:
        assert got[-1].status == 200, "the connection is out of step: the probe behind the stream was not understood"


def check_refusal(answer: Answer, expected: Expected) -> None:
    assert answer.status == expected.status, (expected.refusal, answer)
    assert answer.closes
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == expected.status
    assert problem["component"] == "gateway"
    assert problem["detail"].endswith(".")


def check_accepted(answer: Answer, expected: Expected, *, echoed: bool) -> None:
    assert answer.status not in MALFORMED, answer
    if not echoed or expected.method == "HEAD":
        return
    assert answer.status == 200, answer
    echo = answer.json()
    assert echo["method"] == expected.method
    assert base64.b64decode(echo["body"]) == expected.body
