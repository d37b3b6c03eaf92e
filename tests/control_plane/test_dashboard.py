"""The dashboard as a browser without scripts uses it: every page, every form, and what must not work."""

import asyncio
import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.routing import APIRoute

from control_plane.app import create_app
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
from control_plane.dashboard.visitor import session_cookie
from control_plane.migrate import migrate
from control_plane.settings import Settings
from gateway.contract.report import StartFailure
from tests.control_plane.bundles import bundle
from tests.control_plane.running import PASSWORD, ControlPlane, Mailbox, Person, Tenant, Valkey, eventually, join
from tests.control_plane.test_functions import report, version_of
from tests.control_plane.test_people import enrol, fresh_email, totp

SESSION = "tailcut_session"
_numbers = itertools.count(1)


class Browser:
    """Follows redirects, keeps cookies, fills in forms with all that is hidden in them."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, follow_redirects=True, timeout=30, headers={"Accept": "text/html"})
        self.page = self.http.get("/sign-in")

    def open(self, path: str) -> httpx.Response:
        self.page = self.http.get(path)
        return self.page

    def submit(self, action: str, /, **fields: str | list[str]) -> httpx.Response:
        """The form of the present page that goes to ``action``."""
        form = next(
            form for form in Forms(self.page.text).forms if (form["method"], form["action"]) == ("post", action)
        )
        url = self.page.url
        origin = f"{url.scheme}://{url.netloc.decode()}"
        self.page = self.http.post(action, data={**form["hidden"], **fields}, headers={"Origin": origin})
        return self.page

    def sign_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        self.open("/sign-in")
        return self.submit("/sign-in", email=email, password=password)


class Forms(HTMLParser):
    """The forms of a page, with their hidden fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[dict[str, object]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        if tag == "form":
            self.forms.append({"method": about.get("method"), "action": about.get("action"), "hidden": {}})
        elif tag == "input" and about.get("type") == "hidden" and self.forms:
            self.forms[-1]["hidden"][about["name"]] = about.get("value")  # type: ignore[index]


def form_token(browser: Browser) -> dict[str, str]:
    """What a form of somebody signed in carries."""
    forms = Forms(browser.open("/security").text).forms
    hidden = next(form["hidden"] for form in forms if form["action"] == "/security/password")
    assert isinstance(hidden, dict)
    assert set(hidden) == {"csrf_token"}
    return hidden


class Tags(HTMLParser):
    """All tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.fixture
def browser(control_plane: ControlPlane) -> Iterator[Browser]:
    made = Browser(control_plane.url)
    yield made
    made.http.close()


@pytest.fixture
def signed_in(browser: Browser, owner: Person) -> Browser:
    assert "Sign out" in browser.sign_in(owner.email).text
    return browser


def tenant_of(person: Person) -> str:
    return person.http.headers["Tailcut-Tenant"]


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


# -- Before the sign-in -----------------------------------------------------------------------------------------------


def test_signed_out_one_sees_only_the_sign_in_page(browser: Browser) -> None:
    for path in ("/", "/keys", "/functions/hello", "/members", "/audit", "/settings", "/security", "/tenants"):
        page = browser.open(path)
        assert page.status_code == 200
        assert page.url.path == "/sign-in"
        assert 'type="password"' in page.text


def test_the_whole_sign_up(browser: Browser, control_plane: ControlPlane) -> None:
    email, tenant = fresh_email(), f"by-browser-{next(_numbers)}"
    browser.open("/sign-up")
    wrong = browser.submit("/sign-up", email=email, tenant="Not A Name")
    assert wrong.status_code == 422
    assert 'aria-invalid="true"' in wrong.text
    assert f'value="{email}"' in wrong.text
    assert "Look into your mail" in browser.submit("/sign-up", email=email, tenant=tenant).text
    link = re.search(r"http\S+", Mailbox(control_plane).newest(email)["text"])
    assert link
    for _ in range(2):  # looking at a link uses nothing up
        assert email in browser.open(link[0]).text
    weak = browser.submit("/sign-up/finish", name="Ada", password="password12")
    assert weak.status_code == 422
    assert "password12" not in weak.text
    page = browser.submit("/sign-up/finish", name="Ada", password=PASSWORD)
    assert page.url.path == "/"
    assert tenant in page.text
    assert "From nothing to a first call" in page.text
    assert browser.open(link[0]).status_code == 404


def test_sign_in_goes_where_one_wanted_to_go(browser: Browser, owner: Person) -> None:
    assert browser.open("/keys?limit=5").url.path == "/sign-in"
    page = browser.submit("/sign-in", email=owner.email, password=PASSWORD)
    assert page.url.raw_path == b"/keys?limit=5"
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        other = Browser(str(browser.http.base_url))
        other.open(str(httpx.URL("/sign-in", params={"next": elsewhere})))
        assert other.submit("/sign-in", email=owner.email, password=PASSWORD).url.path == "/"


@pytest.mark.parametrize(("email", "status"), [("", 422), ("nobody@example.com", 401)])
def test_a_wrong_log_in(browser: Browser, email: str, status: int) -> None:
    page = browser.sign_in(email, "not the password")
    assert page.status_code == status
    assert "not the password" not in page.text
    assert SESSION not in browser.http.cookies


def test_the_second_factor_by_browser(browser: Browser, owner: Person, control_plane: ControlPlane) -> None:
    assert "Sign out" in browser.sign_in(owner.email).text
    browser.open("/security")
    page = browser.submit("/security/second-factor")
    secret = re.search(r'data-copy="([A-Z2-7]{32})"', page.text)
    assert secret
    assert "<svg" in page.text
    assert browser.submit("/security/second-factor/confirm", code="000000").status_code == 422
    page = browser.submit("/security/second-factor/confirm", code=totp(secret[1]))
    codes = re.findall(r"<li><code>([a-z2-7-]{19})</code>", page.text)
    assert len(codes) == 10
    other = Browser(control_plane.url)
    page = other.sign_in(owner.email)
    assert "One more step" in page.text
    pending = other.http.cookies[SESSION]
    for path in ("/", "/keys", "/security"):
        assert other.http.get(path).url.path == "/sign-in"  # the password alone opens nothing
    assert other.submit("/sign-in/second-factor", code="000000").status_code == 401
    page = other.submit("/sign-in/second-factor", code=codes[0])
    assert "Sign out" in page.text
    assert other.http.cookies[SESSION] != pending
    with httpx.Client(base_url=control_plane.url, cookies={SESSION: pending}, follow_redirects=True) as thief:
        assert thief.get("/").url.path == "/sign-in"
    other.open("/security/second-factor/off")
    assert other.submit("/security/second-factor/off", password="wrong").status_code == 422
    assert "is off" in other.submit("/security/second-factor/off", password=PASSWORD).text


def test_a_reset_by_browser(browser: Browser, owner: Person, control_plane: ControlPlane) -> None:
    browser.open("/reset")
    assert "Look into your mail" in browser.submit("/reset", email=owner.email).text
    link = re.search(r"http\S+token\S+", Mailbox(control_plane).newest(owner.email, 2)["text"])
    assert link
    browser.open(link[0])
    assert "is changed" in browser.submit("/reset/finish", password="a quite different one").text
    assert "Sign out" in browser.sign_in(owner.email, "a quite different one").text


def test_the_operators_link_signs_in_once(browser: Browser, control_plane: ControlPlane, tenant: Tenant) -> None:
    with control_plane.client(control_plane.operator_token) as operator:
        answer = operator.post(f"/v1/tenants/{tenant.id}/sign-in-links", json={"email": "dev@localhost"})
    link = answer.json()["url"]
    browser.open(link)
    page = browser.submit("/sign-in/link")
    assert tenant.name in page.text
    assert "Sign out" in page.text
    assert Browser(control_plane.url).open(link).status_code == 404


# -- Cookies, forms, headers ------------------------------------------------------------------------------------------


def test_the_cookie_is_kept_from_scripts_and_other_sites(browser: Browser, owner: Person) -> None:
    browser.http.follow_redirects = False
    answer = browser.submit("/sign-in", email=owner.email, password=PASSWORD)
    assert answer.status_code == 303
    [cookie] = [each for each in answer.headers.get_list("set-cookie") if each.startswith(SESSION)]
    for attribute in ("HttpOnly", "SameSite=lax", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie


def test_over_https_cookies_are_bound_to_the_host(tmp_path: Path) -> None:
    """In this process: no TLS is needed to see what would be sent over it."""
    settings = Settings(data_dir=tmp_path, control_plane_url="https://tailcut.example")
    migrate(settings)
    app = create_app(settings)

    async def look() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="https://tailcut.example") as client,
        ):
            return await client.get("/sign-in")

    answer = asyncio.run(look())
    [cookie] = answer.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-tailcut_form=")
    for attribute in ("; Secure", "; HttpOnly", "; Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie  # the prefix forbids it
    assert answer.headers["strict-transport-security"]
    assert session_cookie(settings) == "__Host-tailcut_session"


def test_a_session_signed_out_is_over(signed_in: Browser, owner: Person, control_plane: ControlPlane) -> None:
    cookie = signed_in.http.cookies[SESSION]
    assert signed_in.submit("/sign-out").url.path == "/sign-in"
    with httpx.Client(base_url=control_plane.url, cookies={SESSION: cookie}, follow_redirects=True) as thief:
        assert tenant_of(owner) not in thief.get("/").text


def test_the_cookie_is_nothing_to_the_api(signed_in: Browser) -> None:
    assert signed_in.http.get("/keys").status_code == 200  # the control
    for path in ("/v1/tenant", "/v1/person", "/v1/keys"):
        assert signed_in.http.get(path).status_code == 401


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


def check_policy(page: httpx.Response) -> None:
    """Nothing inline, nothing from elsewhere; and the headers that say so."""
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store"
    tags = Tags(page.text).seen
    assert not {"iframe", "style", "object", "embed", "base"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (page.url, tag)
        for name in ("src", "href", "action"):
            target = attributes.get(name)
            if tag != "a" and target is not None:
                assert target.startswith("/"), (page.url, target)
    scripts = {attributes.get("src") for tag, attributes in tags if tag == "script"}
    assert {urlsplit(str(script)).path for script in scripts} == {"/static/htmx.js", "/static/tailcut.js"}


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
