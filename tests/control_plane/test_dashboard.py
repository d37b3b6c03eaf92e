"""The dashboard as a browser uses it: sign in with a key, look around, sign out; and what must not work."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest

from gateway.contract.report import StartFailure
from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane, Tenant, Valkey, eventually
from tests.control_plane.test_functions import report, version_of

SESSION = "tailcut_session"


@pytest.fixture
def browser(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=control_plane.url, follow_redirects=True, timeout=30) as client:
        yield client


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def origin_of(page: httpx.Response) -> str:
    """The Origin that a browser sends with a form of this page (Fetch standard, "append a request Origin header")."""
    url = page.url
    return "null" if page.headers["referrer-policy"] == "no-referrer" else f"{url.scheme}://{url.netloc.decode()}"


def sign_in(browser: httpx.Client, key: str) -> httpx.Response:
    page = browser.get("/")
    form = {"csrf_token": csrf_of(page.text), "key": key}
    return browser.post("/sign-in", data=form, headers={"Origin": origin_of(page)})


class Tags(HTMLParser):
    """All tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_signed_out_one_sees_only_the_sign_in_page(browser: httpx.Client) -> None:
    for path in ("/", "/keys", "/functions/hello"):
        page = browser.get(path)
        assert page.status_code == 200
        assert "Sign in" in page.text
        assert 'type="password"' in page.text


def test_sign_in_and_out(browser: httpx.Client, tenant: Tenant) -> None:
    page = sign_in(browser, tenant.token)
    assert page.status_code == 200
    assert tenant.name in page.text
    cookie = browser.cookies[SESSION]
    signed_out = browser.post("/sign-out", data={"csrf_token": csrf_of(page.text)})
    assert "Sign in" in signed_out.text
    # The cookie is worthless now, not only forgotten.
    with httpx.Client(base_url=browser.base_url, cookies={SESSION: cookie}) as thief:
        assert tenant.name not in thief.get("/").text


def test_the_cookie_is_kept_from_scripts_and_other_sites(browser: httpx.Client, tenant: Tenant) -> None:
    form = {"csrf_token": csrf_of(browser.get("/").text), "key": tenant.token}
    answer = browser.post("/sign-in", data=form, follow_redirects=False)
    assert answer.status_code == 303
    [cookie] = [each for each in answer.headers.get_list("set-cookie") if each.startswith(SESSION)]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert tenant.token not in cookie


@pytest.mark.parametrize("key", ["", "nonsense", "tck_" + "a" * 43])
def test_a_wrong_key_does_not_sign_in(browser: httpx.Client, key: str) -> None:
    page = sign_in(browser, key)
    assert page.status_code in (401, 422)
    assert SESSION not in browser.cookies


def test_a_key_that_may_only_invoke_does_not_sign_in(browser: httpx.Client, tenant: Tenant) -> None:
    page = sign_in(browser, tenant.new_key("invoke")["token"])
    assert page.status_code == 403
    assert "scope" in page.text
    assert SESSION not in browser.cookies


def test_forms_of_other_pages_are_refused(browser: httpx.Client, tenant: Tenant) -> None:
    browser.get("/")
    assert browser.post("/sign-in", data={"csrf_token": "guess", "key": tenant.token}).status_code == 403
    form = {"csrf_token": csrf_of(browser.get("/").text), "key": tenant.token}
    for origin in ("https://evil.example", "null"):
        other_site = browser.post("/sign-in", data=form, headers={"Origin": origin})
        assert other_site.status_code == 403
        assert "another site" in other_site.text
    assert SESSION not in browser.cookies
    page = sign_in(browser, tenant.token)
    assert tenant.name in page.text
    assert browser.post("/sign-out", data={"csrf_token": "guess"}).status_code == 403
    own = {"Origin": str(browser.base_url).rstrip("/")}
    assert tenant.name in browser.get("/").text  # still signed in
    assert browser.post("/sign-out", data={"csrf_token": csrf_of(page.text)}, headers=own).status_code == 200


def test_a_revoked_key_ends_its_sessions(browser: httpx.Client, tenant: Tenant) -> None:
    created = tenant.new_key("read")
    assert tenant.name in sign_in(browser, created["token"]).text
    tenant.http.delete(f"/v1/keys/{created['id']}")
    assert tenant.name not in browser.get("/").text


def test_the_empty_state_teaches_the_first_deploy(browser: httpx.Client, tenant: Tenant) -> None:
    page = sign_in(browser, tenant.token).text
    assert "tailcut deploy" in page
    assert f"tailcut login --server {str(browser.base_url).rstrip('/')}" in page


def test_functions_versions_and_failures(browser: httpx.Client, tenant: Tenant, valkey: Valkey) -> None:
    good = tenant.deploy("hello", bundle(1))["version"]
    report(valkey, good)
    assert eventually(lambda: version_of(tenant, "hello", good)["status"] == "ready")
    bad = tenant.deploy("hello", bundle(2))["version"]
    hostile = StartFailure(
        type="Error", message="<script>alert(1)</script>", traceback='File "<img src=x onerror=alert(1)>" & more'
    )
    report(valkey, bad, error=hostile)
    assert eventually(lambda: version_of(tenant, "hello", bad)["status"] == "failed")
    page = sign_in(browser, tenant.token).text
    for text in ("hello", "failed", f"/{tenant.name}/hello", "curl -H", "&lt;script&gt;alert(1)", "&lt;img src=x"):
        assert text in page, text
    detail = browser.get("/functions/hello").text
    assert good in detail
    assert bad in detail
    assert "live" in detail
    for each in (page, detail):
        tags = Tags(each).seen
        assert not {"script", "iframe"} & {tag for tag, _ in tags}
        assert {attributes["src"] for tag, attributes in tags if tag == "img"} == {"/static/icon.svg"}
        assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
        links = [attributes["href"] for tag, attributes in tags if tag == "link"]
        assert all(link is not None and link.startswith("/static/") for link in links)
    assert browser.get("/functions/nope").status_code == 404
    assert browser.get("/static/tailcut.css").headers["content-type"].startswith("text/css")


def test_keys_are_listed_without_their_tokens(browser: httpx.Client, tenant: Tenant) -> None:
    created = tenant.new_key("invoke", name="for <b>the</b> site")
    sign_in(browser, tenant.token)
    page = browser.get("/keys").text
    assert "for &lt;b&gt;the&lt;/b&gt; site" in page
    assert created["last_four"] in page
    assert created["token"] not in page


def test_one_sees_only_ones_own(browser: httpx.Client, tenant: Tenant, stranger: Tenant) -> None:
    tenant.deploy("elsewhere", bundle(1))
    stranger.deploy("shown", bundle(1))
    page = sign_in(browser, stranger.token).text
    assert "shown" in page
    assert "elsewhere" not in page
    assert browser.get("/functions/elsewhere").status_code == 404
    assert tenant.key_id not in browser.get("/keys").text
