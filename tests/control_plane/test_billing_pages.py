"""Billing as a browser without scripts uses it: what is shown, bought, changed, planned, cancelled, capped, refused."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.dashboard import tier_words
from control_plane.dashboard.money import minor_of, money, price, typed
from tests.control_plane.bundles import bundle
from tests.control_plane.dashboard_browser import Browser, Forms, check_policy
from tests.control_plane.running import Person, Tenant, Valkey, eventually, join, sign_up
from tests.control_plane.stripe import Shop
from tests.control_plane.usage_feed import Call, Feed

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def feed_valkey() -> Iterator[Valkey]:
    server = Valkey()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, feed_valkey: Valkey) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"), feed_valkey.url)
    yield made
    made.stop()


@pytest.fixture
def buyer(shop: Shop) -> Iterator[Person]:
    number = next(_numbers)
    made = sign_up(shop.control_plane, f"buyer-{number}@example.com", f"buys-{number}")
    yield made
    made.http.close()


@pytest.fixture
def browser(shop: Shop, buyer: Person) -> Iterator[Browser]:
    made = Browser(shop.control_plane.url)
    made.sign_in(buyer.email)
    yield made
    made.http.close()


def onward(page: str) -> str:
    """The link to the payment provider: the one that htmx leaves alone."""
    found = re.search(r'href="(http[^"]+)" hx-boost="false" rel="noreferrer" autofocus', page)
    assert found, page
    return found[1]


def buy(shop: Shop, browser: Browser, tier: str, **fields: str) -> None:
    browser.open(f"/billing/change?tier={tier}")
    page = browser.submit("/billing/change", **fields)
    url = onward(page.text)
    assert shop.stripe.press(url, "pay").status_code == 303
    eventually(lambda: "active" in browser.open("/billing").text)


def test_the_whole_purchase_by_browser(shop: Shop, browser: Browser) -> None:
    page = browser.open("/billing")
    assert "Simulated." in page.text
    assert "nothing is ever billed" in page.text
    assert "Upgrade to Pro" in browser.open("/billing/tiers").text
    page = browser.open("/billing/change?tier=pro&add-on.concurrency=2")
    assert "Due at the checkout" in page.text
    assert "$49.00" in page.text
    page = browser.submit("/billing/change")
    check_policy(page)
    url = onward(page.text)
    assert url.startswith(shop.stripe.url)
    back = shop.stripe.press(url, "pay").headers["Location"]
    waiting = browser.http.get(back)
    assert "Pro is yours" in waiting.text or waiting.headers["Refresh"].startswith("1; url=/billing?bought=cs_")
    assert eventually(lambda: "Pro is yours" in browser.http.get(back).text)
    page = browser.open("/billing")
    for text in ("active", "$49.00", "64 more at once", "as it stands"):
        assert text in page.text, text
    eventually(lambda: "paid" in browser.open("/billing/invoices").text)
    # Somebody else's session, or none, is nothing to wait for.
    assert browser.open("/billing?bought=cs_nothing").url.path == "/billing"
    assert "Thank you" not in browser.page.text
    assert onward(browser.open("/billing").text and browser.submit("/billing/payment-method").text)


def test_an_upgrade_is_charged_as_it_was_shown(shop: Shop, buyer: Person, browser: Browser) -> None:
    buy(shop, browser, "pro")
    page = browser.open("/billing/change?tier=scale&add-on.cpu-reservation=1")
    shown = re.search(r"Pay \$([\d,.]+) and change", page.text)
    assert shown, page.text
    assert "Unused time on 1 × Tailcut Pro" in page.text
    assert "Scale as you wanted it" in browser.submit("/billing/change").text
    [customer] = shop.sql(
        "SELECT stripe_customer_id FROM subscriptions JOIN tenants ON tenants.id = tenant_id WHERE tenants.name = ?",
        buyer.http.headers["Tailcut-Tenant"],
    )
    [invoice, _] = shop.stripe.get("/v1/invoices", customer=customer[0])["data"]
    assert invoice["total"] == round(float(shown[1].replace(",", "")) * 100)
    # A price that was shown long ago, and one that was never shown.
    for at in ("1700000000", "soon", ""):
        browser.open("/billing/change?tier=scale&add-on.cpu-reservation=2")
        old = browser.submit("/billing/change", prorated_at=at)
        assert old.status_code == 409, at
        assert "look at it again" in old.text
    assert "That is what you have" in browser.open("/billing/change?tier=scale").text


def test_a_downgrade_waits_for_the_month_to_end(shop: Shop, browser: Browser) -> None:
    buy(shop, browser, "scale")
    page = browser.open("/billing/change?tier=pro")
    assert "begins when your paid month ends" in page.text
    assert "Planned: Pro" in browser.submit("/billing/change").text
    page = browser.open("/billing")
    assert "Keep Scale instead" in page.text
    assert "$29.00</strong> as it stands" in page.text
    assert "The tier stays as it is" in browser.submit("/billing/keep").text
    assert "Keep Scale instead" not in browser.open("/billing").text
    assert "$249.00</strong> as it stands" in browser.page.text


def test_cancelling_asks_and_can_be_taken_back(shop: Shop, browser: Browser) -> None:
    assert browser.open("/billing/cancel").url.path == "/billing", "there is nothing to cancel"
    buy(shop, browser, "pro")
    assert "Cancel Pro?" in browser.open("/billing/cancel").text
    page = browser.submit("/billing/cancel")
    assert "then the free tier begins" in page.text
    assert "The subscription goes on" in browser.submit("/billing/resume").text


def test_a_declined_card_changes_nothing_and_leads_to_the_payment_method(
    shop: Shop, buyer: Person, browser: Browser
) -> None:
    buy(shop, browser, "pro")
    [(customer,)] = shop.sql(
        "SELECT stripe_customer_id FROM subscriptions JOIN tenants ON tenants.id = tenant_id WHERE tenants.name = ?",
        buyer.http.headers["Tailcut-Tenant"],
    )
    shop.stripe.post("/simulator/card", customer=customer, pays="false")
    browser.open("/billing/change?tier=scale")
    page = browser.submit("/billing/change")
    assert page.status_code == 402
    assert "Change the payment method" in page.text
    assert buyer.http.get("/v1/subscription").json()["tier"] == "pro"


def test_an_unpaid_invoice_a_refund_a_dispute_and_a_suspension_are_said(
    shop: Shop, buyer: Person, browser: Browser
) -> None:
    buy(shop, browser, "pro")
    [customer] = shop.sql(
        "SELECT stripe_customer_id FROM subscriptions JOIN tenants ON tenants.id = tenant_id WHERE name = ?",
        buyer.http.headers["Tailcut-Tenant"],
    )[0]
    [charge] = shop.stripe.get("/v1/charges", customer=customer)["data"]
    shop.stripe.post("/v1/refunds", charge=charge["id"], amount=500, reason="requested_by_customer")
    shop.stripe.post("/simulator/dispute", charge=charge["id"], reason="fraudulent")
    eventually(
        lambda: (
            {"refunded", "disputed at your bank"}
            <= set(re.findall("refunded|disputed at your bank", browser.open("/billing").text))
        )
    )
    shop.stripe.post("/simulator/card", customer=customer, pays="false")
    shop.stripe.advance(32)
    eventually(lambda: "An invoice is not paid" in browser.open("/billing").text)
    [owed] = shop.stripe.get("/v1/invoices", customer=customer, status="open")["data"]
    page = browser.page.text
    assert f"Pay {owed['number']}" in page
    assert owed["hosted_invoice_url"] in page
    assert "Pro stays until" in browser.open("/").text
    tenant = buyer.http.get("/v1/tenant").json()["id"]
    shop.sql("UPDATE subscriptions SET past_due_since = '2026-01-01 00:00:00' WHERE tenant_id = ?", tenant)
    eventually(lambda: "An invoice stayed unpaid" in browser.open("/billing").text)
    assert "limits of Free" in browser.open("/").text
    assert 'href="/billing/change' not in browser.open("/billing").text
    with shop.control_plane.client(shop.control_plane.operator_token) as operator:
        operator.patch(
            f"/v1/tenants/{tenant}", json={"status": "suspended", "reason": "Mails of complaint; <b>call us</b>"}
        )
    assert "Mails of complaint; &lt;b&gt;call us" in browser.open("/").text
    assert f"Pay {owed['number']}" in browser.open("/billing").text, "who is suspended can pay"
    shop.stripe.advance(-32)


def test_tiers_are_compared_on_the_tenants_own_calls(
    shop: Shop, buyer: Person, browser: Browser, feed_valkey: Valkey
) -> None:
    assert browser.open("/billing/tiers").text.count("No calls in the last 30 days") == 3
    key = buyer.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    tenant = Tenant(shop.control_plane, {"id": "", "name": buyer.http.headers["Tailcut-Tenant"], "key": key})
    version = tenant.deploy("hello", bundle(1))["version"]
    call = Call(version)
    Feed(feed_valkey).send([*call.many(97), *call.many(3, cpu_us=2_000_000, wall_us=2_100_000)])
    page = eventually(lambda: found if "3 %" in (found := browser.open("/billing/tiers").text) else "")
    free, pro, scale = re.findall(r'<li class="card tier.*?</li>\s*(?=<li class="card tier|</ul>)', page, re.S)[:3]
    assert "3 % of your calls" in free
    assert "most by the CPU limit" in free
    assert "1 s allowed" in free
    for other in (pro, scale):
        assert "All of your 100 calls" in other
    assert "fits your calls" in pro
    assert "fits your calls" not in scale


def test_booked_usage_is_money_in_the_preview_and_on_the_page(
    shop: Shop, buyer: Person, browser: Browser, feed_valkey: Valkey
) -> None:
    """A month's work in five records: they are booked, their hour is closed, Stripe hears of it and draws up."""
    shop.stripe.post("/simulator/advance", seconds=-3 * 3600)  # usage of an hour that is over, and paid for already
    buy(shop, browser, "pro")
    shop.stripe.post("/simulator/advance", seconds=3 * 3600)
    preview = buyer.http.get("/v1/invoices/upcoming").json()
    assert preview["total_minor"] == 2_900
    assert [line["amount_minor"] for line in preview["lines"] if "CPU" in line["description"]] == [0]
    key = buyer.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    tenant = Tenant(shop.control_plane, {"id": "", "name": buyer.http.headers["Tailcut-Tenant"], "key": key})
    version = tenant.deploy("hello", bundle(1))["version"]
    an_hour_ago = datetime.now(UTC).replace(minute=30, second=0, microsecond=0) - timedelta(hours=1)
    Feed(feed_valkey).send(Call(version, arrived_at=an_hour_ago, cpu_us=60_000 * 1_000_000).many(5))
    eventually(lambda: buyer.http.get("/v1/invoices/upcoming").json()["total_minor"] > 2_900)
    preview = eventually(
        lambda: (
            shop.sql("SELECT count(*) FROM meter_events WHERE state IN ('new', 'sending')") == [(0,)]
            and buyer.http.get("/v1/invoices/upcoming").json()
        )
    )
    assert preview["total_minor"] == preview["due_minor"] == 2_900 + 400, "100,000 CPU-seconds over, 4 a thousand"
    lines = {line["description"]: (line["quantity"], line["amount_minor"]) for line in preview["lines"]}
    [cpu] = [value for text, value in lines.items() if "CPU" in text]
    assert cpu == (300_000_000, 400)
    assert sum(amount for _, amount in lines.values()) == 3_300
    page = browser.open("/billing").text
    assert "$33.00</strong> as it stands" in page
    assert re.search(r'<dt class="metered">[^<]*CPU[^<]*</dt><dd>\$4\.00</dd>', page), page
    assert '<dd class="total">$33.00</dd>' in page


def test_spend_caps_by_browser(shop: Shop, buyer: Person, browser: Browser) -> None:
    for amount in ("", "a lot", "-1", "1.005", "1e400"):
        browser.open("/billing/spend-caps")
        assert browser.submit("/billing/spend-caps", amount=amount, action="stop", function="").status_code == 422
    browser.open("/billing/spend-caps")
    assert browser.submit("/billing/spend-caps", amount="9", action="stop", function="no-such").status_code == 422
    browser.open("/billing/spend-caps")
    assert "$49.90" in browser.submit("/billing/spend-caps", amount="49.90", action="alert", function="").text
    [cap] = buyer.http.get("/v1/spend-caps").json()["items"]
    assert (cap["amount_minor"], cap["action"], cap["function"]) == (4_990, "alert", None)
    assert "The cap is removed" in browser.submit("/billing/spend-caps/remove").text
    assert buyer.http.get("/v1/spend-caps").json()["items"] == []


def test_only_who_may_pay_sees_and_buys(shop: Shop, buyer: Person) -> None:
    number = next(_numbers)
    payer = join(buyer, f"payer-{number}@example.com", "billing")
    other = join(buyer, f"dev-{number}@example.com", "developer")
    pays, looks = Browser(shop.control_plane.url), Browser(shop.control_plane.url)
    pays.sign_in(payer.email)
    looks.sign_in(other.email)
    assert "Go to the checkout" in pays.open("/billing/change?tier=pro").text
    assert 'href="/billing"' not in looks.open("/").text
    token = Forms(looks.open("/security").text).forms[0]["hidden"]
    for path in ("", "/tiers", "/change?tier=pro", "/cancel", "/invoices", "/spend-caps"):
        assert looks.open(f"/billing{path}").status_code == 403, path
    for path in (
        "/change",
        "/cancel",
        "/resume",
        "/payment-method",
        "/keep",
        "/spend-caps",
        "/spend-caps/remove",
    ):
        answer = looks.http.post(f"/billing{path}", data=token, headers={"Origin": shop.control_plane.url})  # type: ignore[arg-type]
        assert answer.status_code == 403, path


def test_with_stripe_away_the_page_says_so_and_shows_the_rest(tmp_path_factory: pytest.TempPathFactory) -> None:
    shop = Shop(tmp_path_factory.mktemp("away"))
    try:
        person = sign_up(shop.control_plane, "away@example.com", "away")
        browser = Browser(shop.control_plane.url)
        browser.sign_in(person.email)
        buy(shop, browser, "pro")
        shop.stripe.kill()
        page = browser.open("/billing")
        assert page.status_code == 200
        assert "cannot be shown now" in page.text
        assert "Pro" in page.text
    finally:
        shop.stop()


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [("29", "usd", 2900), ("49.9", "eur", 4990), (" 0 ", "usd", 0), ("500", "jpy", 500), ("0.5", "jpy", None),
     ("1.005", "usd", None), ("nan", "usd", None), ("-1", "usd", None), ("", "usd", None), ("1e30", "usd", None)],
)  # fmt: skip
def test_typed_amounts(text: str, currency: str, minor: int | None) -> None:
    assert minor_of(text, currency) == minor
    if minor is not None:
        assert minor_of(typed(minor, currency), currency) == minor


def test_how_money_and_limits_are_written() -> None:
    assert [money(-310, "usd"), money(290_000, "eur"), money(1000, "jpy"), money(1000, "chf")] == [
        "−$3.10", "€2,900.00", "1,000 JPY", "10.00 CHF",
    ]  # fmt: skip
    assert (price(2900, "usd"), price(2950, "usd")) == ("$29", "$29.50")
    assert [tier_words.share(value) for value in (0, 0.00001, 0.03, 0.0312, 0.5, 0.9999, 1)] == [
        "0 %", "under 0.01 %", "3 %", "3.1 %", "50 %", "over 99.9 %", "100 %",
    ]  # fmt: skip
    assert tier_words.of_included("mib-s", 44 * 1024, 10_000 * 1024) == "44 of 10,000 GiB-seconds"
    assert tier_words.of_included("mib-s", 0, 10_000 * 1024) == "0 of 10,000 GiB-seconds"
    assert tier_words.of_included("cpu-ms", 0, 3_600_000) == "0 of 1 h"
    assert tier_words.hours(1_000_000_000) == "277,777 h"
    assert [tier_words.amount(*each) for each in (("cpu_ms", 1769), ("memory_bytes", 2**28), ("rate_per_s", 20))] == [
        "1.77 s", "256 MiB", "20 a second",
    ]  # fmt: skip
