"""Usage becomes meter events: exactly once, in whole units, whatever dies; and the simulated Stripe is strict."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.database import Database
from control_plane.simulated_stripe.objects import TEMPLATES
from control_plane.usage import hourly
from control_plane.usage.hourly import Usage
from tests.control_plane.running import Tenant, eventually
from tests.control_plane.stripe import Shop

MEMBERS = json.loads(Path(__file__).with_name("stripe_members.json").read_text())
"""Object → the members of Stripe's own example of it."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def buyer(shop: Shop) -> Iterator[Tenant]:
    tenant = shop.control_plane.new_tenant("metered")
    shop.purchase(tenant, "pro")
    yield tenant
    tenant.http.close()


def hour_ago(hours: int) -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)


def use(shop: Shop, *usages: Usage) -> None:
    async def act(database: Database) -> None:
        async with database.writing() as session:
            await hourly.add(session, usages)

    with_database(shop, act)


def with_database(shop: Shop, act: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        database = Database(shop.database_url)
        try:
            await act(database)
        finally:
            await database.close()

    asyncio.run(run())


def used(tenant: Tenant, hour: datetime, cpu_us: int = 0, mib_us: int = 0, invocations: int = 1) -> Usage:
    return Usage(tenant.id, "hello", "ver_1", hour, invocations, 0, cpu_us, mib_us)


def stripes(shop: Shop, tenant: Tenant, meter: str) -> int:
    """What Stripe has counted in all."""
    meters = {each["event_name"]: each["id"] for each in shop.stripe.get("/v1/billing/meters")["data"]}
    customer = shop.customer(tenant)
    events = shop.stripe.get("/simulator/meter_events")["data"]
    return sum(each["value"] for each in events if each["meter"] == meters[meter] and each["customer"] == customer)


def settled(shop: Shop) -> bool:
    pending = shop.sql("SELECT count(*) FROM meter_events WHERE state IN ('new', 'sending')")
    dirty = shop.sql("SELECT count(*) FROM usage_hours WHERE dirty")
    return (pending, dirty) == ([(0,)], [(0,)])


def test_sums_are_exact_and_late_usage_is_a_new_revision(shop: Shop, buyer: Tenant) -> None:
    hour = hour_ago(3)
    before = stripes(shop, buyer, "tailcut_cpu_ms")
    for part in range(7):  # 7 × 2,500 µs: no part is a whole number of milliseconds
        use(shop, used(buyer, hour + timedelta(hours=part % 3), cpu_us=2_500, mib_us=1_300_000))
        eventually(lambda: settled(shop))
    assert stripes(shop, buyer, "tailcut_cpu_ms") - before == 17
    assert stripes(shop, buyer, "tailcut_mib_s") == 9
    assert stripes(shop, buyer, "tailcut_invocations") == 7
    raw = shop.sql("SELECT sum(raw) FROM meter_events WHERE meter = 'cpu-ms' AND tenant_id = ?", buyer.id)
    assert raw == shop.sql("SELECT sum(cpu_us) FROM usage_hourly WHERE tenant_id = ?", buyer.id) == [(17_500,)]
    revisions = shop.sql("SELECT max(revision) FROM usage_hourly WHERE tenant_id = ?", buyer.id)
    assert revisions == [(2,)], "what came after its hour was closed changed no closed row"
    assert "0 differences" in shop.control_plane.run("stripe-reconcile").stdout


def test_kill_minus_9_anywhere_counts_once(shop: Shop, buyer: Tenant) -> None:
    before = stripes(shop, buyer, "tailcut_invocations")
    for number in range(6):
        use(shop, used(buyer, hour_ago(30 + number), invocations=10**number))
        time.sleep(0.05 * number)
        shop.control_plane.kill()
        if number % 2:
            shop.stripe.kill()
            shop.stripe.start()
        shop.control_plane.restart()
    eventually(lambda: settled(shop))
    assert stripes(shop, buyer, "tailcut_invocations") - before == 111_111


def test_usage_added_from_many_sides_at_once_is_counted_once(either_shop: Shop) -> None:
    """Hours are closed, in revisions, while eight writers add to them: each unit is in exactly one."""
    shop = either_shop
    tenant = shop.control_plane.new_tenant("many-sides")
    shop.purchase(tenant, "pro")

    async def add(database: Database) -> None:
        async def one(number: int) -> None:
            for part in range(6):
                async with database.writing() as session:
                    hours = (used(tenant, hour_ago(2 + (number + part) % 3), cpu_us=1_700, invocations=3),)
                    await hourly.add(session, hours)

        await asyncio.gather(*(one(number) for number in range(8)))

    with_database(shop, add)
    eventually(lambda: settled(shop))
    assert stripes(shop, tenant, "tailcut_invocations") == 8 * 6 * 3
    assert stripes(shop, tenant, "tailcut_cpu_ms") == 8 * 6 * 1_700 // 1_000
    [(raw,)] = shop.sql("SELECT sum(raw) FROM meter_events WHERE meter = 'invocations' AND tenant_id = ?", tenant.id)
    assert int(raw) == 8 * 6 * 3


def test_what_was_sent_long_ago_is_looked_up_before_it_is_sent_again(shop: Shop, buyer: Tenant) -> None:
    """The answer was lost, and Stripe has forgotten the identifier: its sum for the hour decides."""
    before = stripes(shop, buyer, "tailcut_invocations")
    arrived, lost = hour_ago(50), hour_ago(51)
    use(shop, used(buyer, arrived, invocations=5), used(buyer, lost, invocations=7))
    eventually(lambda: settled(shop))
    shop.control_plane.kill()
    with_stripe_sql(shop, "DELETE FROM meter_events WHERE at >= ? AND at < ?", lost)
    with_stripe_sql(shop, "DELETE FROM state WHERE name LIKE 'identifier %' OR 0 = ? + ?", lost)
    shop.sql(
        "UPDATE meter_events SET state = 'sending', sending_since = ? WHERE hour IN (?, ?) AND meter = 'invocations'",
        *(f"{when:%Y-%m-%d %H:%M:%S}.000000" for when in (hour_ago(30), arrived, lost)),
    )
    shop.control_plane.restart()
    eventually(lambda: settled(shop))
    assert stripes(shop, buyer, "tailcut_invocations") - before == 12
    assert shop.sql("SELECT count(*) FROM meter_events WHERE state = 'ambiguous'") == [(0,)]


def with_stripe_sql(shop: Shop, query: str, hour: datetime) -> None:
    import sqlite3

    with sqlite3.connect(shop.stripe.file, timeout=30) as found:
        found.execute(query, (int(hour.timestamp()), int(hour.timestamp()) + 3600))


def test_events_that_stripe_would_refuse_are_kept_and_named(shop: Shop, buyer: Tenant) -> None:
    use(shop, used(buyer, hour_ago(36 * 24)))
    eventually(lambda: settled(shop))
    [(state, error)] = shop.sql(
        "SELECT state, error FROM meter_events WHERE meter = 'invocations' AND hour < ? AND tenant_id = ?",
        f"{hour_ago(35 * 24):%Y-%m-%d %H:%M:%S}",
        buyer.id,
    )
    assert state == "refused"
    assert "35 days" in error
    found = shop.control_plane.run("stripe-reconcile")
    assert found.returncode == 3
    assert "refused" in found.stdout
    with shop.control_plane.client(shop.control_plane.operator_token) as operator:
        assert operator.get("/v1/billing").json()["meter_events"]["refused"] == 1
    shop.sql("UPDATE meter_events SET state = 'unbilled' WHERE state = 'refused'")


def test_usage_before_the_first_purchase_is_on_the_books_and_not_billed(shop: Shop) -> None:
    free = shop.control_plane.new_tenant("frugal")
    use(shop, used(free, hour_ago(2), invocations=3))
    eventually(lambda: settled(shop))
    states = shop.sql("SELECT DISTINCT state FROM meter_events WHERE tenant_id = ?", free.id)
    assert states == [("unbilled",)]


def test_the_preview_counts_usage_over_what_is_included(shop: Shop) -> None:
    tenant = shop.control_plane.new_tenant("overage")
    shop.purchase(tenant, "pro")
    customer = shop.customer(tenant)
    shop.stripe.post(
        "/v1/billing/meter_events",
        event_name="tailcut_invocations",
        identifier="overage-1",
        **{"payload[stripe_customer_id]": customer, "payload[value]": str(5_000_000 + 2_500_000)},
    )
    found = tenant.http.get("/v1/invoices/upcoming").json()
    assert found["total_minor"] == 2_900 + 75, "2.5 million over, 30 a million, and the next month"
    shop.stripe.advance(32)
    items = eventually(lambda: len(tenant.http.get("/v1/invoices").json()["items"]) == 2 and invoices(tenant))
    assert items[0]["total_minor"] == 2_975


def invoices(tenant: Tenant) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tenant.http.get("/v1/invoices").json()["items"]
    return found


# -- the simulated Stripe ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_objects_have_every_member_of_stripes_examples_and_no_other(name: str) -> None:
    assert sorted(TEMPLATES[name]) == sorted({*MEMBERS[name], "id", "object"})


def test_it_refuses_what_stripe_would_refuse(shop: Shop, buyer: Tenant) -> None:
    customer, http = shop.customer(buyer), shop.stripe.http
    meter_event = {"event_name": "tailcut_invocations", "payload[stripe_customer_id]": customer, "payload[value]": "1"}
    now = shop.stripe.post("/simulator/advance", seconds=0)["now"]
    for path, form, code, status in (
        ("/v1/customers", {"nickname": "x"}, "parameter_unknown", 400),
        ("/v1/checkout/sessions", {"mode": "subscription"}, "parameter_missing", 400),
        ("/v1/checkout/sessions", {"mode": "payment"}, "parameter_missing", 400),
        ("/v1/customers", {"metadata": "x"}, "parameter_invalid", 400),
        ("/v1/billing/meter_events", {**meter_event, "timestamp": now - 36 * 86_400}, "timestamp_too_far_in_past", 400),
        ("/v1/billing/meter_events", {**meter_event, "timestamp": now + 3_600}, "timestamp_in_future", 400),
        ("/v1/subscriptions/sub_nothing", {"cancel_at_period_end": "true"}, "resource_missing", 404),
    ):
        answer = http.post(path, data=form)
        assert (answer.status_code, answer.json()["error"].get("code")) == (status, code), (path, form, answer.text)
    first = http.post("/v1/billing/meter_events", data={**meter_event, "identifier": "once"})
    again = http.post("/v1/billing/meter_events", data={**meter_event, "identifier": "once"})
    assert (first.status_code, again.status_code) == (200, 400)
    assert "already exists" in again.json()["error"]["message"]
    assert http.get("/v1/customers/x", headers={"Authorization": "Bearer sk_wrong"}).status_code == 401
    assert http.get("/v1/nothing").status_code == 404


def test_it_repeats_answers_for_an_idempotency_key(shop: Shop) -> None:
    http, headers = shop.stripe.http, {"Idempotency-Key": "the-same"}
    first = http.post("/v1/customers", data={"name": "a"}, headers=headers)
    again = http.post("/v1/customers", data={"name": "a"}, headers=headers)
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    other = http.post("/v1/customers", data={"name": "b"}, headers=headers)
    assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")
