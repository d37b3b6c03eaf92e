"""HTTP as clients see it: framing, pipelining, bodies, refusals, time-outs, connections."""

from typing import Any

from .conftest import Answer, Plane


def test_a_function_answers_over_http(plane: Plane) -> None:
    answer = plane.get("/acme/echo", body=b"body", method="POST")
    assert (answer.status, answer.body) == (200, b"body")
    assert len(answer.headers["tailcut-request-id"]) == 32
    assert answer.headers["tailcut-version"] == "ver_echo0"
    assert answer.headers["tailcut-start"] == "cold"
    assert answer.headers["connection"] == "close"
    assert int(answer.headers["tailcut-cpu-us"]) >= 0
    assert plane.get("/acme/echo").headers["tailcut-start"] == "warm"
