"""Who may call what: one table for every endpoint, each scope and each absence tried against the running server."""

from typing import Any

import httpx
import pytest

from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane, Tenant

ANY = {"deploy", "invoke", "read", "admin"}
READERS = {"read", "deploy", "admin"}
KEY_READERS = {"read", "admin"}
DEPLOYERS = {"deploy", "admin"}
ADMINS = {"admin"}

TABLE: dict[tuple[str, str], set[str]] = {
    ("GET", "/v1/runtime"): ANY,
    ("GET", "/v1/tenant"): ANY,
    ("POST", "/v1/tenants"): set(),  # the operator alone
    ("PUT", "/v1/tenants/{tenant_id}/subscription"): set(),
    ("GET", "/v1/subscription"): READERS,
    ("POST", "/v1/keys"): ADMINS,
    ("GET", "/v1/keys"): KEY_READERS,
    ("GET", "/v1/keys/{key_id}"): KEY_READERS,
    ("DELETE", "/v1/keys/{key_id}"): ADMINS,
    ("GET", "/v1/functions"): READERS,
    ("GET", "/v1/functions/{name}"): READERS,
    ("PATCH", "/v1/functions/{name}"): DEPLOYERS,
    ("DELETE", "/v1/functions/{name}"): DEPLOYERS,
    ("POST", "/v1/functions/{name}/versions"): DEPLOYERS,
    ("GET", "/v1/functions/{name}/versions"): READERS,
    ("GET", "/v1/functions/{name}/versions/{version_id}"): READERS,
    ("PUT", "/v1/functions/{name}/aliases/{alias}"): DEPLOYERS,
    ("DELETE", "/v1/functions/{name}/aliases/{alias}"): DEPLOYERS,
    ("POST", "/v1/functions/{name}/rollback"): DEPLOYERS,
}
OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/tiers")}
SUCCESS = {200, 201, 204}


class Stage:
    """A function with two versions and an alias, and a key to look at: made anew for each call."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.values: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        self.tenant.http.delete("/v1/functions/hello")
        self.tenant.deploy("hello", bundle(1))
        version = self.tenant.deploy("hello", bundle(2))["version"]
        self.tenant.http.put("/v1/functions/hello/aliases/stable", json={"version": version})
        key_id = self.tenant.new_key("invoke")["id"]
        self.values = {
            "tenant_id": self.tenant.id,
            "key_id": key_id,
            "name": "hello",
            "version_id": version,
            "alias": "stable",
        }

    def request(self, client: httpx.Client, method: str, path: str) -> httpx.Response:
        url = path.format(**self.values)
        body: dict[str, Any] = {}
        match method, path:
            case "POST", "/v1/functions/{name}/versions":
                body = {"files": {"bundle": ("b.zip", bundle(3), "application/zip")}}
            case "POST", "/v1/keys":
                body = {"json": {"scopes": ["invoke"]}}
            case "POST", "/v1/tenants":
                body = {"json": {"name": "somebody"}}
            case "PATCH", _:
                body = {"json": {"public": True}}
            case "PUT", "/v1/tenants/{tenant_id}/subscription":
                body = {"json": {"tier": "free"}}
            case "PUT", _:
                body = {"json": {"version": self.values["version_id"]}}
        return client.request(method, url, **body)


@pytest.fixture
def stage(tenant: Tenant) -> Stage:
    return Stage(tenant)


def test_the_table_names_every_endpoint(control_plane: ControlPlane) -> None:
    document = httpx.get(f"{control_plane.url}/v1/openapi.json").json()
    served = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert served == set(TABLE) | OPEN


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_scopes(stage: Stage, control_plane: ControlPlane, method: str, path: str) -> None:
    allowed = TABLE[(method, path)]
    for scope in ("deploy", "invoke", "read", "admin"):
        with stage.tenant.client(scope) as client:
            answer = stage.request(client, method, path)
        if scope in allowed:
            assert answer.status_code in SUCCESS, (scope, answer.text)
            stage.reset()
            continue
        problem = answer.json()
        assert problem["component"] == "control-plane"
        if allowed:
            assert answer.status_code == 403, (scope, answer.text)
            assert allowed >= set(problem["required"])
        else:
            assert answer.status_code == 401
    for token in ("", "tck_" + "a" * 43, "nonsense", "tck_", "tck_" + "é" * 43, "tck_" + "a" * 5000):
        with control_plane.client() as client:
            if token:
                client.headers = httpx.Headers([(b"Authorization", f"Bearer {token}".encode())])
            answer = stage.request(client, method, path)
        assert answer.status_code == 401, token
        assert answer.headers["WWW-Authenticate"] == "Bearer"


TENANT_PATHS = [entry for entry in TABLE if "{" in entry[1] and TABLE[entry]]


@pytest.mark.parametrize(("method", "path"), TENANT_PATHS)
def test_another_tenants_things_are_not_there(stage: Stage, stranger: Tenant, method: str, path: str) -> None:
    """The stranger uses the owner's names and ids with a key that may do everything in its own tenant."""
    before = snapshot(stage.tenant)
    answer = stage.request(stranger.http, method, path)
    if (method, path) == ("POST", "/v1/functions/{name}/versions"):
        # The same name is the stranger's own function.
        assert answer.status_code == 201
        assert answer.json()["function_id"] != stage.tenant.http.get("/v1/functions/hello").json()["id"]
    else:
        assert answer.status_code == 404, answer.text
    assert snapshot(stage.tenant) == before
    # The control: the owner succeeds with the very same request.
    assert stage.request(stage.tenant.http, method, path).status_code in SUCCESS


@pytest.mark.parametrize(("method", "path"), [entry for entry in TENANT_PATHS if "{name}" in entry[1]])
def test_ids_of_another_tenant_under_an_own_function(stage: Stage, stranger: Tenant, method: str, path: str) -> None:
    """The stranger has a function of the same name and smuggles in the owner's ids."""
    stranger.deploy("hello", bundle(1))
    before = snapshot(stage.tenant)
    answer = stage.request(stranger.http, method, path)
    if "{version_id}" in path or method == "PUT" or "{alias}" in path:
        assert answer.status_code == 404, answer.text
    assert snapshot(stage.tenant) == before


def test_lists_hold_only_ones_own(stage: Stage, stranger: Tenant) -> None:
    stranger.deploy("mine", bundle(1))
    assert [each["name"] for each in stranger.http.get("/v1/functions").json()["items"]] == ["mine"]
    ids = {each["id"] for each in stranger.http.get("/v1/keys").json()["items"]}
    assert ids == {stranger.key_id}
    assert len(stage.tenant.http.get("/v1/keys").json()["items"]) == 2


def snapshot(tenant: Tenant) -> list[Any]:
    """All that a tenant can see of itself."""
    paths = ("/v1/tenant", "/v1/keys", "/v1/functions", "/v1/functions/hello/versions")
    return [tenant.http.get(path).json() for path in paths]
