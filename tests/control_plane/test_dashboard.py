"""The dashboard as a browser without scripts uses it: every page, every form, and what must not work."""

import itertools
import re
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from control_plane.dashboard import (
    access_pages,
    admin_billing_pages,
    admin_pages,
    admin_tenant_pages,
    audit_pages,
    billing_pages,
    change_pages,
    deploy_pages,
    function_pages,
    key_pages,
    log_pages,
    member_pages,
    overview_pages,
    purchase_pages,
    secret_pages,
    security_pages,
    spend_cap_pages,
    tenant_pages,
    try_pages,
    usage_pages,
)
from gateway.contract.report import StartFailure
from tests.control_plane.bundles import bundle
from tests.control_plane.dashboard_browser import Browser, Forms, check_policy, form_token, tenant_of
from tests.control_plane.running import PASSWORD, ControlPlane, Mailbox, Person, Tenant, Valkey, eventually, join
from tests.control_plane.test_functions import report, version_of
from tests.control_plane.test_people import enrol, fresh_email

SESSION = "tailcut_session"
_numbers = itertools.count(1)


OPERATORS = (admin_pages, admin_tenant_pages, admin_billing_pages)
"""Looked at by tests/control_plane/test_operators.py; here: what others see of them."""
OWN = (
    access_pages,
    audit_pages,
    billing_pages,
    change_pages,
    deploy_pages,
    function_pages,
    key_pages,
    log_pages,
    member_pages,
    overview_pages,
    purchase_pages,
    secret_pages,
    security_pages,
    spend_cap_pages,
    tenant_pages,
    try_pages,
    usage_pages,
)
PARTS = (*OWN, *OPERATORS)
ROUTES = [route for part in PARTS for route in part.router.routes if isinstance(route, APIRoute)]
"""Every page and form. A part that is missing here is seen by the next test."""


def test_every_part_of_the_dashboard_is_looked_at() -> None:
    folder = Path(access_pages.__file__).parent
    assert {path.stem for path in folder.glob("*_pages.py")} == {part.__name__.rpartition(".")[2] for part in PARTS}


# -- Forms, headers ----------------------------------------------------------------------------------------------------


POSTS = [route.path for route in ROUTES if "POST" in (route.methods or ())]
"""Each form's address."""
IDS = {"key_id": "key", "member_id": "mem", "invitation_id": "ivt", "session_id": "ses", "tenant_id": "tnt"}


@pytest.mark.parametrize("path", POSTS)
def test_a_form_without_its_token_is_refused(signed_in: Browser, path: str) -> None:
    """Every form that there is, by the list of routes: a new one cannot be forgotten."""
    names = {"name": "hello", "alias": "canary", "secret": "TOKEN"}
    url = path.format(**{name: f"{prefix}_{'0' * 26}" for name, prefix in IDS.items()}, **names)
    home = f"{signed_in.http.base_url}".rstrip("/")
    token = form_token(signed_in)
    for fields, origin in (
        ({}, home),
        ({"csrf_token": "guess"}, home),
        (token, "https://evil.example"),
        (token, "null"),
    ):
        answer = signed_in.http.post(url, data=fields, headers={"Origin": origin}, follow_redirects=False)
        assert answer.status_code == 403, (fields, origin, answer.text)
    answer = signed_in.http.post(url, data=token, headers={"Sec-Fetch-Site": "cross-site"}, follow_redirects=False)
    assert answer.status_code == 403
    assert "Sign out" in signed_in.open("/security").text  # nothing has happened


def test_a_foreign_theme_is_refused(browser: Browser) -> None:
    answer = browser.http.post("/theme", data={"theme": "dark"}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    browser.submit("/theme", theme="dark")
    assert 'data-theme="dark"' in browser.open("/sign-in").text


GETS = [route.path for route in ROUTES if "GET" in (route.methods or ())]


def test_every_page_obeys_the_strict_policy(
    signed_in: Browser, owner: Person, control_plane: ControlPlane, browser: Browser
) -> None:
    key = owner.http.post("/v1/keys", json={"scopes": ["read"]}).json()["id"]
    nobody = f"tnt_{'0' * 26}"
    made = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    tenant = Tenant(control_plane, {"id": "", "name": tenant_of(owner), "key": made})
    tenant.deploy("hello", bundle(1), alias="canary")
    tenant.deploy("hello", bundle(2))
    owner.http.put("/v1/functions/hello/secrets/TOKEN", json={"value": "x"})
    values = {
        "node": "node-1",
        "tenant_id": nobody,
        "key_id": key,
        "member_id": owner.member_id(),
        "name": "hello",
        "alias": "canary",
        "secret": "TOKEN",
    }
    seen = 0
    for path in (*GETS, "/errors", "/errors/unauthorized", "/nothing-here"):
        page = signed_in.open(path.format(**values))
        assert page.status_code < 500, path
        if page.headers["content-type"].startswith("text/csv"):
            assert "attachment" in page.headers["content-disposition"]  # a download is no page
            continue
        check_policy(page)
        seen += page.status_code == 200
    assert seen > 22
    anybody = Browser(control_plane.url)
    for path in ("/sign-in", "/sign-up", "/reset", "/invitation?token=abc"):
        check_policy(anybody.open(path))


# -- Pages ------------------------------------------------------------------------------------------------------------


def test_the_empty_state_teaches_the_first_deploy(signed_in: Browser) -> None:
    page = signed_in.open("/").text
    assert "tailcut deploy" in page
    assert f"tailcut login --server {str(signed_in.http.base_url).rstrip('/')}" in page


def test_functions_versions_and_failures(
    signed_in: Browser, owner: Person, control_plane: ControlPlane, valkey: Valkey
) -> None:
    made = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    tenant = Tenant(control_plane, {"id": "", "name": tenant_of(owner), "key": made})
    good = tenant.deploy("hello", bundle(1))["version"]
    report(valkey, good)
    assert eventually(lambda: version_of(tenant, "hello", good)["status"] == "ready")
    bad = tenant.deploy("hello", bundle(2))["version"]
    hostile = StartFailure(
        type="Error", message="<script>alert(1)</script>", traceback='File "<img src=x onerror=alert(1)>" & more'
    )
    report(valkey, bad, error=hostile)
    assert eventually(lambda: version_of(tenant, "hello", bad)["status"] == "failed")
    page = signed_in.open("/functions")
    for text in ("hello", "newest version failed", "&lt;script&gt;alert(1)"):
        assert text in page.text, text
    first = signed_in.open("/")
    for text in ("hello", "did not start: Error", "&lt;script&gt;alert(1)"):
        assert text in first.text, text
    check_policy(first)
    detail = signed_in.open("/functions/hello")
    for text in (f"/{tenant.name}/hello", "&lt;script&gt;alert(1)", "&lt;img src=x"):
        assert text in detail.text, text
    assert good in detail.text
    assert bad in detail.text
    assert "live" in detail.text
    check_policy(page)
    check_policy(detail)
    assert signed_in.open("/functions/nope").status_code == 404


def test_keys_by_browser(signed_in: Browser, owner: Person, control_plane: ControlPlane) -> None:
    signed_in.open("/keys/new")
    assert signed_in.submit("/keys/new", name="", scopes=["read"]).status_code == 422
    page = signed_in.submit("/keys/new", name="for <b>the</b> site", scopes=["read", "invoke"], lifetime="30")
    token = re.search(r"tck_\w{43}", page.text)
    assert token
    with control_plane.client(token[0]) as client:
        about = client.get("/v1/tenant").json()
        assert about["caller"]["scopes"] == ["invoke", "read"]
        key_id = about["caller"]["key_id"]
        page = signed_in.open("/keys")
        assert "for &lt;b&gt;the&lt;/b&gt; site" in page.text
        assert token[0] not in page.text
        assert token[0][-4:] in page.text
        signed_in.open(f"/keys/{key_id}/revoke")
        assert "revoked" in signed_in.submit(f"/keys/{key_id}/revoke").text
        assert client.get("/v1/tenant").status_code == 401


def test_inviting_by_browser(signed_in: Browser, owner: Person, control_plane: ControlPlane) -> None:
    email = fresh_email()
    signed_in.open("/members/invite")
    assert signed_in.submit("/members/invite", email="nobody", role="viewer").status_code == 422
    assert email in signed_in.submit("/members/invite", email=email, role="viewer").text
    link = re.search(r"http\S+", Mailbox(control_plane).newest(email)["text"])
    assert link
    guest = Browser(control_plane.url)
    assert tenant_of(owner) in guest.open(link[0]).text
    page = guest.submit("/invitation", name="Guest", password=PASSWORD)
    assert tenant_of(owner) in page.text
    # A viewer sees, and is offered nothing that is not for viewers.
    assert "New key" not in guest.open("/keys").text
    for path in ("/keys/new", "/members/invite", "/audit", "/settings/delete"):
        assert guest.open(path).status_code == 403
    members = {each["email"]: each["id"] for each in owner.http.get("/v1/members").json()["items"]}
    signed_in.open(f"/members/{members[email]}")
    page = signed_in.submit(f"/members/{members[email]}/role", role="developer")
    assert f"{email} is developer now." in page.text
    assert "is developer now" not in signed_in.open("/members").text  # said once
    assert "New key" in guest.open("/keys").text
    alone = signed_in.open(f"/members/{owner.member_id()}")
    assert "Leave" in alone.text
    refused = signed_in.submit(f"/members/{owner.member_id()}/remove")
    assert refused.status_code == 409
    assert "only owner" in refused.text
    signed_in.open(f"/members/{members[email]}")
    signed_in.submit(f"/members/{members[email]}/remove")
    assert guest.open("/").url.path == "/tenants"


def test_the_audit_log_by_browser(signed_in: Browser, owner: Person) -> None:
    owner.http.post("/v1/keys", json={"scopes": ["read"], "name": "<i>audited</i>"})
    page = signed_in.open("/audit")
    assert "&lt;i&gt;audited&lt;/i&gt;" in page.text
    assert owner.email in page.text
    assert "audited" not in signed_in.open("/audit?action=member").text
    assert "audited" in signed_in.open(f"/audit?actor={owner.email[:9]}").text


def test_sessions_by_browser(signed_in: Browser, owner: Person) -> None:
    assert "this one" in signed_in.open("/security").text
    assert "has ended" in signed_in.submit(f"/security/sessions/{owner.session_id}/end").text
    assert owner.http.get("/v1/person").status_code == 401


def test_several_tenants(signed_in: Browser, owner: Person) -> None:
    name = f"second-{next(_numbers)}-tenant"
    signed_in.open("/tenants")
    assert signed_in.submit("/tenants", name=tenant_of(owner)).status_code == 422
    assert name in signed_in.submit("/tenants", name=name).text
    assert f"tenant {tenant_of(owner)}" not in signed_in.open("/settings").text
    signed_in.open("/tenants")
    form = next(f for f in Forms(signed_in.page.text).forms if f["hidden"].get("tenant") == tenant_of(owner))  # type: ignore[attr-defined]
    signed_in.page = signed_in.http.post("/tenants/switch", data=form["hidden"])  # type: ignore[arg-type]
    assert f"<strong>{tenant_of(owner)}</strong>" in signed_in.open("/settings").text
    stolen = {**form["hidden"], "tenant": "dev"}  # type: ignore[dict-item]
    assert signed_in.http.post("/tenants/switch", data=stolen).status_code == 404


def test_one_sees_only_ones_own(signed_in: Browser, owner: Person, stranger: Tenant) -> None:
    stranger.deploy("foreign", bundle(1))
    assert "foreign" not in signed_in.open("/").text
    assert "foreign" not in signed_in.open("/functions").text
    assert signed_in.open("/functions/foreign").status_code == 404
    assert stranger.key_id not in signed_in.open("/keys").text
    assert signed_in.open(f"/keys/{stranger.key_id}/revoke").status_code == 404
    assert stranger.http.get("/v1/tenant").status_code == 200


def test_the_whole_person_may_join_a_second_tenant(owner: Person, control_plane: ControlPlane) -> None:
    other = join(owner, fresh_email(), "admin")
    host = Browser(control_plane.url)
    third = Person(control_plane, other.email, {"id": "", "token": other.token})
    made = third.http.post("/v1/person/tenants", json={"name": f"third-{next(_numbers)}"}).json()["name"]
    third.http.headers["Tailcut-Tenant"] = made
    assert third.http.post("/v1/invitations", json={"email": owner.email, "role": "billing"}).status_code == 201
    link = re.search(r"http\S+", Mailbox(control_plane).newest(owner.email, 2)["text"])
    assert link
    page = host.open(link[0])
    assert "Sign in to accept" in page.text
    host.open("/sign-in?next=" + str(httpx.URL(link[0]).raw_path.decode()).replace("?", "%3F").replace("=", "%3D"))
    host.submit("/sign-in", email=owner.email, password=PASSWORD)
    page = host.submit("/invitation/accept")
    assert made in page.text
    # Billing sees no functions, on the overview neither.
    assert page.url.path == "/"
    assert "Deploy a function" not in page.text
    assert host.open("/functions").status_code == 403


def test_deleting_by_browser(signed_in: Browser, owner: Person) -> None:
    signed_in.open("/settings/delete")
    assert signed_in.submit("/settings/delete", name="another", password=PASSWORD).status_code == 422
    assert signed_in.submit("/settings/delete", name=tenant_of(owner), password="wrong one").status_code == 422
    assert owner.http.get("/v1/tenant").json()["status"] == "active"
    page = signed_in.submit("/settings/delete", name=tenant_of(owner), password=PASSWORD)
    assert "being deleted" in page.text
    assert owner.http.get("/v1/tenant").json()["status"] == "deleting"


def test_a_person_with_a_second_factor_is_seen_as_such(signed_in: Browser, owner: Person) -> None:
    assert 'pill ready">on' not in signed_in.open("/members").text
    enrol(owner)
    fresh = Browser(str(signed_in.http.base_url))
    fresh.sign_in(owner.email)
    assert owner.http.get("/v1/members").json()["items"][0]["second_factor"] is True
