"""Which keys were used, as the data plane tells its host; and the end of serving by a table that is too old."""

import time
from collections.abc import Callable
from typing import Any

from .conftest import ECHO, EXPIRED_KEY, KEY, NO_SCOPE_KEY, OTHER_KEY, Plane, revision, route, version


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def used(plane: Plane) -> dict[str, int]:
    return {row["id"]: row["used_s"] for row in plane.command("key_uses")}


def test_every_request_with_a_valid_key_is_a_use_and_no_other(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(revision([version(0, "echo")], [route("echo", 0, public=False)]))
    assert plane.get("/acme/echo").status == 401
    assert plane.get("/acme/echo", bearer("tck_" + "x" * 40)).status == 401
    assert plane.get("/acme/echo", bearer(EXPIRED_KEY)).status == 401
    assert plane.get("/acme/echo", bearer("another scheme's")).status == 401
    assert used(plane) == {}
    before_s = int(time.time())
    assert plane.get("/acme/echo", bearer(KEY)).status == 200
    assert plane.get("/acme/echo", bearer(NO_SCOPE_KEY)).status == 403
    assert plane.get("/acme/missing", bearer(OTHER_KEY)).status == 404
    uses = used(plane)
    assert uses.keys() == {"key_acme", "key_no_scope", "key_other"}
    # The second of the last use, by a clock that is read once a turn.
    assert all(before_s - 1 <= at_s <= time.time() for at_s in uses.values())
    assert used(plane) == {}, "a use is told once"
    assert plane.get("/acme/-/openapi.json", bearer(KEY)).status == 200
    assert plane.get("/acme/echo", bearer(KEY), method="POST", body=b"x" * 100_000).status == 200
    assert used(plane).keys() == {"key_acme"}


def test_a_new_table_loses_no_use_not_even_of_a_key_that_it_has_no_more(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    assert plane.get("/acme/echo", bearer(KEY)).status == 200
    without: dict[str, Any] = ECHO | {"revision": 2, "keys": ECHO["keys"][1:]}
    plane.apply(without)
    assert plane.get("/acme/echo", bearer(KEY)).status == 401
    assert used(plane).keys() == {"key_acme"}
    for number in (3, 4):
        plane.apply(without | {"revision": number})
    assert plane.get("/acme/echo", bearer(OTHER_KEY)).status == 200
    assert used(plane).keys() == {"key_other"}


def test_a_table_that_is_too_old_is_not_served_by_until_it_is_confirmed(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    assert plane.get("/acme/echo", bearer(KEY)).status == 200
    assert plane.command("serve_until", time.monotonic_ns() + 3600 * 10**9) == 0
    assert plane.get("/acme/echo", bearer(KEY)).status == 200, "not yet"
    assert plane.command("serve_until", 1) == 0
    for path in ("/acme/echo", "/acme/missing", "/acme/-/openapi.json", "/-/readyz"):
        answer = plane.get(path, bearer(KEY))
        assert answer.status == 503, path
        assert answer.problem["type"] == "https://docs.example/errors/table-expired"
        assert answer.problem["component"] == "gateway"
        assert answer.headers["retry-after"] == "5"
    assert plane.get("/-/healthz").status == 200, "the process lives"
    assert used(plane).keys() == {"key_acme"}, "of the calls before: a table that is not believed recognises nobody"
    assert plane.command("serve_until", 0) == 0
    assert plane.get("/acme/echo", bearer(KEY)).status == 200
