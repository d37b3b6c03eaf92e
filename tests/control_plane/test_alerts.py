"""Alerts: each threshold once in a period, by mail and signed webhook, whatever dies; and where webhooks may go."""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from control_plane.alerts.destination import (
    Destination,
    ForbiddenDestinationError,
    check_url,
    is_public,
    resolve,
)
from control_plane.alerts.rules import Reached, Thresholds, reached_of
from control_plane.alerts.sender import deliver
from control_plane.models import now
from tests.control_plane.bundles import bundle
from tests.control_plane.dashboard_browser import Browser
from tests.control_plane.running import ControlPlane, Mailbox, Person, Tenant, Valkey, eventually, join, sign_up
from tests.control_plane.usage_feed import Call, Feed


class Receiver:
    """A tenant's webhook, on a port of its own."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        """What to answer to the next ones; then 200."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                receiver.requests.append((headers, body))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def small_month(control_plane: ControlPlane, tenant_id: str, invocations: int, tier: str = "free") -> None:
    with control_plane.client(control_plane.operator_token) as operator:
        overrides = {"month": {"invocations": invocations}}
        given = operator.put(f"/v1/tenants/{tenant_id}/subscription", json={"tier": tier, "overrides": overrides})
        assert given.status_code == 200, given.text


def set_alerts(tenant: Tenant, **wanted: Any) -> dict[str, Any]:
    answer = tenant.http.put("/v1/usage/alerts", json=wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def sent(tenant: Tenant) -> list[tuple[str, int]]:
    return [(each["subject"], each["percent"]) for each in tenant.http.get("/v1/usage/alerts/sent").json()["items"]]


def as_tenant(owner: Person) -> Tenant:
    key = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    found = owner.http.get("/v1/tenant").json()
    return Tenant(owner.control_plane, {"id": found["id"], "name": found["name"], "key": key})


def test_owners_and_billing_members_are_told_once_by_mail(owner: Person, valkey: Valkey) -> None:
    control_plane, tenant = owner.control_plane, as_tenant(owner)
    billing = join(owner, f"billing-of-{tenant.name}@example.com", "billing")
    viewer = join(owner, f"viewer-of-{tenant.name}@example.com", "viewer")
    small_month(control_plane, tenant.id, 10)
    version = tenant.deploy("hello", bundle(1))["version"]
    feed, mailbox = Feed(valkey), Mailbox(control_plane)

    def told(person: Person) -> list[str]:
        mails = mailbox.mails(person.email)
        return [mail["subject"] for mail in mails if "included invocations" in mail["subject"]]

    feed.book(Call(version).many(7))
    feed.book([Call(version)])
    eventually(lambda: sent(tenant) == [("invocations", 80)])
    eventually(lambda: len(told(owner)) == 1 and len(told(billing)) == 1)
    assert told(owner) == [f"{tenant.name}: 80 % of the included invocations are used"]
    for _ in range(3):
        feed.book([Call(version)])
    eventually(lambda: sent(tenant) == [("invocations", 100), ("invocations", 80)])
    eventually(lambda: len(told(owner)) == 2)
    # Another quota is another threshold: 80 % of 12 were reached all along, and 100 % are not yet.
    small_month(control_plane, tenant.id, 12)
    feed.book([Call(version)])
    eventually(lambda: len(sent(tenant)) == 4)
    assert len(told(viewer)) == 0
    text = next(mail["text"] for mail in mailbox.mails(owner.email) if "80 %" in mail["subject"])
    assert "calls are answered 402" in text
    assert f"{control_plane.url}/billing" in text


def test_a_webhook_is_signed_and_sent_again_until_it_is_taken(
    tenant: Tenant, valkey: Valkey, receiver: Receiver, control_plane: ControlPlane
) -> None:
    small_month(control_plane, tenant.id, 10)
    version = tenant.deploy("hello", bundle(1))["version"]
    made = set_alerts(tenant, quota_percents=[100, 50, 50], emails=False, webhook_url=receiver.url)
    secret = made["webhook_secret"]
    assert secret.startswith("tcw_")
    assert made["quota_percents"] == [50, 100]
    assert set_alerts(tenant, quota_percents=[50, 100], webhook_url=receiver.url)["webhook_secret"] is None
    receiver.answers = [503, 302]
    Feed(valkey).book(Call(version).many(5))
    eventually(lambda: len(receiver.requests) == 3)
    assert len({headers["tailcut-event-id"] for headers, _ in receiver.requests}) == 1
    assert len({body for _, body in receiver.requests}) == 1
    headers, body = receiver.requests[-1]
    at_s, _, signature = headers["tailcut-signature"].removeprefix("t=").partition(",v1=")
    expected = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    assert signature == expected
    assert abs(int(at_s) - time.time()) < 300
    event = json.loads(body)
    assert (event["type"], event["tenant"], event["subject"]) == ("usage.threshold", tenant.name, "invocations")
    assert (event["percent"], event["used"], event["allowed"], event["unit"]) == (50, 5, 10, "invocations")
    assert event["id"] == headers["tailcut-event-id"] == headers["idempotency-key"]

    def delivered() -> bool:
        (alert,) = tenant.http.get("/v1/usage/alerts/sent").json()["items"]
        return bool(alert["webhook_state"] == "delivered")

    eventually(delivered)
    test_id = tenant.http.post("/v1/usage/alerts/test").json()["id"]
    eventually(lambda: [each for each in receiver.events() if each["id"] == test_id])
    assert receiver.events()[-1]["type"] == "usage.test"
    other = set_alerts(tenant, webhook_url=receiver.url + "2")
    assert other["webhook_secret"] not in (None, secret)  # another place never learns the first one's secret
    assert set_alerts(tenant)["has_webhook"] is False
    assert tenant.http.post("/v1/usage/alerts/test").status_code == 409


def test_caps_and_errors_have_thresholds_as_well(tenant: Tenant, valkey: Valkey, control_plane: ControlPlane) -> None:
    small_month(control_plane, tenant.id, 1, tier="pro")
    version = tenant.deploy("hello", bundle(1))["version"]
    for cap in ("tenant", "functions/hello"):
        tenant.http.put(f"/v1/spend-caps/{cap}", json={"amount_minor": 1, "action": "alert"}).raise_for_status()
    set_alerts(tenant, quota_percents=[], spend_percents=[100], error_percent=10)
    feed = Feed(valkey)
    feed.book(Call(version).many(49, status=500, outcome="crashed"))
    assert sent(tenant) == []  # too few calls to say anything about errors
    feed.book([Call(version, wall_us=700_000_000, memory_bytes=2**30)])
    feed.book([Call(version)])
    eventually(lambda: ("errors", 10) in sent(tenant))
    feed.book(Call(version, wall_us=900_000_000, memory_bytes=2**34).many(40))
    eventually(lambda: sorted(sent(tenant)) == [("errors", 10), ("spend", 100), ("spend:hello", 100)])


def test_each_threshold_once_whatever_is_killed(own_valkey: Valkey, tmp_path: Path, receiver: Receiver) -> None:
    settings = {
        "TAILCUT_WEBHOOK_PRIVATE_ADDRESSES": "true",
        "TAILCUT_WEBHOOK_RETRY_FIRST": "PT0.2S",
        "TAILCUT_ALERT_INTERVAL": "PT0.02S",
    }
    running = ControlPlane(tmp_path / "var", own_valkey.url, **settings)
    try:
        tenant = as_tenant(sign_up(running, "owner@example.com", "acme"))
        small_month(running, tenant.id, 100)
        version = tenant.deploy("hello", bundle(1))["version"]
        percents = list(range(10, 101, 10))
        set_alerts(tenant, quota_percents=percents, webhook_url=receiver.url)
        feed = Feed(own_valkey)
        for number in range(3):
            feed.send(Call(version).many(35))
            time.sleep(0.05 * number)  # not a wait for anything: each death comes a little later
            running.kill()
            running.restart()
        with running.client(tenant.token) as http:
            path = "/v1/usage/alerts/sent"
            eventually(lambda: len(http.get(path).json()["items"]) >= len(percents))
            eventually(lambda: {each["webhook_state"] for each in http.get(path).json()["items"]} == {"delivered"})
            told = http.get(path).json()["items"]
        assert sorted(each["percent"] for each in told) == percents  # each once
        ids = {each["id"] for each in told}
        assert {event["id"] for event in receiver.events()} == ids
        assert {event["percent"] for event in receiver.events()} == set(percents)
        # What came again after a crash came with its id and, byte for byte, its body.
        assert len({(event["id"], json.dumps(event)) for event in receiver.events()}) == len(ids)
    finally:
        running.kill()


def test_alerts_on_the_page(owner: Person, valkey: Valkey, receiver: Receiver) -> None:
    tenant = as_tenant(owner)
    browser = Browser(owner.control_plane.url)
    browser.sign_in(owner.email)
    browser.open("/usage")
    page = browser.submit(
        "/usage/alerts",
        quota_percents="75",
        spend_percents="",
        error_percent="5",
        emails="on",
        webhook_url=receiver.url,
    )
    assert page.status_code == 200
    assert "tcw_" in page.text  # shown once, here
    held = tenant.http.get("/v1/usage/alerts").json()
    assert (held["quota_percents"], held["spend_percents"], held["error_percent"]) == ([75], [], 5)
    assert held["webhook_url"] == receiver.url
    page = browser.open("/usage")
    assert "tcw_" not in page.text
    browser.submit("/usage/alerts/test")
    eventually(receiver.events)
    for field, wrong in (
        ("quota_percents", "many"),
        ("quota_percents", "0"),
        ("error_percent", "101"),
        ("webhook_url", "ftp://example.com/"),
    ):
        browser.open("/usage")
        page = browser.submit("/usage/alerts", **{"quota_percents": "80", field: wrong})
        assert page.status_code == 422, field
        assert 'aria-invalid="true"' in page.text
    viewer = join(owner, f"viewer-of-{tenant.name}@example.com", "viewer")
    eyes = Browser(owner.control_plane.url)
    eyes.sign_in(viewer.email)
    seen = eyes.open("/usage").text
    assert "/usage/alerts" not in seen
    assert receiver.url not in seen  # its path may be a secret


# -- Where webhooks may go -------------------------------------------------------------------------------------------

FORBIDDEN = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fec0::1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
    "::127.0.0.1", "2001:db8::1", "2001:0:7f00:1::1",
)  # fmt: skip
PUBLIC = ("1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")
BAD_URLS = (
    "http://example.com/", "ftp://example.com/", "https://", "https:///x", "example.com", "https://user@example.com/",
    "https://user:pw@example.com/", "https://example.com:22/", "https://example.com:0/", "https://example.com:99999/",
    "https://localhost/", "https://intranet/", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
    "https://169.254.169.254/latest/meta-data", "https://example.com/a b", "https://exämple.com/",
    "https://example.com/#x", "https://example.com\\@127.0.0.1/", "https://example.com/\n",
    "https://" + "a" * 2000 + ".com/",
)  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_only_this_machine_reaches_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_control_others_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(ForbiddenDestinationError):
        check_url(url, private_allowed=False)
    assert check_url("https://example.com/hook?x=1", private_allowed=False).target == "/hook?x=1"  # the control


def test_every_address_of_a_name_must_be_public() -> None:
    destination = check_url("https://example.com/", private_allowed=False)

    async def look(*found: str) -> str:
        async def resolver(host: str, port: int) -> list[str]:
            assert (host, port) == ("example.com", 443)
            return list(found)

        return await resolve(destination, private_allowed=False, resolver=resolver)

    assert asyncio.run(look("1.1.1.1", "8.8.8.8")) == "1.1.1.1"
    for found in (("127.0.0.1",), ("1.1.1.1", "10.0.0.1"), ("1.1.1.1", "::1")):
        with pytest.raises(ForbiddenDestinationError, match="not a public address"):
            asyncio.run(look(*found))


def test_the_connection_goes_to_the_address_that_was_checked(receiver: Receiver) -> None:
    """A name that answers something else the second time (DNS rebinding): it is asked once, and nobody asks again."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["192.0.2.1"]

    url = f"http://does-not-exist.invalid:{receiver.port}/hook"
    status = asyncio.run(deliver(url, "alr_1", "{}", b"secret", private_allowed=True, resolver=rebinding))
    assert status == 200
    assert asked == ["does-not-exist.invalid"]
    headers, _ = receiver.requests[0]
    assert headers["host"] == f"does-not-exist.invalid:{receiver.port}"
    # The same without the operator's leave, and with a scheme that is allowed.
    secure = url.replace("http://", "https://")
    with pytest.raises(ForbiddenDestinationError):
        asyncio.run(deliver(secure, "alr_1", "{}", b"secret", private_allowed=False, resolver=_loopback))
    assert len(receiver.requests) == 1


async def _loopback(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


def test_without_the_operators_leave_no_private_address_is_taken(own_control_plane: ControlPlane) -> None:
    tenant = own_control_plane.new_tenant("acme")
    for url in ("http://127.0.0.1:9000/", "https://127.0.0.1/", "https://[::1]:8443/", "https://169.254.169.254/"):
        answer = tenant.http.put("/v1/usage/alerts", json={"webhook_url": url})
        assert answer.status_code == 422, url
        assert answer.json()["errors"][0]["field"] == "webhook_url"
    set_alerts(tenant, webhook_url="https://hooks.example.com/x")  # the control


def test_thresholds_are_reached_at_their_very_number() -> None:
    at = now()
    counted = Counter(
        (used, found.percent)
        for used in (79, 80, 99, 100, 101)
        for found in reached_of("invocations", at, (80, 100), 100, used)
    )
    assert set(counted) == {(80, 80), (99, 80), (100, 80), (100, 100), (101, 80), (101, 100)}
    assert list(reached_of("spend", at, (80,), 0, 5)) == []
    assert Reached("spend", at, 80, 100, 80).key == ("spend", at, 80, 100)
    assert Thresholds(quota_percents=(100, 50, 50)).quota_percents == (50, 100)
    assert Destination("https", "::1", 443, "/").authority == "[::1]"
