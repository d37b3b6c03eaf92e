"""A believable tenant for the screenshots: members, keys, functions, a month of usage, a subscription, an invoice.

Everything is made as a customer makes it (sign-up, invitations, uploads, the simulated checkout), but for the past:
usage of the last thirty days is sent as a gateway sends it, in records on a Redis stream, and booked by the control
plane. Nothing is written into SQL from here.
"""

import json
import math
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.browser.conftest import mailed_link
from tests.control_plane.running import Valkey
from tests.control_plane.usage_feed import Call, Feed
from tests.support.server import HANG_S, Server, bundle

EMAIL = "ada@example.com"
PASSWORD = "seven wooden boats"
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


class Demo:
    """The tenant ``acme`` and who owns it."""

    def __init__(self, server: Server, valkey: Valkey) -> None:
        self.server = server
        self._feed = Feed(valkey)
        self._random = random.Random(_SEED)
        owner = self._sign_up(EMAIL, "Ada Lovelace", tenant=TENANT)
        self.api = self._client(owner)
        self._members()
        self.versions = {name: self._deploy(name, source) for name, source in FUNCTIONS.items()}
        self.key = self._keys()
        self._buy()
        self._past()
        self._present()

    def _client(self, token: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}", "Tailcut-Tenant": TENANT}
        return httpx.Client(base_url=self.server.control_plane_url, headers=headers, timeout=HANG_S, trust_env=False)

    def _done(self, answer: httpx.Response) -> Any:
        assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def _sign_up(self, email: str, name: str, *, tenant: str) -> str:
        with self._client("") as anybody:
            del anybody.headers["Authorization"]
            self._done(anybody.post("/v1/sign-up", json={"email": email, "tenant": tenant}))
            token = re.sub(r".*token=", "", mailed_link(self.server, email))
            form = {"token": token, "password": PASSWORD, "name": name}
            return str(self._done(anybody.post("/v1/sign-up/finish", json=form))["token"])

    def _members(self) -> None:
        for email, role, joins in (
            ("grace@example.com", "admin", "Grace Hopper"),
            ("edsger@example.com", "developer", "Edsger Dijkstra"),
            ("accounts@example.com", "billing", ""),
        ):
            self._done(self.api.post("/v1/invitations", json={"email": email, "role": role}))
            if joins:
                token = re.sub(r".*token=", "", mailed_link(self.server, email))
                with self._client("") as anybody:
                    del anybody.headers["Authorization"]
                    form = {"token": token, "password": PASSWORD, "name": joins}
                    self._done(anybody.post("/v1/invitations/finish", json=form))

    def _deploy(self, name: str, source: str) -> str:
        files = {"bundle": ("bundle.zip", bundle({"main.py": source}), "application/zip")}
        data = {"public": "true" if name == "webhook" else "false"}
        return str(self._done(self.api.post(f"/v1/functions/{name}/versions", files=files, data=data))["version"])

    def _keys(self) -> str:
        made = ""
        for name, scopes in (("shop website", ["invoke"]), ("deployments", ["deploy"]), ("old script", ["read"])):
            key = self._done(self.api.post("/v1/keys", json={"name": name, "scopes": scopes}))
            made = made or str(key["token"])
            if name == "old script":
                self._done(self.api.delete(f"/v1/keys/{key['id']}"))
        return made

    # -- usage ---------------------------------------------------------------------------------------------------------

    def _past(self) -> None:
        until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        sent = 0
        for back in range(DAYS * 24, 0, -1):
            calls = list(self._hour(until - timedelta(hours=back)))
            sent += len(calls)
            if calls:
                self._feed.send(calls)

        def booked() -> bool:
            query = {"since": (until - timedelta(days=DAYS + 1)).isoformat(), "until": until.isoformat()}
            hours = self._done(self.api.get("/v1/usage/series", params={**query, "step": "day"}))
            return sum(point["calls"] for point in hours["items"]) >= sent

        self.server.wait_for(booked, what=f"{sent} calls of the past in the books")

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
        stretch = min(stretch, 9_800_000 / cpu_us, 18_000_000 / wall_us)  # the tier cuts longer ones off
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
            lambda: self._done(self.api.get("/v1/subscription"))["tier"] == "pro", what="the tier that was paid for"
        )
        self._stripe_clock(PAID_DAYS)
        self._done(self.api.put("/v1/spend-caps/tenant", json={"amount_minor": 5_000, "action": "stop"}))
        self._done(self.api.put("/v1/spend-caps/functions/report", json={"amount_minor": 1_500, "action": "alert"}))
        self.server.wait_for(lambda: self._done(self.api.get("/v1/invoices"))["items"], what="the first invoice")

    def _stripe_clock(self, days: int) -> None:
        known = json.loads((self.server.data_dir / "simulated-stripe" / "settings.json").read_text())
        answer = httpx.post(
            f"http://127.0.0.1:{known['port']}/simulator/advance",
            data={"seconds": days * 86_400},
            headers={"Authorization": f"Bearer {known['api_key']}"},
            timeout=HANG_S,
            trust_env=False,
        )
        self._done(answer)
