"""Tenants that are not well: an invoice unpaid, unpaid for too long, a refund and a dispute, suspended. For ``demo``.

Each is brought there as it happens: by the simulated Stripe's clock, a card that declines, its retries that end, a
cardholder's dispute, the operator; all but the last by signed webhooks. Nothing is written into SQL from here.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from tests.browser.customer import Customer
from tests.control_plane.usage_feed import Call, Feed
from tests.support.server import HANG_S, bundle

STATES: Final = ("overdue", "unpaid", "disputed", "suspended")
"""Names of the tenants; the owner of each is that name at example.com."""
DAYS: Final = 33
"""Ago they bought: their first month has ended, that of ``demo`` has not."""
_REASON: Final = "Mails sent from your function are reported as unwanted. Write to abuse@example.com."
_SOURCE: Final = "def handler(name: str = 'world') -> dict:\n    return {'hello': name}\n"


def bring_about(customer: Customer, stripe: Callable[..., Any], feed: Feed) -> None:
    """``stripe``: (path, form) → the simulated Stripe's answer."""
    people = {name: _sign_up(customer, name) for name in STATES}
    stripe("/simulator/advance", seconds=-DAYS * 86_400)
    customers = {name: _buy(customer, person, stripe) for name, person in people.items()}
    for name in ("overdue", "unpaid"):
        stripe("/simulator/card", customer=customers[name], pays="false")
    stripe("/simulator/advance", seconds=DAYS * 86_400)
    for name in ("overdue", "unpaid"):
        _wait(customer, people[name], "past_due")
    given_up = stripe("/v1/subscriptions", customer=customers["unpaid"])["data"][0]
    stripe("/simulator/give-up", subscription=given_up["id"])
    charge = stripe("/v1/charges", customer=customers["disputed"])["data"][-1]["id"]
    stripe("/v1/refunds", charge=charge, amount=500, reason="requested_by_customer")
    stripe("/simulator/dispute", charge=charge, reason="fraudulent")
    _wait(customer, people["unpaid"], "unpaid")
    for name, person in people.items():
        _calls(customer, person, feed)
        if name == "suspended":
            _suspend(customer, person)


def _sign_up(customer: Customer, name: str) -> httpx.Client:
    token = customer.sign_up(f"{name}@example.com", f"{name.title()} Owner", tenant=name)
    headers = {"Authorization": f"Bearer {token}", "Tailcut-Tenant": name}
    return httpx.Client(base_url=customer.server.control_plane_url, headers=headers, timeout=HANG_S, trust_env=False)


def _buy(customer: Customer, person: httpx.Client, stripe: Callable[..., Any]) -> str:
    """Pro, paid. → Stripe's customer"""

    def offered() -> str:
        answer = person.post("/v1/subscription/checkout", json={"tier": "pro"})
        return str(answer.json()["url"]) if answer.is_success else ""

    url = customer.server.wait_for(offered, what="prices in the simulated Stripe")
    assert httpx.post(url, data={"action": "pay"}, timeout=HANG_S, trust_env=False).status_code == 303
    _wait(customer, person, "active", tier="pro")
    return str(stripe(f"/v1/checkout/sessions/{url.rpartition('/')[2]}")["customer"])


def _wait(customer: Customer, person: httpx.Client, status: str, tier: str = "") -> None:
    def holds() -> bool:
        held = customer.done(person.get("/v1/subscription"))
        return held["status"] == status and (not tier or held["tier"] == tier)

    customer.server.wait_for(holds, what=f"a subscription that is {status}")


def _calls(customer: Customer, person: httpx.Client, feed: Feed) -> None:
    """So that the overview shows what it shows of a tenant that works."""
    files = {"bundle": ("bundle.zip", bundle({"main.py": _SOURCE}), "application/zip")}
    version = customer.done(person.post("/v1/functions/greeter/versions", files=files))["version"]
    chance, until = random.Random(5), datetime.now(UTC)
    feed.send(
        [
            Call(version, until - timedelta(minutes=minute, seconds=20), wall_us=chance.randrange(4_000, 14_000))
            for minute in range(58)
            for _ in range(chance.randrange(4, 12))
        ]
    )

    def booked() -> bool:
        query = {"since": (until - timedelta(hours=2)).isoformat(), "until": until.isoformat(), "step": "hour"}
        return any(point["calls"] for point in customer.done(person.get("/v1/usage/series", params=query))["items"])

    customer.server.wait_for(booked, what="its calls in the books")


def _suspend(customer: Customer, person: httpx.Client) -> None:
    tenant = customer.done(person.get("/v1/tenant"))["id"]
    machine = {"Authorization": f"Bearer {(customer.server.data_dir / 'operator-token').read_text().strip()}"}
    body = {"status": "suspended", "reason": _REASON}
    with httpx.Client(base_url=customer.server.control_plane_url, timeout=HANG_S, trust_env=False) as operator:
        customer.done(operator.patch(f"/v1/tenants/{tenant}", json=body, headers=machine))
