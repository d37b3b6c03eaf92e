"""A believable tenant for the screenshots: members, keys, functions, a month of usage, a subscription, an invoice.

Everything is made as a customer makes it (sign-up, invitations, uploads, the simulated checkout), but for the past:
usage of the last thirty days is sent as a gateway sends it, in records on a Redis stream, and booked by the control
plane. Nothing is written into SQL from here.
"""

import json
import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.browser import states
from tests.browser.customer import PASSWORD as PASSWORD
from tests.browser.customer import Customer
from tests.control_plane.running import Valkey
from tests.control_plane.usage_feed import Call, Feed
from tests.support.server import HANG_S, Server

EMAIL = "ada@example.com"
NEWCOMER = "emmy@example.com"
TENANT = "acme"
DAYS = 30
PAID_DAYS = 12
_SEED = 20
FUNCTIONS = {
    "invoice": '''
"""Makes an invoice of an order."""
from typing import TypedDict


class Line(TypedDict):
    article: str
    quantity: int
    price_minor: int


def handler(customer: str = "C-1815", lines: list[Line] | None = None) -> dict:
    total = sum(line["quantity"] * line["price_minor"] for line in lines or [])
    print(f"invoice for {customer}: {total}")
    return {"customer": customer, "total_minor": total, "currency": "usd"}
''',
    "thumbnail": '''
"""Says what a picture of that size becomes."""


def handler(width: int = 1600, height: int = 1200, edge: int = 320) -> dict:
    scale = edge / max(width, height)
    return {"width": round(width * scale), "height": round(height * scale)}
''',
    "webhook": '''
"""Takes what the shop sends and says what it understood."""
import json

import tailcut


def handler(request: tailcut.Request) -> dict:
    event = request.json() if request.body else {}
    print(json.dumps({"seen": event.get("type", "nothing")}))
    return {"seen": event.get("type", "nothing")}
''',
    "report": '''
"""Sums up a day's orders."""


def handler(day: str = "2026-11-22", orders: list[int] | None = None) -> dict:
    if day == "never":
        raise ValueError("a day looks like 2026-11-22")
    return {"day": day, "orders": len(orders or []), "sum_minor": sum(orders or [])}
''',
}
_SHAPES = {
    # Calls on a busy hour; then CPU, wall-clock time (µs) and memory (MiB) of an ordinary one, and how often it fails.
    "invoice": (18, 4_200, 9_000, 31, 0.004),
    "thumbnail": (9, 62_000, 70_000, 118, 0.001),
    "webhook": (26, 900, 1_900, 24, 0.012),
    "report": (6, 7_400_000, 8_100_000, 430, 0.01),
}


class Demo(Customer):
    """The tenant ``acme`` and who owns it, with a past."""

    def __init__(self, server: Server, valkey: Valkey) -> None:
        super().__init__(server, EMAIL, "Ada Lovelace", TENANT, FUNCTIONS)
        self._feed = Feed(valkey)
        states.bring_about(self, self._stripe, Feed(valkey))
        self._random = random.Random(_SEED)
        self._buy()
        self._past()
        self._present()
        self.sign_up(NEWCOMER, "Emmy Noether", tenant="noether")

    # -- usage ---------------------------------------------------------------------------------------------------------

    def _past(self) -> None:
        until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._feed.send(calls := [call for minute in range(58) for call in self._minute(minute)])
        sent = len(calls)
        for day in range(DAYS, 0, -1):
            start = until - timedelta(days=day)
            calls = [call for hour in range(24) for call in self._hour(start + timedelta(hours=hour))]
            sent += len(calls)
            self._feed.send(calls)

        def booked() -> bool:
            time.sleep(0.5)  # asking is work for who books
            query = {"since": (until - timedelta(days=DAYS + 1)).isoformat(), "until": datetime.now(UTC).isoformat()}
            hours = self.done(self.api.get("/v1/usage/series", params={**query, "step": "day"}))
            return sum(point["calls"] for point in hours["items"]) >= sent

        self.server.wait_for(booked, what=f"{sent} calls of the past in the books")

    def _minute(self, ago: int) -> Iterator[Call]:
        """Of the hour that ends now: a wave, so that the overview has something to show."""
        at = datetime.now(UTC) - timedelta(minutes=ago, seconds=20)
        for name, calls in (("invoice", 9), ("thumbnail", 5), ("webhook", 14), ("report", 1)):
            wave = 0.6 + 0.4 * math.sin(ago / 9) + self._random.uniform(-0.15, 0.15)
            for _ in range(round(calls * wave)):
                yield self._call(name, at - timedelta(seconds=self._random.uniform(0, 30)), *_SHAPES[name][1:])

    def _hour(self, start: datetime) -> Iterator[Call]:
        """Busier by day than by night, and on working days than on others."""
        busy = 0.35 + 0.65 * max(0.0, math.sin((start.hour - 6) / 24 * 2 * math.pi))
        if start.weekday() > 4:
            busy *= 0.45
        for name, shape in _SHAPES.items():
            for _ in range(round(shape[0] * busy * self._random.uniform(0.6, 1.3) / 3)):
                at = start + timedelta(seconds=self._random.uniform(0, 3599))
                yield self._call(name, at, *shape[1:])

    def _call(self, name: str, at: datetime, cpu_us: int, wall_us: int, memory_mib: int, failing: float) -> Call:
        stretch = self._random.lognormvariate(0, 0.35)
        stretch = min(stretch, 8_400_000 / cpu_us, 18_000_000 / wall_us)  # the tier cuts longer ones off
        fails = self._random.random() < failing
        outcome = self._random.choice(["function_error", "function_error", "timeout"]) if fails else "ok"
        return Call(
            self.versions[name],
            at,
            outcome=outcome,
            status={"ok": 200, "function_error": 500, "timeout": 504}[outcome],
            cold=self._random.random() < 0.01,
            queue_us=round(self._random.lognormvariate(3.5, 0.8)),
            wall_us=20_000_000 if outcome == "timeout" else round(wall_us * stretch),
            cpu_us=round(cpu_us * stretch),
            memory_bytes=round(memory_mib * 2**20 * self._random.uniform(0.85, 1.12)),
            request_bytes=self._random.randrange(80, 900),
            response_bytes=self._random.randrange(60, 4000),
        )

    def _present(self) -> None:
        """Some real calls: they write logs, and the last minutes are not empty."""
        with httpx.Client(timeout=HANG_S, trust_env=False) as caller:
            headers = {"Authorization": f"Bearer {self.key}"}

            def call(name: str, **arguments: Any) -> int:
                url = f"{self.server.gateway_url}/{TENANT}/{name}"
                return caller.post(url, json=arguments, headers=headers).status_code

            for name in FUNCTIONS:
                self.server.wait_for(lambda name=name: call(name) == 200, what=f"{name} served")
            for number in range(12):
                line = {"article": "boat", "quantity": number + 1, "price_minor": 4_990}
                call("invoice", customer=f"C-{1800 + number}", lines=[line])
                call("webhook", type="order.paid")
            call("report", day="never")

    # -- money ---------------------------------------------------------------------------------------------------------

    def _buy(self) -> None:
        """Twelve days ago, by the clock of the simulated Stripe: the month is in its middle."""
        self._stripe_clock(-PAID_DAYS)
        body = {"tier": "pro", "add_ons": {"concurrency": 1}}

        def offered() -> str:
            answer = self.api.post("/v1/subscription/checkout", json=body)
            return str(answer.json()["url"]) if answer.is_success else ""

        url = self.server.wait_for(offered, what="prices in the simulated Stripe")
        assert httpx.post(url, data={"action": "pay"}, timeout=HANG_S, trust_env=False).status_code == 303
        self.server.wait_for(
            lambda: self.done(self.api.get("/v1/subscription"))["tier"] == "pro", what="the tier that was paid for"
        )
        self._stripe_clock(PAID_DAYS)
        self.done(self.api.put("/v1/spend-caps/tenant", json={"amount_minor": 5_000, "action": "stop"}))
        self.done(self.api.put("/v1/spend-caps/functions/report", json={"amount_minor": 1_500, "action": "alert"}))

        def invoiced() -> str:
            found = self.done(self.api.get("/v1/invoices"))["items"]
            return str(found[0]["url"]) if found else ""

        self.places["invoice"] = self.server.wait_for(invoiced, what="the first invoice")

    def _stripe_clock(self, days: int) -> None:
        self._stripe("/simulator/advance", seconds=days * 86_400)

    def _stripe(self, path: str, **form: Any) -> Any:
        """GET what is only looked at: lists, and what has an id."""
        known = json.loads((self.server.data_dir / "simulated-stripe" / "settings.json").read_text())
        looks = path.startswith(("/v1/subscriptions", "/v1/charges", "/v1/checkout/"))
        request = httpx.Request(
            "GET" if looks else "POST",
            f"http://127.0.0.1:{known['port']}{path}",
            headers={"Authorization": f"Bearer {known['api_key']}"},
            **({"params": form} if looks else {"data": form}),
        )
        with httpx.Client(timeout=HANG_S, trust_env=False) as client:
            return self.done(client.send(request))
