"""A browser without scripts, for tests of the dashboard: follows redirects, keeps cookies, sends forms as they are."""

from html.parser import HTMLParser
from urllib.parse import urlsplit

import httpx

from tests.control_plane.running import PASSWORD, Person


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


def tenant_of(person: Person) -> str:
    return person.http.headers["Tailcut-Tenant"]


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
