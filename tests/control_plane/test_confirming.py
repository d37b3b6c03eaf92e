"""What a stolen session must not do without the password: keys, members, the second factor, the tenant's end.

A session that nobody has confirmed is one made by the operator's link for somebody who has a password: nothing has to
be waited for. That a confirmation ends is in ``test_people``; the same calls with the password are the control.
"""

from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from tests.control_plane.dashboard_browser import Browser, tenant_of
from tests.control_plane.running import PASSWORD, ControlPlane, Person, join
from tests.control_plane.test_people import enrol, fresh_email, totp

CONFIRM = "/v1/sessions/current/confirm"


@pytest.fixture
def thief(browser: Browser, owner: Person, control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """With a session of the owner's in which no password was given; ``browser`` has it, too."""
    tenant = owner.http.get("/v1/tenant").json()["id"]
    with control_plane.client(control_plane.operator_token) as operator:
        link = operator.post(f"/v1/tenants/{tenant}/sign-in-links", json={"email": owner.email}).json()["url"]
    browser.open(link)
    assert "Sign out" in browser.submit("/sign-in/link").text
    with closing(control_plane.client(browser.http.cookies["tailcut_session"])) as client:
        client.headers["Tailcut-Tenant"] = tenant_of(owner)
        yield client


def is_refused(answer: httpx.Response) -> bool:
    return answer.status_code == 403 and answer.json()["type"].endswith("/confirmation-required")


def test_what_outlasts_a_session_needs_the_password(thief: httpx.Client, owner: Person) -> None:
    other = join(owner, fresh_email(), "viewer")
    key = owner.http.post("/v1/keys", json={"scopes": ["read"]}).json()["id"]
    invitation = owner.http.post("/v1/invitations", json={"email": fresh_email(), "role": "viewer"}).json()["id"]
    member = f"/v1/members/{other.member_id()}"
    acts = [
        ("POST", "/v1/keys", {"scopes": ["read"]}, 201),
        ("DELETE", f"/v1/keys/{key}", None, 204),
        ("POST", "/v1/invitations", {"email": fresh_email(), "role": "owner"}, 201),
        ("DELETE", f"/v1/invitations/{invitation}", None, 204),
        ("PATCH", member, {"role": "owner"}, 200),
        ("DELETE", member, None, 204),
        ("POST", "/v1/person/second-factor", None, 201),
        ("POST", "/v1/person/second-factor/confirm", {"code": "000000"}, 401),
        ("POST", "/v1/person/second-factor/off", {"password": PASSWORD}, 204),
        ("POST", "/v1/tenant/deletion", {"name": tenant_of(owner), "password": PASSWORD}, 202),
    ]
    assert thief.get("/v1/keys").status_code == 200  # it is a session
    for method, path, body, _ in acts:
        assert is_refused(thief.request(method, path, json=body)), path
    assert thief.post(CONFIRM, json={"password": "a wrong password"}).status_code == 403
    assert is_refused(thief.post("/v1/keys", json={"scopes": ["read"]}))
    # Control: with the password each is done, or refused for another reason.
    assert thief.post(CONFIRM, json={"password": PASSWORD}).status_code == 204
    for method, path, body, status in acts:
        assert thief.request(method, path, json=body).status_code == status, path


def test_a_confirmation_is_the_sessions_own_and_asks_for_the_second_factor(thief: httpx.Client, owner: Person) -> None:
    # An enrolment that the owner has begun shows its secret: the thief neither sees nor finishes it.
    secret, codes = enrol(owner)
    assert thief.get("/v1/person").status_code == 401  # enrolling ended the other sessions
    fresh = owner.control_plane.client(owner.token)
    fresh.headers["Tailcut-Tenant"] = tenant_of(owner)
    assert fresh.post("/v1/keys", json={"scopes": ["read"]}).status_code == 201
    for body, status in (
        ({"password": PASSWORD}, 401),
        ({"password": PASSWORD, "code": "000000"}, 401),
        ({"password": "wrong", "code": codes[0]}, 403),
        ({"password": PASSWORD, "code": codes[0]}, 204),
        ({"password": PASSWORD, "code": codes[0]}, 401),  # a recovery code works once here, too
        ({"password": PASSWORD, "code": totp(secret)}, 204),
    ):
        assert fresh.post(CONFIRM, json=body).status_code == status, body


def test_guesses_at_the_confirmation_are_bounded(thief: httpx.Client) -> None:
    answers = {thief.post(CONFIRM, json={"password": f"wrong {number}"}).status_code for number in range(12)}
    assert answers == {403, 429}
    assert thief.post(CONFIRM, json={"password": PASSWORD}).status_code == 429


@pytest.mark.parametrize("path", ["/keys/new", "/members/invite", "/settings/delete", "/security/second-factor/off"])
def test_a_page_asks_for_the_password_and_comes_back(thief: httpx.Client, browser: Browser, path: str) -> None:
    assert browser.open(path).url.path == "/security/confirm"
    assert browser.submit("/security/confirm", password="wrong").status_code == 422
    assert "Forbidden" not in browser.page.text
    assert browser.submit("/security/confirm", password=PASSWORD).url.path == path
    assert thief.get("/v1/person").status_code == 200


def test_a_form_that_comes_too_late_leads_to_the_password_and_back(browser: Browser, thief: httpx.Client) -> None:
    browser.open("/security")
    browser.http.headers["Referer"] = f"{str(browser.http.base_url).rstrip('/')}/security"
    assert browser.submit("/security/second-factor").url.path == "/security/confirm"
    assert browser.submit("/security/confirm", password=PASSWORD).url.path == "/security"
    assert "Scan this" in browser.submit("/security/second-factor").text
    # Where it goes back to is a page of this server.
    browser.http.headers["Referer"] = "https://elsewhere.example/keys/new"
    browser.open("/security/confirm?next=//elsewhere.example/")
    assert browser.submit("/security/confirm", password=PASSWORD).url.path == "/"
    assert thief.get("/v1/person").status_code == 200
