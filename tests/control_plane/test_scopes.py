"""Who may call what: one table for every endpoint; each scope, each role and each absence tried against the running
server, and every attempt to reach another tenant."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.control_plane.bundles import bundle
from tests.control_plane.running import PASSWORD, ControlPlane, Mailbox, Person, Tenant, join, log_in, sign_up

SCOPES: dict[str, set[str]] = {
    "tenant.read": {"deploy", "invoke", "read", "admin"},
    "functions.read": {"read", "deploy", "admin"},
    "functions.write": {"deploy", "admin"},
    "logs.read": {"read", "deploy", "admin"},
    "keys.read": {"read", "admin"},
    "keys.write": {"admin"},
    "members.read": {"admin"},
    "members.write": {"admin"},
    "audit.read": {"admin"},
    "billing.read": {"admin"},
    "billing.write": {"admin"},
    "usage.read": {"read", "admin"},
    "tenant.delete": set(),
}
"""Permission → the scopes of which one is enough."""
ROLES: dict[str, set[str]] = {
    "tenant.read": {"owner", "admin", "developer", "billing", "viewer"},
    "functions.read": {"owner", "admin", "developer", "viewer"},
    "functions.write": {"owner", "admin", "developer"},
    "logs.read": {"owner", "admin", "developer", "viewer"},
    "keys.read": {"owner", "admin", "developer", "viewer"},
    "keys.write": {"owner", "admin", "developer"},
    "members.read": {"owner", "admin", "developer", "billing", "viewer"},
    "members.write": {"owner", "admin"},
    "audit.read": {"owner", "admin", "developer"},
    "billing.read": {"owner", "admin", "billing"},
    "billing.write": {"owner", "admin", "billing"},
    "usage.read": {"owner", "admin", "developer", "billing", "viewer"},
    "tenant.delete": {"owner"},
}
"""Permission → the roles that have it."""

TABLE: dict[tuple[str, str], str] = {
    ("GET", "/v1/runtime"): "tenant.read",
    ("GET", "/v1/tenant"): "tenant.read",
    ("POST", "/v1/tenant/deletion"): "tenant.delete",
    ("POST", "/v1/keys"): "keys.write",
    ("GET", "/v1/keys"): "keys.read",
    ("GET", "/v1/keys/{key_id}"): "keys.read",
    ("DELETE", "/v1/keys/{key_id}"): "keys.write",
    ("GET", "/v1/members"): "members.read",
    ("GET", "/v1/members/{member_id}"): "members.read",
    ("PATCH", "/v1/members/{member_id}"): "members.write",
    ("DELETE", "/v1/members/{member_id}"): "members.write",
    ("GET", "/v1/invitations"): "members.read",
    ("POST", "/v1/invitations"): "members.write",
    ("DELETE", "/v1/invitations/{invitation_id}"): "members.write",
    ("GET", "/v1/audit"): "audit.read",
    ("GET", "/v1/subscription"): "tenant.read",
    ("POST", "/v1/subscription/checkout"): "billing.write",
    ("POST", "/v1/subscription/preview"): "billing.write",
    ("POST", "/v1/subscription/cancel"): "billing.write",
    ("POST", "/v1/subscription/resume"): "billing.write",
    ("POST", "/v1/subscription/portal"): "billing.write",
    ("GET", "/v1/invoices"): "billing.read",
    ("GET", "/v1/invoices/upcoming"): "billing.read",
    ("GET", "/v1/spend-caps"): "billing.read",
    ("PUT", "/v1/spend-caps/tenant"): "billing.write",
    ("PUT", "/v1/spend-caps/functions/{name}"): "billing.write",
    ("DELETE", "/v1/spend-caps/tenant"): "billing.write",
    ("DELETE", "/v1/spend-caps/functions/{name}"): "billing.write",
    ("GET", "/v1/usage"): "usage.read",
    ("GET", "/v1/usage/series"): "usage.read",
    ("GET", "/v1/usage/groups"): "usage.read",
    ("GET", "/v1/usage/hours"): "usage.read",
    ("GET", "/v1/usage/invocations"): "usage.read",
    ("GET", "/v1/usage/export"): "usage.read",
    ("GET", "/v1/usage/what-if"): "usage.read",
    ("GET", "/v1/usage/alerts"): "usage.read",
    ("PUT", "/v1/usage/alerts"): "billing.write",
    ("GET", "/v1/usage/alerts/sent"): "usage.read",
    ("POST", "/v1/usage/alerts/test"): "billing.write",
    ("GET", "/v1/functions"): "functions.read",
    ("GET", "/v1/functions/{name}"): "functions.read",
    ("PATCH", "/v1/functions/{name}"): "functions.write",
    ("DELETE", "/v1/functions/{name}"): "functions.write",
    ("POST", "/v1/functions/{name}/versions"): "functions.write",
    ("GET", "/v1/functions/{name}/versions"): "functions.read",
    ("GET", "/v1/functions/{name}/versions/{version_id}"): "functions.read",
    ("PUT", "/v1/functions/{name}/aliases/{alias}"): "functions.write",
    ("DELETE", "/v1/functions/{name}/aliases/{alias}"): "functions.write",
    ("POST", "/v1/functions/{name}/rollback"): "functions.write",
    ("GET", "/v1/functions/{name}/secrets"): "functions.read",
    ("PUT", "/v1/functions/{name}/secrets/{secret}"): "functions.write",
    ("DELETE", "/v1/functions/{name}/secrets/{secret}"): "functions.write",
    ("GET", "/v1/logs"): "logs.read",
    ("GET", "/v1/logs/follow"): "logs.read",
}
"""What acts within a tenant."""
PERSONAL = {
    ("GET", "/v1/person"),
    ("PUT", "/v1/person/password"),
    ("POST", "/v1/person/tenants"),
    ("POST", "/v1/person/second-factor"),
    ("POST", "/v1/person/second-factor/confirm"),
    ("POST", "/v1/person/second-factor/off"),
    ("GET", "/v1/sessions"),
    ("POST", "/v1/sessions/current/confirm"),
    ("DELETE", "/v1/sessions/current"),
    ("DELETE", "/v1/sessions/{session_id}"),
    ("POST", "/v1/invitations/accept"),
}
"""For somebody signed in, about themselves."""
OPERATORS = {
    ("POST", "/v1/tenants"),
    ("GET", "/v1/tenants"),
    ("GET", "/v1/tenants/{tenant_id}"),
    ("PATCH", "/v1/tenants/{tenant_id}"),
    ("DELETE", "/v1/tenants/{tenant_id}"),
    ("POST", "/v1/tenants/{tenant_id}/sign-in-links"),
    ("PUT", "/v1/tenants/{tenant_id}/subscription"),
    ("GET", "/v1/billing"),
    ("GET", "/v1/admin/overview"),
    ("GET", "/v1/admin/nodes"),
    ("GET", "/v1/admin/nodes/{node}"),
    ("GET", "/v1/admin/tenants"),
    ("GET", "/v1/admin/tenants/{tenant_id}"),
    ("PUT", "/v1/admin/tenants/{tenant_id}/status"),
    ("GET", "/v1/admin/usage"),
    ("GET", "/v1/admin/webhooks"),
    ("POST", "/v1/admin/webhooks/replay"),
    ("GET", "/v1/admin/reconciliations"),
    ("POST", "/v1/admin/reconciliations"),
    ("GET", "/v1/admin/operators"),
    ("GET", "/v1/admin/audit"),
    ("GET", "/v1/admin/settings"),
}
"""For the operator's token and for operators signed in; to keys and other people they are not there."""
OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v1/tiers"),
    ("POST", "/v1/sign-up"),
    ("POST", "/v1/sign-up/finish"),
    ("POST", "/v1/sessions"),
    ("POST", "/v1/password-resets"),
    ("POST", "/v1/password-resets/finish"),
    ("POST", "/v1/invitations/finish"),
}
"""For anybody: what they do, a secret in a mail or a password decides."""
SUCCESS = {200, 201, 202, 204}
SELLS_NOTHING = 409
"""This server has no Stripe: whoever may buy is told so (tests/control_plane/test_billing.py buys)."""
WITHOUT = {("GET", "/v1/admin/nodes/{node}"): {404}, ("POST", "/v1/admin/reconciliations"): {SELLS_NOTHING}}
"""No gateway runs beside this server, and nothing is sold."""
STRANGE_TOKENS = ("", "tck_" + "a" * 43, "tcs_" + "a" * 43, "nonsense", "tck_", "tck_" + "é" * 43, "tck_" + "a" * 5000)
_numbers = itertools.count(1)


def send(client: httpx.Client, method: str, path: str, values: dict[str, str]) -> httpx.Response:
    """The request that succeeds for whoever may make it. Deletion of a tenant is asked for with a wrong name."""
    number = next(_numbers)
    body: dict[str, Any] = {}
    match method, path:
        case "POST", "/v1/functions/{name}/versions":
            body = {"files": {"bundle": ("b.zip", bundle(3), "application/zip")}}
        case "POST", "/v1/keys":
            body = {"json": {"scopes": ["invoke"]}}
        case "POST", "/v1/tenants" | "/v1/person/tenants":
            body = {"json": {"name": f"somebody-{number}"}}
        case "POST", "/v1/tenant/deletion":
            body = {"json": {"name": "wrong", "password": PASSWORD}}
        case "POST", "/v1/invitations":
            body = {"json": {"email": f"guest-{number}@example.com", "role": "viewer"}}
        case "POST", "/v1/tenants/{tenant_id}/sign-in-links":
            body = {"json": {"email": f"guest-{number}@example.com"}}
        case "PUT", "/v1/tenants/{tenant_id}/subscription":
            body = {"json": {"tier": "free"}}
        case "POST", "/v1/admin/webhooks/replay":
            body = {"json": {}}
        case "PUT", "/v1/admin/tenants/{tenant_id}/status":
            body = {"json": {"status": "active", "reason": "as it is"}}
        case "PATCH", "/v1/tenants/{tenant_id}":
            body = {"json": {"status": "active"}}
        case "PATCH", "/v1/members/{member_id}":
            body = {"json": {"role": "billing"}}
        case "PATCH", "/v1/functions/{name}":
            body = {"json": {"public": True}}
        case "PUT", "/v1/functions/{name}/aliases/{alias}":
            body = {"json": {"version": values["version_id"]}}
        case "PUT", "/v1/functions/{name}/secrets/{secret}":
            body = {"json": {"value": "hidden"}}
        case "PUT", "/v1/person/password":
            body = {"json": {"current_password": "wrong", "password": "another fine password"}}
        case "POST", "/v1/subscription/checkout" | "/v1/subscription/preview":
            body = {"json": {"tier": "pro"}}
        case "PUT", "/v1/usage/alerts":
            # Nothing listens there.
            body = {"json": {"webhook_url": "http://127.0.0.1:1024/"}}
        case "PUT", "/v1/spend-caps/tenant" | "/v1/spend-caps/functions/{name}":
            body = {"json": {"amount_minor": 100, "action": "stop"}}
        case "POST", "/v1/person/second-factor/confirm":
            body = {"json": {"code": "000000"}}
        case "POST", "/v1/person/second-factor/off" | "/v1/sessions/current/confirm":
            body = {"json": {"password": "wrong"}}
        case "POST", "/v1/invitations/accept":
            body = {"json": {"token": values["invitation_token"]}}
    return client.request(method, path.format(**values), **body)


class Stage:
    """A tenant with a member of each role, a function with two versions and an alias, a key, a guest, an invitation."""

    def __init__(self, control_plane: ControlPlane) -> None:
        number = next(_numbers)
        self.control_plane = control_plane
        self.name = f"stage-{number}"
        self.owner = sign_up(control_plane, f"stage-{number}@example.com", self.name)
        self.people = {"owner": self.owner} | {
            role: join(self.owner, f"{role}-{number}@example.com", role)
            for role in ("admin", "developer", "billing", "viewer")
        }
        key = self.owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
        tenant = self.owner.http.get("/v1/tenant").json()
        self.tenant = Tenant(control_plane, {"id": tenant["id"], "name": self.name, "key": key})
        self.values = {
            "node": "node-1",
            "tenant_id": self.tenant.id,
            "name": "hello",
            "alias": "stable",
            "secret": "TOKEN",
        }
        self.reset()

    def reset(self, path: str = "") -> None:
        """Make again what a success of ``path`` may have taken away; without one, everything."""
        parts = {
            "subscription": lambda: None,  # nothing is for sale here
            "tenant": lambda: None,  # a deletion that is not confirmed is refused
            "functions": self._make_function,
            "spend-caps": self._make_caps,
            "keys": self._make_key,
            "members": self._make_member,
            "invitations": self._make_invitation,
            "sessions": self._make_session,
            "usage": self._make_webhook,
        }
        section = path.removeprefix("/v1/").partition("/")[0]
        for make in [parts[section]] if section in parts else parts.values():
            make()

    def _make_function(self) -> None:
        http, values = self.owner.http, self.values
        http.delete("/v1/functions/hello")
        self.tenant.deploy("hello", bundle(1))
        values["version_id"] = version = self.tenant.deploy("hello", bundle(2))["version"]
        http.put("/v1/functions/hello/aliases/stable", json={"version": version})
        http.put("/v1/functions/hello/secrets/TOKEN", json={"value": "hidden"})
        http.put("/v1/spend-caps/functions/hello", json={"amount_minor": 100, "action": "stop"})

    def _make_webhook(self) -> None:
        self.owner.http.put("/v1/usage/alerts", json={"webhook_url": "http://127.0.0.1:1024/"}).raise_for_status()

    def _make_caps(self) -> None:
        for cap in ("tenant", "functions/hello"):
            self.owner.http.put(f"/v1/spend-caps/{cap}", json={"amount_minor": 100, "action": "stop"})

    def _make_key(self) -> None:
        self.values["key_id"] = self.tenant.new_key("invoke")["id"]

    def _make_member(self) -> None:
        http, values = self.owner.http, self.values
        if "member_id" not in values or http.get(f"/v1/members/{values['member_id']}").status_code != 200:
            values["member_id"] = join(self.owner, f"spare-{next(_numbers)}@example.com", "viewer").member_id()
        http.patch(f"/v1/members/{values['member_id']}", json={"role": "viewer"})

    def _make_invitation(self) -> None:
        email = f"invited-{next(_numbers)}@example.com"
        invited = self.owner.http.post("/v1/invitations", json={"email": email, "role": "viewer"})
        self.values["invitation_id"] = invited.json()["id"]
        self.values["invitation_token"] = Mailbox(self.control_plane).token(email)

    def _make_session(self) -> None:
        self.values["session_id"] = log_in(self.control_plane, self.owner.email).json()["id"]

    def snapshot(self) -> list[str]:
        """All of the tenant and its owner that one can see, but when its keys were used: to look is to use one."""
        paths = ("/v1/functions", "/v1/functions/hello/versions", "/v1/keys", "/v1/members", "/v1/invitations")
        texts = [self.tenant.http.get(path).text for path in (*paths, "/v1/tenant")]
        tenant = [re.sub(r'"last_used_at":("[^"]*"|null)', "", text) for text in texts]
        sessions = self.owner.http.get("/v1/sessions").json()["items"]
        return [*tenant, *sorted(each["id"] for each in sessions)]


@pytest.fixture(scope="module")
def made_stage(control_plane: ControlPlane) -> Stage:
    return Stage(control_plane)


@pytest.fixture
def stage(made_stage: Stage, request: pytest.FixtureRequest) -> Iterator[Stage]:
    yield made_stage
    if request.node.callspec.params.get("method") != "GET":
        made_stage.reset(request.node.callspec.params["path"])


@pytest.fixture(scope="module")
def intruder(control_plane: ControlPlane) -> Person:
    """The owner of another tenant."""
    number = next(_numbers)
    return sign_up(control_plane, f"intruder-{number}@example.com", f"intruder-{number}")


def test_the_table_names_every_endpoint(control_plane: ControlPlane) -> None:
    document = httpx.get(f"{control_plane.url}/v1/openapi.json").json()
    served = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert served == set(TABLE) | PERSONAL | OPERATORS | OPEN


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_scopes(stage: Stage, control_plane: ControlPlane, method: str, path: str) -> None:
    allowed = SCOPES[TABLE[method, path]]
    for scope in ("deploy", "invoke", "read", "admin"):
        with stage.tenant.client(scope) as client:
            answer = send(client, method, path, stage.values)
        if scope in allowed:
            assert is_done(path, answer), (scope, answer.text)
            if method != "GET":
                stage.reset(path)
            continue
        problem = answer.json()
        assert problem["component"] == "control-plane"
        assert answer.status_code == 403, (scope, answer.text)
        assert allowed >= set(problem["required"]) or not allowed
    check_strange_tokens(control_plane, method, path, stage.values)


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_roles(stage: Stage, method: str, path: str) -> None:
    allowed = ROLES[TABLE[method, path]]
    for role, person in stage.people.items():
        answer = send(person.http, method, path, stage.values)
        if role in allowed:
            assert is_done(path, answer) or answer.status_code == 422, (role, answer.text)
            assert answer.status_code != 422 or path == "/v1/tenant/deletion"
            if method != "GET":
                stage.reset(path)
        else:
            assert answer.status_code == 403, (role, answer.text)


@pytest.mark.parametrize(("method", "path"), sorted(PERSONAL | OPERATORS))
def test_keys_and_others_sessions_are_nothing_to_people_and_operators(
    stage: Stage, control_plane: ControlPlane, method: str, path: str
) -> None:
    before = stage.snapshot()
    hidden = 404 if (method, path) in OPERATORS else 401
    assert send(stage.tenant.http, method, path, stage.values).status_code == hidden
    if (method, path) in OPERATORS:
        assert send(stage.owner.http, method, path, stage.values).status_code == hidden
        with control_plane.client(control_plane.operator_token) as operator:
            if method != "DELETE":  # the control; the deletion has a test of its own
                done = SUCCESS | WITHOUT.get((method, path), set())
                assert send(operator, method, path, stage.values).status_code in done
    check_strange_tokens(control_plane, method, path, stage.values)
    if (method, path) not in OPERATORS:
        assert stage.snapshot() == before


def is_done(path: str, answer: httpx.Response) -> bool:
    needs_stripe = path.startswith("/v1/subscription/") or path == "/v1/invoices/upcoming"
    return answer.status_code in SUCCESS or (needs_stripe and answer.status_code == SELLS_NOTHING)


def check_strange_tokens(control_plane: ControlPlane, method: str, path: str, values: dict[str, str]) -> None:
    for token in STRANGE_TOKENS:
        with control_plane.client() as client:
            if token:
                client.headers = httpx.Headers([(b"Authorization", f"Bearer {token}".encode())])
            answer = send(client, method, path, values)
        assert answer.status_code == 401, token
        assert answer.headers["WWW-Authenticate"] == "Bearer"


# -- Across tenants ---------------------------------------------------------------------------------------------------

CREATES_OWN = {("POST", "/v1/functions/{name}/versions")}
"""With another tenant's name in the path this makes something of the caller's own."""


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_naming_another_tenant_finds_nothing(stage: Stage, intruder: Person, method: str, path: str) -> None:
    """Signed in elsewhere, with this tenant's name in the header; and with a key of elsewhere."""
    before = stage.snapshot()
    key = intruder.http.post("/v1/keys", json={"scopes": ["admin"]}).json()["token"]
    for token in (intruder.token, key):
        with stage.control_plane.client(token) as client:
            client.headers["Tailcut-Tenant"] = stage.name
            answer = send(client, method, path, stage.values)
            assert answer.status_code == 404, answer.text
            client.headers["Tailcut-Tenant"] = "no-such-tenant"
            assert send(client, method, path, stage.values).status_code == 404  # as if it were not there
    assert stage.snapshot() == before
    # The control: the very same request by the owner.
    answer = send(stage.owner.http, method, path, stage.values)
    assert is_done(path, answer) or answer.status_code == 422


@pytest.mark.parametrize(("method", "path"), [entry for entry in TABLE if "{" in entry[1]])
def test_another_tenants_ids_are_not_there(stage: Stage, intruder: Person, method: str, path: str) -> None:
    before = stage.snapshot()
    key = intruder.http.post("/v1/keys", json={"scopes": ["admin"]}).json()["token"]
    for token in (intruder.token, key):
        with stage.control_plane.client(token) as client:
            answer = send(client, method, path, stage.values)
            if (method, path) in CREATES_OWN:
                assert answer.status_code in (200, 201)
                assert answer.json()["function_id"] not in stage.tenant.http.get("/v1/functions/hello").text
                assert client.delete("/v1/functions/hello").status_code == 204
            else:
                assert answer.status_code == 404, answer.text
    assert stage.snapshot() == before


@pytest.mark.parametrize(("method", "path"), [entry for entry in TABLE if "{name}" in entry[1]])
def test_ids_of_another_tenant_under_an_own_function(stage: Stage, stranger: Tenant, method: str, path: str) -> None:
    """The stranger has a function of the same name and smuggles in the owner's ids."""
    stranger.deploy("hello", bundle(1))
    before = stage.snapshot()
    answer = send(stranger.http, method, path, stage.values)
    if "version_id" in path or "alias" in path:
        assert answer.status_code == 404, answer.text
    assert stage.snapshot() == before


def test_another_persons_session_is_not_there(made_stage: Stage, intruder: Person) -> None:
    stage = made_stage
    before = stage.snapshot()
    assert send(intruder.http, "DELETE", "/v1/sessions/{session_id}", stage.values).status_code == 404
    assert send(intruder.http, "POST", "/v1/invitations/accept", stage.values).status_code == 403  # not theirs
    assert stage.snapshot() == before
