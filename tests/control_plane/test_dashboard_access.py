"""The ways into the dashboard and out of it: sign-up, sign-in, second factor, reset, links, cookies."""

import asyncio
import itertools
import re
from pathlib import Path

import httpx
import pytest

from control_plane.app import create_app
from control_plane.dashboard.visitor import session_cookie
from control_plane.migrate import migrate
from control_plane.settings import Settings
from tests.control_plane.dashboard_browser import Browser, tenant_of
from tests.control_plane.running import PASSWORD, ControlPlane, Mailbox, Person, Tenant
from tests.control_plane.test_people import fresh_email, totp

SESSION = "tailcut_session"
_numbers = itertools.count(1)


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


# -- Cookies ------------------------------------------------------------------------------------------


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
