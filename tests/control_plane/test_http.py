"""What every answer has in common: problems, ids, headers; pages, repeated requests, bounds on bodies."""

import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from control_plane.problems import KINDS
from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane, Tenant, eventually

REQUEST_ID = "Tailcut-Request-Id"


def is_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"].endswith(f"/errors/{slug}")
    assert problem["component"] == "control-plane"
    assert problem["request_id"] == answer.headers[REQUEST_ID]
    assert problem["title"]
    assert problem["detail"]
    return problem


def test_problems(control_plane: ControlPlane, tenant: Tenant) -> None:
    is_problem(httpx.get(f"{control_plane.url}/v1/functions"), 401, "unauthorized")
    is_problem(tenant.http.get("/v1/nothing"), 404, "not-found")
    is_problem(tenant.http.get("/v1/functions/"), 404, "not-found")
    is_problem(tenant.http.get("/v1/functions/nope"), 404, "not-found")
    allowed = tenant.http.put("/v1/functions/nope")
    is_problem(allowed, 405, "method-not-allowed")
    assert allowed.headers["Allow"]
    is_problem(
        tenant.http.post("/v1/keys", content=b"{", headers={"Content-Type": "application/json"}), 400, "bad-request"
    )
    is_problem(tenant.http.post("/v1/keys", content=b"[1]"), 422, "invalid-request")
    is_problem(tenant.http.get("/v1/functions?limit=0"), 422, "invalid-request")
    is_problem(tenant.http.get("/v1/functions?limit=101"), 422, "invalid-request")


def test_the_problem_types_are_pages(control_plane: ControlPlane, tenant: Tenant) -> None:
    problem = tenant.http.get("/v1/nothing").json()
    assert problem["type"].startswith(control_plane.url + "/errors/")
    page = httpx.get(problem["type"])
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "not-found" in page.text
    is_problem(httpx.get(f"{control_plane.url}/errors/no-such-slug"), 404, "not-found")
    is_problem(httpx.get(f"{control_plane.url}/errors/..%2f..%2fsettings.py"), 404, "not-found")


def test_every_documented_error_has_a_page(control_plane: ControlPlane) -> None:
    documented = re.findall(
        r"^## ([a-z-]+)$", (Path(__file__).parents[2] / "docs" / "errors.md").read_text(), re.MULTILINE
    )
    assert {"cpu-limit", "function-crashed", "timeout"} <= set(documented)
    index = httpx.get(f"{control_plane.url}/errors").text
    for slug in {*documented, *KINDS}:
        page = httpx.get(f"{control_plane.url}/errors/{slug}")
        assert page.status_code == 200, slug
        assert f"/errors/{slug}" in index
    assert "retry: executed" in httpx.get(f"{control_plane.url}/errors/cpu-limit").text


def test_what_was_sent_is_not_repeated(tenant: Tenant) -> None:
    answer = tenant.http.post("/v1/keys", json={"scopes": ["read"], "tck_secret_field": "tck_secret_value"})
    assert "tck_secret_value" not in is_problem(answer, 422, "invalid-request")["detail"]
    assert "tck_secret_value" not in answer.text


def test_answers_carry_an_id_and_safe_headers(control_plane: ControlPlane, tenant: Tenant) -> None:
    seen = set()
    for path in ("/v1/tenant", "/healthz", "/", "/static/tailcut.css", "/v1/nothing"):
        answer = tenant.http.get(path)
        seen.add(answer.headers[REQUEST_ID])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
    assert len(seen) == 5
    assert tenant.http.get("/v1/tenant").headers["cache-control"] == "no-store"


def test_health(control_plane: ControlPlane) -> None:
    assert httpx.get(f"{control_plane.url}/healthz").json() == {"status": "ok"}
    ready = httpx.get(f"{control_plane.url}/readyz")
    assert ready.status_code == 200
    assert ready.json()["checks"] == {"database": "ok", "redis": "ok"}


def test_bodies_are_bounded(tenant: Tenant) -> None:
    just_right = tenant.http.post("/v1/keys", json={"scopes": ["read"], "name": "x" * 100})
    assert just_right.status_code == 201
    is_problem(tenant.http.post("/v1/keys", content=b" " * (2**20 + 1)), 413, "content-too-large")
    chunks = (b" " * 65536 for _ in range(1000))
    is_problem(tenant.http.post("/v1/keys", content=chunks), 413, "content-too-large")
    assert tenant.http.get("/v1/tenant").status_code == 200


def test_pages_hold_everything_once(tenant: Tenant) -> None:
    names = [f"f{number:02}" for number in range(7)]
    for name in reversed(names):
        tenant.deploy(name, bundle(1))
    assert walk(tenant, "/v1/functions", 3, "name") == [names[0:3], names[3:6], names[6:]]
    assert walk(tenant, "/v1/functions", 7, "name") == [names]
    versions = [tenant.deploy("f00", bundle(number))["version"] for number in range(1, 6)]
    pages = walk(tenant, "/v1/functions/f00/versions", 2, "id")
    assert [each for page in pages for each in page] == list(reversed(versions))
    keys = [tenant.key_id, *(tenant.new_key("read")["id"] for _ in range(4))]
    assert [each for page in walk(tenant, "/v1/keys", 2, "id") for each in page] == keys
    default = tenant.http.get("/v1/functions").json()
    assert [each["name"] for each in default["items"]] == names


def walk(tenant: Tenant, path: str, limit: int, name: str) -> list[list[str]]:
    pages = []
    query: dict[str, str | int] = {"limit": limit}
    while True:
        answer = tenant.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        pages.append([each[name] for each in page["items"]])
        if page["next_cursor"] is None:
            return pages
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("cursor", ["", "!", "AA", "4pyT", "AAAA", "x" * 201, "%00", "é"])
def test_a_cursor_of_somebody_else_is_refused(tenant: Tenant, cursor: str) -> None:
    answer = tenant.http.get("/v1/functions", params={"cursor": cursor})
    assert answer.status_code in (400, 422), answer.text


def test_a_repeated_post_has_one_effect(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": "first-try"}
    body = {"scopes": ["read"], "name": "once"}
    first = tenant.http.post("/v1/keys", json=body, headers=headers)
    again = tenant.http.post("/v1/keys", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()  # the token too
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert [each["name"] for each in tenant.http.get("/v1/keys").json()["items"]].count("once") == 1
    other = tenant.http.post("/v1/keys", json={**body, "name": "other"}, headers=headers)
    is_problem(other, 409, "idempotency-conflict")
    # Without the header each is a new one.
    assert tenant.http.post("/v1/keys", json=body).json()["id"] != first.json()["id"]


def test_a_refused_request_is_not_remembered(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": "early"}
    is_problem(tenant.http.post("/v1/functions/hello/rollback", headers=headers), 404, "not-found")
    tenant.deploy("hello", bundle(1))
    tenant.deploy("hello", bundle(2))
    first = tenant.http.post("/v1/functions/hello/rollback", headers=headers)
    again = tenant.http.post("/v1/functions/hello/rollback", headers=headers)
    assert first.status_code == again.status_code == 200
    assert again.json() == first.json()


def test_a_repeated_deploy_has_one_effect(tenant: Tenant) -> None:
    def deploy(number: int, key: str) -> httpx.Response:
        files = {"bundle": ("b.zip", bundle(number), "application/zip")}
        return tenant.http.post("/v1/functions/hello/versions", files=files, headers={"Idempotency-Key": key})

    first = deploy(1, "one")
    deploy(2, "two")
    again = deploy(1, "one")
    assert again.status_code == 201  # as then, although the version is known by now
    assert again.json() == first.json()
    live = tenant.http.get("/v1/functions/hello").json()["aliases"]["live"]
    assert live != first.json()["version"]  # the repetition did not move the alias
    is_problem(deploy(3, "one"), 409, "idempotency-conflict")


def test_an_answer_is_given_again_only_to_the_key_that_asked(tenant: Tenant, stranger: Tenant) -> None:
    headers = {"Idempotency-Key": "mine"}
    body = {"scopes": ["read"]}
    first = tenant.http.post("/v1/keys", json=body, headers=headers)
    with tenant.client("admin") as colleague:
        is_problem(colleague.post("/v1/keys", json=body, headers=headers), 409, "idempotency-conflict")
    other = stranger.http.post("/v1/keys", json=body, headers=headers)
    assert other.status_code == 201  # another tenant's keys are its own
    assert other.json()["token"] != first.json()["token"]


def test_repeated_at_the_same_time(tenant: Tenant) -> None:
    def create(_: int) -> httpx.Response:
        return httpx.post(
            f"{tenant.control_plane.url}/v1/keys",
            json={"scopes": ["read"], "name": "raced"},
            headers={"Idempotency-Key": "race", "Authorization": f"Bearer {tenant.token}"},
            timeout=30,
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["token"] for answer in answers}) == 1
    assert [each["name"] for each in tenant.http.get("/v1/keys").json()["items"]].count("raced") == 1


@pytest.mark.parametrize("key", ["", "x" * 129, "with space", "a,b c"])
def test_idempotency_keys_are_checked(tenant: Tenant, key: str) -> None:
    answer = tenant.http.post("/v1/keys", json={"scopes": ["read"]}, headers={"Idempotency-Key": key})
    assert "dempotency" in is_problem(answer, 422, "invalid-request")["errors"][0]["field"]


def test_deploys_at_the_same_time_all_count(tenant: Tenant) -> None:
    """Writers wait in line; none fails with a locked database."""
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda number: tenant.deploy(f"f{number % 3}", bundle(number))["version"], range(12)))
    assert len(set(versions)) == 12


def test_the_log_has_no_secrets(tenant: Tenant) -> None:
    created = tenant.new_key("read")
    tenant.http.get("/v1/functions", params={"cursor": "tck_in_a_query"})
    with tenant.control_plane.client(created["token"]) as client:
        client.get("/v1/functions")
    text = tenant.control_plane.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert any(line.get("tenant") == tenant.name and line.get("route") == "/v1/functions" for line in lines)
    assert "tck_" not in text
    assert tenant.control_plane.operator_token not in text


def test_a_client_that_goes_away_leaves_nothing(control_plane: ControlPlane, tenant: Tenant) -> None:
    address = urlsplit(control_plane.url)
    assert address.hostname
    for _ in range(3):
        connection = http.client.HTTPConnection(address.hostname, address.port or 0, timeout=30)
        connection.putrequest("POST", "/v1/functions/hello/versions")
        connection.putheader("Authorization", f"Bearer {tenant.token}")
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(b'--b\r\nContent-Disposition: form-data; name="bundle"; filename="x"\r\n\r\nPK')
        connection.close()
    assert tenant.upload("hello", bundle(1)).status_code == 201
    staging = control_plane.data_dir / "control-plane" / "staging"
    assert staging.is_dir()
    assert eventually(lambda: not list(Path(staging).iterdir()))
