"""Webhooks that are forged, replayed, expired, out of order, doubled, unknown; a slow database; ``kill -9``."""

import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, permutations
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.simulated_stripe.webhooks import sign
from tests.control_plane.running import PATIENCE_S, Tenant, eventually
from tests.control_plane.stripe import WEBHOOK_SECRET, Shop

_numbers = count(1)
COMPLETED = "checkout.session.completed"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"))
    yield made
    made.stop()


@pytest.fixture
def buyer(shop: Shop) -> Iterator[Tenant]:
    tenant = new_buyer(shop)
    yield tenant
    tenant.http.close()


def new_buyer(shop: Shop) -> Tenant:
    return shop.control_plane.new_tenant(f"hooked-{next(_numbers)}")


def event(kind: str, named: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"evt_test_{next(_numbers)}_{time.time_ns()}",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "data": {"object": named},
    }


def send(
    shop: Shop,
    body: dict[str, Any] | bytes,
    *,
    secret: str = WEBHOOK_SECRET,
    at: float = 0,
    signature: str | None = None,
) -> int:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    made = sign(raw.decode(), secret, int(time.time() + at)) if signature is None else signature
    headers = {"Stripe-Signature": made} if made else {}
    url = f"{shop.control_plane.url}/webhooks/stripe"
    return httpx.post(url, content=raw, headers=headers, timeout=PATIENCE_S, trust_env=False).status_code


def purchases(shop: Shop, tenant: Tenant) -> list[str]:
    return [str(row[0]) for row in shop.sql("SELECT state FROM purchases WHERE tenant_id = ?", tenant.id)]


def state_of(shop: Shop, event_id: str) -> str:
    rows = shop.sql("SELECT state FROM stripe_events WHERE id = ?", event_id)
    return str(rows[0][0]) if rows else "not stored"


def test_forged_expired_and_future_webhooks_are_refused_and_not_stored(shop: Shop) -> None:
    body = event("customer.subscription.updated", {"customer": "cus_x", "id": "sub_x"})
    raw = json.dumps(body).encode()
    stamp = int(time.time())
    for name, status in {
        "another secret": send(shop, body, secret="whsec_other"),
        "no signature": send(shop, body, signature=""),
        "nonsense": send(shop, body, signature="nonsense"),
        "no scheme": send(shop, body, signature=f"t={stamp}"),
        "an older scheme": send(shop, body, signature=sign(raw.decode(), WEBHOOK_SECRET, stamp).replace("v1=", "v0=")),
        "another body": send(shop, raw + b" ", signature=sign(raw.decode(), WEBHOOK_SECRET, stamp)),
        "ten minutes old": send(shop, body, at=-600),
        "ten minutes ahead": send(shop, body, at=600),
        "not UTF-8": send(shop, b"\xff{}", signature=f"t={stamp},v1={'0' * 64}"),
        "no event": send(shop, {"object": "list"}),
        "no object": send(shop, b"[1]"),
    }.items():
        assert status == 400, name
    assert state_of(shop, body["id"]) == "not stored"
    # The control: the same body, signed, within the tolerance either way.
    assert send(shop, body, at=-200) == 200
    assert send(shop, body, at=200) == 200
    assert eventually(lambda: state_of(shop, body["id"]) == "ignored")


def test_what_is_unknown_is_stored_and_ignored(shop: Shop) -> None:
    unknown = event("terminal.reader.action_failed", {"id": "tmr_1"})
    nobody = event("customer.subscription.updated", {"customer": "cus_of_nobody", "id": "sub_1"})
    assert {send(shop, unknown), send(shop, nobody)} == {200}
    assert eventually(lambda: state_of(shop, unknown["id"]) == "ignored")
    assert eventually(lambda: state_of(shop, nobody["id"]) == "ignored")


def test_an_event_that_is_not_understood_fails_alone_and_can_be_replayed(shop: Shop, buyer: Tenant) -> None:
    strange = event("customer.subscription.updated", {"no": "customer"})
    assert send(shop, strange) == 200
    assert eventually(lambda: state_of(shop, strange["id"]) == "failed")
    shop.purchase(buyer, "pro")  # the others go on
    body = json.dumps({**strange, "data": {"object": {"customer": shop.customer(buyer)}}})
    shop.sql("UPDATE stripe_events SET payload = ? WHERE id = ?", body, strange["id"])
    replayed = shop.control_plane.run("stripe-replay")
    assert replayed.stdout == "1 events will be handled again\n", replayed.stderr
    assert eventually(lambda: state_of(shop, strange["id"]) == "handled")


def test_the_same_event_many_times_at_once_is_stored_and_handled_once(either_shop: Shop) -> None:
    shop, buyer = either_shop, new_buyer(either_shop)
    shop.purchase(buyer, "pro")
    body = event("customer.subscription.updated", {"customer": shop.customer(buyer), "id": "sub_1"})
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda _: send(shop, body), range(36)))
    assert set(statuses) == {200}
    assert eventually(lambda: state_of(shop, body["id"]) == "handled")
    assert send(shop, body) == 200, "replayed later, within the tolerance"
    assert shop.sql("SELECT attempts FROM stripe_events WHERE id = ?", body["id"]) == [(1,)]
    assert buyer.http.get("/v1/subscription").json()["tier"] == "pro"


def test_events_in_every_order_lead_to_the_present_state(either_shop: Shop) -> None:
    """Old payloads, in each order of three; what Stripe says now is what counts."""
    shop, buyer = either_shop, new_buyer(either_shop)
    shop.purchase(buyer, "pro")
    customer = shop.customer(buyer)
    [subscription] = shop.stripe.get("/v1/subscriptions", customer=customer)["data"]
    bodies = [
        ("customer.subscription.created", {**subscription, "status": "incomplete"}),
        ("customer.subscription.updated", {**subscription, "status": "past_due"}),
        ("customer.subscription.deleted", {**subscription, "status": "canceled"}),
    ]
    sent = []
    for order in permutations(bodies):
        for kind, named in order:
            body = event(kind, named)
            assert send(shop, body) == 200
            sent.append(body["id"])
    assert eventually(lambda: all(state_of(shop, event_id) == "handled" for event_id in sent))
    held = buyer.http.get("/v1/subscription").json()
    assert (held["tier"], held["status"]) == ("pro", "active")
    # The control: when Stripe's own state changes, one event is enough.
    shop.stripe.http.delete(f"/v1/subscriptions/{subscription['id']}")
    assert shop.wait(buyer, lambda held: held["tier"] == "free")["status"] == "canceled"


def test_a_checkout_that_is_pressed_and_told_of_many_times_at_once_is_bought_once(either_shop: Shop) -> None:
    """Purchases, their rows and the copy of the invoice are unique, whoever comes first."""
    shop, buyer = either_shop, new_buyer(either_shop)
    with ThreadPoolExecutor(6) as pool:
        # Two offers at once may collide (409): then nothing was offered, and the other stands.
        answers = list(pool.map(lambda _: buyer.http.post("/v1/subscription/checkout", json={"tier": "pro"}), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 409, 503}, [answer.text for answer in answers]
    offer = shop.buy(buyer, "pro")
    with ThreadPoolExecutor(6) as pool:
        pressed = list(pool.map(lambda _: shop.stripe.press(offer["url"], "pay").status_code, range(6)))
    assert set(pressed) == {303}
    [session] = [each for each in shop.stripe.get("/v1/events", limit=100)["data"] if each["type"] == COMPLETED
                 and each["data"]["object"]["customer"] == shop.customer(buyer)]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: send(shop, {**session, "id": f"{session['id']}_{_}"}), range(16))) == {200}
    shop.wait(buyer, lambda held: held["tier"] == "pro")
    assert eventually(lambda: shop.events().get("stored", 0) == 0)
    assert shop.events().get("failed", 0) == 0
    assert purchases(shop, buyer).count("completed") == 1
    assert len(shop.stripe.get("/v1/subscriptions", customer=shop.customer(buyer))["data"]) == 1
    assert eventually(lambda: len(buyer.http.get("/v1/invoices").json()["items"]) == 1)


def test_a_database_that_is_busy_delays_and_loses_nothing(shop: Shop, buyer: Tenant) -> None:
    offer = shop.buy(buyer, "pro")
    path = shop.control_plane.data_dir / "control-plane" / "database.sqlite"
    blocker = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    release = threading.Timer(3, lambda: blocker.execute("ROLLBACK"))
    release.start()
    assert shop.stripe.press(offer["url"], "pay").status_code == 303
    held = shop.wait(buyer, lambda held: held["tier"] == "pro")
    release.join()
    blocker.close()
    assert held["status"] == "active"
    assert eventually(lambda: shop.events().get("stored", 0) == 0)
    assert shop.events().get("failed", 0) == 0


def test_stripe_away_postpones_and_loses_nothing(shop: Shop, buyer: Tenant) -> None:
    shop.purchase(buyer, "pro")
    customer = shop.customer(buyer)
    shop.stripe.kill()
    body = event("customer.subscription.updated", {"customer": customer, "id": "sub_1"})
    assert send(shop, body) == 200, "stored, though Stripe cannot be asked"
    refused = buyer.http.post("/v1/subscription/portal")
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (503, "payment-provider-away")
    assert buyer.http.get("/v1/subscription").json()["tier"] == "pro"
    shop.stripe.start()
    assert eventually(lambda: state_of(shop, body["id"]) == "handled")


@pytest.mark.parametrize("pause_ms", [0, 15, 60, 150])
def test_kill_minus_9_while_a_purchase_is_handled(shop: Shop, buyer: Tenant, pause_ms: int) -> None:
    """Killed at some moment after the payment, started again: bought once, in force, each event handled once."""
    failed_before = shop.events().get("failed", 0)
    offer = shop.buy(buyer, "scale")
    assert shop.stripe.press(offer["url"], "pay").status_code == 303
    time.sleep(pause_ms / 1000)
    shop.control_plane.kill()
    shop.control_plane.restart()
    assert shop.wait(buyer, lambda held: held["tier"] == "scale")["status"] == "active"
    assert eventually(lambda: purchases(shop, buyer) == ["completed"])
    assert eventually(lambda: shop.events().get("stored", 0) == 0)
    assert shop.events().get("failed", 0) == failed_before
    assert len(shop.stripe.get("/v1/subscriptions", customer=shop.customer(buyer))["data"]) == 1


@pytest.mark.parametrize("pause_ms", [5, 25])
def test_kill_minus_9_while_an_offer_is_made(shop: Shop, buyer: Tenant, pause_ms: int) -> None:
    """Killed between the steps that lead to the offer: asked again there is one customer and one open offer."""
    timer = threading.Timer(pause_ms / 1000, lambda: os.kill(shop.control_plane.process.pid, signal.SIGKILL))
    timer.start()
    with contextlib.suppress(httpx.TransportError):
        buyer.http.post("/v1/subscription/checkout", json={"tier": "pro"})
    timer.join()
    shop.control_plane.process.wait()
    shop.control_plane.restart()
    shop.purchase(buyer, "pro")
    with sqlite3.connect(shop.stripe.file, timeout=30) as found:
        [[customers]] = found.execute(
            "SELECT count(*) FROM objects WHERE kind = 'customer' AND body LIKE ?", (f"%{buyer.id}%",)
        ).fetchall()
    assert customers == 1
    assert len(shop.stripe.get("/v1/subscriptions", customer=shop.customer(buyer))["data"]) == 1
    states = eventually(lambda: "completed" in purchases(shop, buyer) and purchases(shop, buyer))
    assert sorted(set(states) - {"expired", "failed"}) == ["completed"]
    assert states.count("completed") == 1


def test_webhooks_that_never_came_are_found(tmp_path: Path) -> None:
    """The control plane was away for longer than Stripe tries: open offers are looked up. One that Stripe does not
    know, the first of them, does not stand before the others."""
    shop = Shop(tmp_path)
    try:
        gone = shop.control_plane.new_tenant("gone")
        shop.buy(gone, "pro")
        buyer = shop.control_plane.new_tenant("patient")
        offer = shop.buy(buyer, "pro")
        shop.control_plane.kill()
        assert shop.stripe.press(offer["url"], "pay").status_code == 303
        with sqlite3.connect(tmp_path / "stripe" / "stripe.sqlite", timeout=30) as found:
            found.execute("DELETE FROM deliveries")
        shop.sql("UPDATE purchases SET stripe_session_id = 'cs_gone' WHERE tenant_id = ?", gone.id)
        shop.control_plane.restart()
        assert shop.wait(buyer, lambda held: held["tier"] == "pro")["status"] == "active"
    finally:
        shop.stop()
