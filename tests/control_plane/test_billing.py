"""Buying through the unpatched ``stripe`` package from the simulated Stripe: the whole story, and its failures."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from control_plane.usage.hourly import Usage
from gateway.contract.usage import LAG_KEY, NodeLag
from tests.control_plane.running import PATIENCE_S, Tenant, Valkey, eventually
from tests.control_plane.stripe import Shop
from tests.control_plane.test_metering import use

_numbers = count(1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"))
    yield made
    made.stop()


@pytest.fixture
def buyer(shop: Shop) -> Iterator[Tenant]:
    tenant = shop.control_plane.new_tenant(f"buyer-{next(_numbers)}")
    yield tenant
    tenant.http.close()


def test_a_tier_is_bought_and_holds_on_stripes_word(shop: Shop, buyer: Tenant) -> None:
    offer = shop.buy(buyer, "pro", concurrency=2)
    assert offer["kind"] == "checkout"
    assert offer["simulated"] is True
    assert buyer.http.get("/v1/subscription").json()["tier"] == "free", "the browser's word changes nothing"
    page = shop.stripe.http.get(offer["url"])
    assert "SIMULATED" in page.text
    assert "49.00 USD" in page.text
    declined = shop.stripe.press(offer["url"], "decline")
    assert declined.status_code == 402
    assert buyer.http.get("/v1/subscription").json()["tier"] == "free"
    paid = shop.stripe.press(offer["url"], "pay")
    assert paid.headers["Location"].startswith(f"{shop.control_plane.url}/billing?bought=cs_")
    assert shop.stripe.press(offer["url"], "pay").status_code == 303, "pressed twice, bought once"
    held = shop.wait(buyer, lambda held: held["tier"] == "pro")
    assert held["admission"]["concurrency_max"] == 64 + 2 * 64
    assert held["add_ons"] == [{"name": "concurrency", "version": 1, "quantity": 2}]
    assert held["status"] == "active"
    assert held["simulated"] is True
    [invoice] = eventually(lambda: buyer.http.get("/v1/invoices").json()["items"])
    hosted = shop.stripe.http.get(invoice["url"])
    assert "SIMULATED" in hosted.text
    pdf = shop.stripe.http.get(invoice["pdf_url"])
    assert (pdf.status_code, pdf.headers["Content-Type"]) == (200, "application/pdf")
    assert f"({invoice['number']})".encode() in pdf.content
    assert (invoice["status"], invoice["total_minor"], invoice["currency"]) == ("paid", 2_900 + 2 * 1_000, "usd")
    customer = shop.customer(buyer)
    assert len(shop.stripe.get("/v1/subscriptions", customer=customer)["data"]) == 1


def test_a_change_is_previewed_prorated_and_in_force_at_once(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    preview = buyer.http.post("/v1/subscription/preview", json={"tier": "scale"}).json()
    credit = [line["amount_minor"] for line in preview["lines"] if line["amount_minor"] < 0]
    assert len(credit) == 1
    assert -2_900 <= credit[0] < -2_800, "nearly the whole month is given back"
    assert preview["total_minor"] == sum(line["amount_minor"] for line in preview["lines"])
    assert buyer.http.get("/v1/subscription").json()["tier"] == "pro", "a preview changes nothing"
    offer = shop.buy(buyer, "scale", cpu_reservation=1)
    assert offer["kind"] == "changed"
    held = buyer.http.get("/v1/subscription").json()
    assert (held["tier"], held["reservation"]["workers_max"]) == ("scale", 2)
    again = buyer.http.post("/v1/subscription/checkout", json={"tier": "scale", "add_ons": {"cpu-reservation": 1}})
    assert again.status_code == 409
    shop.buy(buyer, "scale")
    held = buyer.http.get("/v1/subscription").json()
    assert (held["add_ons"], held["reservation"]["workers_max"]) == ([], 1)


def test_a_declined_change_changes_nothing(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    shop.stripe.post("/simulator/card", customer=shop.customer(buyer), pays="false")
    refused = buyer.http.post("/v1/subscription/checkout", json={"tier": "scale"})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (402, "payment-failed")
    assert buyer.http.get("/v1/subscription").json()["tier"] == "pro"
    [subscription] = shop.stripe.get("/v1/subscriptions", customer=shop.customer(buyer))["data"]
    assert len(shop.stripe.get("/v1/invoices", customer=shop.customer(buyer))["data"]) == 1
    assert subscription["status"] == "active"


def test_a_new_offer_ends_the_one_before(shop: Shop, buyer: Tenant) -> None:
    first, second = shop.buy(buyer, "pro"), shop.buy(buyer, "scale")
    assert shop.stripe.http.get(first["url"]).status_code == 410
    assert shop.stripe.press(second["url"], "pay").status_code == 303
    assert shop.wait(buyer, lambda held: held["tier"] == "scale")


def test_cancelled_at_the_end_of_the_month_and_taken_back(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    cancelled = buyer.http.post("/v1/subscription/cancel").json()
    assert (cancelled["tier"], cancelled["cancel_at_period_end"]) == ("pro", True)
    resumed = buyer.http.post("/v1/subscription/resume").json()
    assert resumed["cancel_at_period_end"] is False
    portal = buyer.http.post("/v1/subscription/portal").json()
    [subscription] = shop.stripe.get("/v1/subscriptions", customer=shop.customer(buyer))["data"]
    shop.stripe.press(portal["url"], "cancel", subscription["id"])
    assert shop.wait(buyer, lambda held: held["cancel_at_period_end"])["tier"] == "pro"
    shop.stripe.advance(32)
    held = shop.wait(buyer, lambda held: held["tier"] == "free")
    assert held["status"] == "canceled"
    # And it can be bought anew.
    assert shop.purchase(buyer, "pro")["status"] == "active"


def test_an_unpaid_invoice_grace_the_fallback_and_back(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    customer = shop.customer(buyer)
    shop.stripe.post("/simulator/card", customer=customer, pays="false")
    shop.stripe.advance(32)
    held = shop.wait(buyer, lambda held: held["status"] == "past_due")
    assert held["tier"] == "pro", "the tier stays for the time of grace"
    assert held["grace_until"] is not None
    shop.sql("UPDATE subscriptions SET past_due_since = '2026-01-01 00:00:00' WHERE tenant_id = ?", buyer.id)
    held = shop.wait(buyer, lambda held: held["status"] == "unpaid")
    assert held["tier"] == "free"
    # Nor by Stripe's own word that it has given up.
    [subscription] = shop.stripe.get("/v1/subscriptions", customer=customer)["data"]
    shop.stripe.post("/simulator/give-up", subscription=subscription["id"])
    shop.stripe.post("/simulator/card", customer=customer, pays="true")
    [unpaid] = shop.stripe.get("/v1/invoices", customer=customer, status="open")["data"]
    shop.stripe.post(f"/v1/invoices/{unpaid['id']}/pay")
    assert shop.wait(buyer, lambda held: held["status"] == "active")["tier"] == "pro"


def test_who_owes_pays_that_before_buying_anything(shop: Shop, buyer: Tenant) -> None:
    """By a change that is paid, or by cancelling and buying anew, the debts of last month would be left behind."""
    shop.purchase(buyer, "pro")
    customer = shop.customer(buyer)
    shop.stripe.post("/simulator/card", customer=customer, pays="false")
    shop.stripe.advance(32)
    shop.wait(buyer, lambda held: held["status"] == "past_due")
    shop.stripe.post("/simulator/card", customer=customer, pays="true")
    [owed] = shop.stripe.get("/v1/invoices", customer=customer, status="open")["data"]

    def refused(**change: Any) -> bool:
        answer = buyer.http.post("/v1/subscription/checkout", json={"tier": "pro", **change})
        return answer.status_code == 409 and owed["hosted_invoice_url"] in answer.json()["detail"]

    assert refused(add_ons={"concurrency": 1})
    assert refused(tier="scale")
    assert refused(tier="scale", when="period-end")
    [subscription] = shop.stripe.get("/v1/subscriptions", customer=customer)["data"]
    assert shop.stripe.http.delete(f"/v1/subscriptions/{subscription['id']}").status_code == 200
    shop.wait(buyer, lambda held: held["status"] == "canceled")
    assert refused()
    # Control: what is paid stands in nobody's way.
    shop.stripe.post(f"/v1/invoices/{owed['id']}/pay")
    assert shop.purchase(buyer, "pro")["status"] == "active"


def test_refunds_and_disputes_are_noted(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    [charge] = shop.stripe.get("/v1/charges", customer=shop.customer(buyer))["data"]
    refund = shop.stripe.post("/v1/refunds", charge=charge["id"], amount=500, reason="requested_by_customer")
    dispute = shop.stripe.post("/simulator/dispute", charge=charge["id"], reason="fraudulent")

    def noted() -> bool:
        rows = shop.sql("SELECT stripe_id, kind, amount_minor, status FROM billing_notes WHERE tenant_id = ?", buyer.id)
        return sorted(rows) == sorted(
            [(refund["id"], "refund", 500, "succeeded"), (dispute["id"], "dispute", 2_900, "needs_response")]
        )

    assert eventually(noted)
    shop.stripe.post("/simulator/dispute/close", dispute=dispute["id"], status="won")
    assert eventually(lambda: shop.sql("SELECT status FROM billing_notes WHERE kind = 'dispute'") == [("won",)])
    assert buyer.http.get("/v1/subscription").json()["tier"] == "pro", "a person decides what follows"


def test_what_cannot_be_bought_is_said(shop: Shop, buyer: Tenant) -> None:
    for body, status in (
        ({"tier": "free"}, 409),
        ({"tier": "custom"}, 409),
        ({"tier": "platinum"}, 404),
        ({"tier": "pro", "add_ons": {"cpu-reservation": 1}}, 409),
        ({"tier": "pro", "add_ons": {"concurrency": 99}}, 422),
    ):
        assert buyer.http.post("/v1/subscription/checkout", json=body).status_code == status, body
    assert buyer.http.post("/v1/subscription/cancel").status_code == 409
    assert buyer.http.get("/v1/invoices/upcoming").status_code == 404


def test_spend_caps_reach_the_data_plane(shop: Shop, buyer: Tenant) -> None:
    cap = {"amount_minor": 5_000, "action": "stop"}
    assert buyer.http.put("/v1/spend-caps/tenant", json=cap).json()["amount_minor"] == 5_000
    assert buyer.http.put("/v1/spend-caps/functions/nothing", json=cap).status_code == 404
    assert [each["function"] for each in buyer.http.get("/v1/spend-caps").json()["items"]] == [None]
    assert buyer.http.delete("/v1/spend-caps/tenant").status_code == 204
    assert buyer.http.delete("/v1/spend-caps/tenant").status_code == 404


def test_a_repeated_sync_makes_nothing_and_reconciliation_finds_nothing(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    again = shop.control_plane.run("stripe-sync")
    assert (again.returncode, again.stdout) == (0, "0 objects of Stripe were new here\n")
    prices = len(shop.stripe.get("/v1/prices", limit=100)["data"])
    shop.sql("DELETE FROM stripe_objects WHERE kind = 'meter' OR name LIKE 'tailcut_tier_pro_v1%'")
    anew = shop.control_plane.run("stripe-sync")
    assert anew.stdout == "7 objects of Stripe were new here\n"
    assert len(shop.stripe.get("/v1/prices", limit=100)["data"]) == prices, "they were found, not made"


def test_the_reconciliation_names_each_difference_and_repairs_what_it_may(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    eventually(lambda: buyer.http.get("/v1/invoices").json()["items"][0]["status"] == "paid")
    clean = shop.control_plane.run("stripe-reconcile")
    assert buyer.id not in clean.stdout, clean.stdout
    shop.sql("UPDATE invoices SET total_minor = 1 WHERE tenant_id = ?", buyer.id)
    free = shop.sql("SELECT id FROM tier_versions WHERE tier = 'free'")[0][0]
    shop.sql("UPDATE subscriptions SET tier_version_id = ? WHERE tenant_id = ?", free, buyer.id)
    found = shop.control_plane.run("stripe-reconcile", "--repair")
    assert found.returncode == 3
    assert [line for line in found.stdout.splitlines() if buyer.id in line and "tier version" in line]
    assert [line for line in found.stdout.splitlines() if buyer.id in line and "paid 1 usd" in line]
    assert buyer.http.get("/v1/subscription").json()["tier"] == "pro"
    assert buyer.id not in shop.control_plane.run("stripe-reconcile").stdout


def test_operators_compare_now_and_see_each_difference(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    eventually(lambda: buyer.http.get("/v1/invoices").json()["items"][0]["status"] == "paid")
    with shop.control_plane.client(shop.control_plane.operator_token) as operator:

        def compared() -> dict[str, Any]:
            asked = operator.post("/v1/admin/reconciliations")
            assert asked.status_code == 202, asked.text

            def ended() -> dict[str, Any]:
                items = operator.get("/v1/admin/reconciliations").json()["items"]
                return next(each for each in items if each["id"] == asked.json()["id"] and each["state"] == "done")

            return eventually(ended)

        assert buyer.id not in str(compared()["differences"])
        shop.sql("UPDATE invoices SET total_minor = 1 WHERE tenant_id = ?", buyer.id)
        found = compared()
        [difference] = [each for each in found["differences"] if each["tenant_id"] == buyer.id]
        assert difference["ours"] == "paid 1 usd"
        assert found["differences_count"] == len(found["differences"])
        checks = {each["id"]: each for each in operator.get("/v1/admin/overview").json()["checks"]}
        assert checks["reconciliation"]["tone"] == "bad"
        assert "--repair" in checks["reconciliation"]["command"]
        assert "reconciliation.asked" in operator.get("/v1/admin/audit").text
        # Webhooks: one that failed is red, and handled again when asked.
        shop.sql("UPDATE stripe_events SET state = 'failed', error = 'Boom' WHERE rowid = 1")
        checks = {each["id"]: each for each in operator.get("/v1/admin/overview").json()["checks"]}
        assert checks["webhooks"]["tone"] == "bad"
        [failed] = operator.get("/v1/admin/webhooks", params={"state": "failed"}).json()["items"]
        assert failed["error"] == "Boom"
        assert operator.post("/v1/admin/webhooks/replay", json={"events": ["evt_nothing"]}).status_code == 404
        assert operator.post("/v1/admin/webhooks/replay", json={}).json() == {"count": 1}
        eventually(lambda: not operator.get("/v1/admin/webhooks", params={"state": "failed"}).json()["items"])
        shop.sql("UPDATE invoices SET total_minor = 0 WHERE tenant_id = ?", buyer.id)
        shop.control_plane.run("stripe-reconcile", "--repair")


def test_a_tenant_that_is_deleted_pays_its_last_invoice_first(tmp_path: Path, own_valkey: Valkey) -> None:
    """Not before the last of its usage is in, whoever else waits; and an offer that is open can no longer be paid."""
    shop = Shop(tmp_path, own_valkey.url, TAILCUT_DELETION_DRAIN_TIME="PT0.1S")
    try:
        buyer = shop.control_plane.new_tenant("leaver")
        shop.purchase(buyer, "pro")
        customer = shop.customer(buyer)
        other = shop.control_plane.new_tenant("hesitant")
        offer = shop.buy(other, "pro")
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        # More open hours than are looked at at once, of tenants before it in the order; nothing closes them by itself.
        shop.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600) INSERT INTO usage_hours "
            "SELECT 'a' || i, ?, 0, 1 FROM n",
            f"{hour:%Y-%m-%d %H:%M:%S}.000000",
        )
        report_lag(own_valkey, oldest_unix_s=time.time() - 1)
        with shop.control_plane.client(shop.control_plane.operator_token) as operator:
            for tenant in (buyer, other):
                assert operator.delete(f"/v1/tenants/{tenant.id}").is_success
        assert eventually(lambda: shop.stripe.http.get(offer["url"]).status_code == 410)
        time.sleep(1)  # several rounds
        [subscription] = shop.stripe.get("/v1/subscriptions", customer=customer)["data"]
        assert subscription["status"] == "active", "its last calls are not booked yet"
        use(shop, Usage(buyer.id, "hello", "ver_1", hour, 2 * 5_000_000, 0, 0, 0))  # twice what is included
        report_lag(own_valkey, oldest_unix_s=None)

        def gone() -> bool:
            return set(shop.sql("SELECT status FROM tenants")) == {("deleted",)}

        assert eventually(gone)
        [subscription] = shop.stripe.get("/v1/subscriptions", customer=customer, status="all")["data"]
        assert subscription["status"] == "canceled"
        last, first = shop.stripe.get("/v1/invoices", customer=customer)["data"]
        assert [last["billing_reason"], first["billing_reason"]] == ["subscription_cycle", "subscription_create"]
        used = [line["amount"] for line in last["lines"]["data"] if "nvocation" in line["description"]]
        assert sum(used) > 0, last["lines"]["data"]
    finally:
        shop.stop()


def report_lag(valkey: Valkey, *, oldest_unix_s: float | None) -> None:
    """As a gateway says it: booked up to its end, now and for the next while, or not."""
    said = NodeLag(
        at_unix_s=time.time() + (PATIENCE_S if oldest_unix_s is None else 0),
        unbooked_bytes=0 if oldest_unix_s is None else 128,
        oldest_unix_s=oldest_unix_s,
        journal_bytes=0,
        full=False,
    )
    valkey.client.hset(LAG_KEY, "00000001", said.model_dump_json())


def test_two_tabs_that_buy_at_once_buy_once(either_shop: Shop) -> None:
    """Different tiers in each: at any moment one offer can be paid, at most."""
    shop = either_shop
    buyer = shop.control_plane.new_tenant(f"two-tabs-{next(_numbers)}")
    wanted = [("pro", 0), ("scale", 0), ("pro", 1), ("scale", 2), ("pro", 3), ("scale", 3)]

    def tab(tier: str, pieces: int) -> Any:
        body = {"tier": tier, "add_ons": {"concurrency": pieces} if pieces else {}}
        return buyer.http.post("/v1/subscription/checkout", json=body)

    with ThreadPoolExecutor(len(wanted)) as pool:
        answers = list(pool.map(lambda each: tab(*each), wanted))
    urls = [answer.json()["url"] for answer in answers if answer.status_code == 200]
    assert urls
    pressed = [shop.stripe.press(url, "pay").status_code for url in urls]
    assert pressed.count(303) == 1, pressed
    shop.wait(buyer, lambda held: held["tier"] != "free")
    assert len(shop.stripe.get("/v1/subscriptions", customer=shop.customer(buyer))["data"]) == 1
    # Changes of what is paid for, at once: what holds in the end is one of the wishes, not a mixture.
    with ThreadPoolExecutor(len(wanted)) as pool:
        answers = list(pool.map(lambda each: tab(*each), wanted))
    assert {answer.status_code for answer in answers} <= {200, 409}, [answer.text for answer in answers]
    held = buyer.http.get("/v1/subscription").json()
    assert (held["tier"], sum(each["quantity"] for each in held["add_ons"])) in wanted
    [subscription] = shop.stripe.get("/v1/subscriptions", customer=shop.customer(buyer))["data"]
    kinds = [item["price"]["recurring"]["usage_type"] for item in subscription["items"]["data"]]
    assert kinds.count("licensed") == 1 + len(held["add_ons"])


def test_who_buys_after_cancelling_goes_on(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "scale")
    for body, kind in (
        ({"tier": "scale", "add_ons": {"concurrency": 1}}, "changed"),
        ({"tier": "pro", "when": "period-end"}, "planned"),
    ):
        assert buyer.http.post("/v1/subscription/cancel").json()["cancel_at_period_end"] is True
        answer = buyer.http.post("/v1/subscription/checkout", json=body)
        assert answer.json()["kind"] == kind, answer.text
        assert buyer.http.get("/v1/subscription").json()["cancel_at_period_end"] is False
    shop.stripe.advance(32)
    assert shop.wait(buyer, lambda held: held["tier"] != "scale")["tier"] == "pro"


def test_a_change_at_the_end_of_the_month_waits_for_it_and_can_be_taken_back(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "scale")

    def downgrade() -> None:
        body = {"tier": "pro", "add_ons": {"concurrency": 1}, "when": "period-end"}
        offer = buyer.http.post("/v1/subscription/checkout", json=body).json()
        assert offer["kind"] == "planned"

    downgrade()
    assert buyer.http.get("/v1/subscription").json()["tier"] == "scale"
    assert buyer.http.get("/v1/invoices/upcoming").json()["total_minor"] == 2_900 + 1_000
    shop.buy(buyer, "scale", cpu_reservation=1)
    assert buyer.http.get("/v1/invoices/upcoming").json()["total_minor"] == 24_900 + 4_900, "the plan is taken back"
    downgrade()
    assert buyer.http.post("/v1/subscription/cancel").json()["cancel_at_period_end"] is True
    assert buyer.http.post("/v1/subscription/resume").json()["cancel_at_period_end"] is False
    downgrade()
    downgrade()
    shop.stripe.advance(32)
    held = shop.wait(buyer, lambda held: held["tier"] == "pro")
    assert held["add_ons"] == [{"name": "concurrency", "version": 1, "quantity": 1}]
    [invoice] = shop.stripe.get("/v1/invoices", customer=shop.customer(buyer), limit=1)["data"]
    assert invoice["total"] == 2_900 + 1_000
    [subscription] = shop.stripe.get("/v1/subscriptions", customer=shop.customer(buyer))["data"]
    assert subscription["schedule"] is None
    fresh = shop.control_plane.new_tenant("nothing-paid")
    refused = fresh.http.post("/v1/subscription/checkout", json={"tier": "pro", "when": "period-end"})
    assert refused.status_code == 409
