"""Who sees and does what on the dashboard: one table for every page and form, tried by each role.

And nothing of another tenant's is there. The API's table is in test_scopes; pages have dependencies of their own.
"""

import itertools

import httpx
import pytest

from tests.control_plane.bundles import bundle
from tests.control_plane.dashboard_browser import Browser, form_token
from tests.control_plane.running import ControlPlane, Person, Tenant, join, sign_up
from tests.control_plane.test_dashboard import OWN
from tests.control_plane.test_scopes import ROLES

_numbers = itertools.count(1)
PAGES_WITH_FORMS = {
    "/billing/cancel": "billing.write",
    "/billing/change": "billing.write",
    "/functions/{name}/aliases": "functions.write",
    "/functions/{name}/aliases/{alias}/delete": "functions.write",
    "/functions/{name}/delete": "functions.write",
    "/functions/{name}/rollback": "functions.write",
    "/functions/{name}/secrets": "functions.write",
    "/functions/{name}/secrets/{secret}/delete": "functions.write",
    "/functions/{name}/settings": "functions.write",
    "/functions/{name}/try": "functions.write",
    "/keys/new": "keys.write",
    "/keys/{key_id}/revoke": "keys.write",
    "/members/invite": "members.write",
    "/settings/delete": "tenant.delete",
}
"""The form goes where its page is."""
PERMISSIONS: dict[str, dict[str, str]] = {
    "GET": PAGES_WITH_FORMS
    | {
        "/audit": "audit.read",
        "/billing": "billing.read",
        "/billing/invoices": "billing.read",
        "/billing/spend-caps": "billing.read",
        "/billing/tiers": "billing.read",
        "/deploy": "functions.write",
        "/functions": "functions.read",
        "/functions/{name}": "functions.read",
        "/functions/{name}/code": "functions.read",
        "/keys": "keys.read",
        "/logs": "logs.read",
        "/members": "members.read",
        "/members/{member_id}": "members.read",
        "/settings": "tenant.read",
        "/usage": "usage.read",
        "/usage/export.csv": "usage.read",
    },
    "POST": PAGES_WITH_FORMS
    | {
        "/billing/keep": "billing.write",
        "/billing/payment-method": "billing.write",
        "/billing/resume": "billing.write",
        "/billing/spend-caps": "billing.write",
        "/billing/spend-caps/remove": "billing.write",
        "/deploy/versions": "functions.write",
        "/members/invitations/{invitation_id}/withdraw": "members.write",
        "/members/{member_id}/remove": "members.read",
        "/members/{member_id}/role": "members.write",
        "/usage/alerts": "billing.write",
        "/usage/alerts/test": "billing.write",
    },
}
"""What is of a tenant: path → the permission that it takes. (Removing a member: oneself, or with members.write.)"""
PERSONAL = ("/", "/sign-out", "/security", "/tenants", "/invitation/accept", "/deploy/versions")
"""For whoever is signed in; GET of the last one leads to /deploy."""
ANYBODYS = ("/sign-up", "/sign-in", "/reset", "/invitation")
"""And what is below them."""
NOBODYS = {
    "name": "no-such-function",
    "alias": "none",
    "secret": "NONE",
    "key_id": f"key_{'0' * 26}",
    "member_id": f"mem_{'0' * 26}",
    "invitation_id": f"ivt_{'0' * 26}",
}
"""A form that is let in finds nothing to change."""


@pytest.fixture(scope="module")
def owner(control_plane: ControlPlane) -> Person:
    number = next(_numbers)
    return sign_up(control_plane, f"pages-{number}@example.com", f"pages-{number}")


@pytest.fixture(scope="module")
def browsers(control_plane: ControlPlane, owner: Person) -> dict[str, Browser]:
    """Somebody of each role, signed in."""
    found = {}
    for role in ROLES["tenant.read"]:
        email = owner.email if role == "owner" else join(owner, f"{role}-{owner.email}", role).email
        found[role] = Browser(control_plane.url)
        assert "Sign out" in found[role].sign_in(email).text
    return found


def test_the_table_names_every_page() -> None:
    served = {(method, path) for part in OWN for route in part.router.routes for method, path in methods_of(route)}
    named = {(method, path) for method, paths in PERMISSIONS.items() for path in paths}
    others = {
        (method, path)
        for method, path in served - named
        if path in PERSONAL or path.startswith((*ANYBODYS, "/security/", "/tenants/"))
    }
    assert served == named | others
    assert not named & others


def methods_of(route: object) -> list[tuple[str, str]]:
    return [(method, getattr(route, "path", "")) for method in getattr(route, "methods", ())]


@pytest.mark.parametrize("role", sorted(ROLES["tenant.read"]))
def test_each_role_is_let_in_where_it_may(browsers: dict[str, Browser], role: str) -> None:
    browser = browsers[role]
    token = form_token(browser)
    let_in = 0
    for method, paths in PERMISSIONS.items():
        for path, permission in paths.items():
            url = path.format(**NOBODYS)
            origin = str(browser.http.base_url).rstrip("/")
            data = token if method == "POST" else None
            answer = browser.http.request(method, url, data=data, headers={"Origin": origin}, follow_redirects=False)
            is_let_in = answer.status_code != 403
            assert is_let_in == (role in ROLES[permission]), (
                role,
                method,
                path,
                answer.status_code,
                answer.text[-900:],
            )
            assert answer.status_code < 500, (method, path)
            let_in += is_let_in
    assert 5 < let_in <= sum(map(len, PERMISSIONS.values()))


def test_nothing_of_another_tenant_is_there(control_plane: ControlPlane, owner: Person) -> None:
    key = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    tenant = Tenant(control_plane, {"id": "", "name": owner.http.headers["Tailcut-Tenant"], "key": key})
    version = tenant.deploy("hello", bundle(1), alias="canary")["version"]
    tenant.deploy("hello", bundle(2))
    tenant.http.put("/v1/functions/hello/secrets/TOKEN", json={"value": "kept-out-of-sight"})
    invited = owner.http.post("/v1/invitations", json={"email": "guest@example.com", "role": "viewer"}).json()
    theirs = {
        "name": "hello",
        "alias": "canary",
        "secret": "TOKEN",
        "key_id": key["id"],
        "member_id": owner.member_id(),
        "invitation_id": invited["id"],
    }
    number = next(_numbers)
    intruder = sign_up(control_plane, f"intruder-{number}@example.com", f"intruding-{number}")
    for person, is_theirs in ((intruder, False), (owner, True)):
        browser = Browser(control_plane.url)
        browser.sign_in(person.email)
        for path in PERMISSIONS["GET"]:
            if "{" in path:
                answer = browser.http.get(path.format(**theirs))
                assert answer.status_code == (200 if is_theirs else 404), path  # the control: the owner sees it
        if is_theirs:
            continue
        token = form_token(browser)
        # Each form with the other tenant's ids wherever it takes one, in the path and beside it.
        given = {**token, "function": "hello", "version": version, "target": version, "role": "viewer", **theirs}
        for path in PERMISSIONS["POST"]:
            answer = post(browser, path.format(**theirs), given)
            assert answer.status_code == 404 or "{" not in path, (path, answer.status_code)
            assert not any(secret in answer.text for secret in ("kept-out-of-sight", owner.email, tenant.name)), path
        for query in (f"/logs?function=hello&version={version}", "/usage?function=hello", "/deploy?function=hello"):
            assert not any(word in browser.http.get(query).text for word in (owner.email, tenant.name)), query
        answer = post(browser, "/tenants/switch", {**token, "tenant": tenant.name})
        assert answer.status_code == 404
    about = tenant.http.get("/v1/functions/hello").json()
    assert about["aliases"]["canary"] == version
    assert [each["name"] for each in tenant.http.get("/v1/functions/hello/secrets").json()["items"]] == ["TOKEN"]
    assert tenant.http.get("/v1/invitations").json()["items"][0]["id"] == invited["id"]
    assert owner.member_id() == theirs["member_id"]


def post(browser: Browser, path: str, fields: dict[str, str]) -> httpx.Response:
    origin = str(browser.http.base_url).rstrip("/")
    return browser.http.post(path, data=fields, headers={"Origin": origin}, follow_redirects=False)
